"""What a bundle says to boxes is compared field by field, also where only one of two says something."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bundler.difference import compare
from bundler.format.index import Index
from bundler.format.manifest import Descriptor, FileDigest
from bundler.format.service import LadderSpec, LimitsSpec, RouteSpec, Service
from bundler.repository.reuse import Earlier

LADDER = LadderSpec((), (), (), "", "", "")
PLAIN = Service("p", "P", (), None, (), (), (), (), LADDER, LimitsSpec(1, 1, 1), None, ())
ROUTED = replace(PLAIN, routes=(RouteSpec("desk", ("message",)),))
ELSEWHERE = replace(ROUTED, routes=(RouteSpec("desk", ("message",), "hold"),), title="Q")


def _bundle(service: Service) -> Earlier:
    descriptor = Descriptor(1, "age-x25519", "repo", "1-0001-0123abcd", 1, 1, "", "", FileDigest("x", 1, "a" * 64), ())
    return Earlier(descriptor, Index(1, "repo", "1-0001-0123abcd", "p", (), service))


@pytest.mark.parametrize(
    ("old", "new", "fields"),
    [
        (PLAIN, PLAIN, ()),
        (PLAIN, ROUTED, ("routes",)),
        (ROUTED, PLAIN, ("routes",)),
        (ROUTED, ELSEWHERE, ("title", "routes")),
    ],
)
def test_fields_that_differ_are_named(old: Service, new: Service, fields: tuple[str, ...]) -> None:
    """A later field that one of them has not is a difference, and no fault."""
    assert compare(_bundle(old), _bundle(new), bytes.fromhex, bytes.fromhex).service == fields
