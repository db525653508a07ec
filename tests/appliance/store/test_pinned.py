"""Whose software a machine takes is noted where the service's user cannot write."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from appliance.store.pinned import NAME, PinnedRoot
from bundler.format.errors import BadInput, UnknownRoot
from bundler.format.trust.medium import load_repository
from bundler.format.trust.verify import TrustedRepository
from bundler.repository.roots import Change, Roots, changed_root
from bundler.repository.rotation import take_root

NOW, QUICK = datetime(2026, 11, 21, 12, tzinfo=UTC), 10


def trusted(customer: Any) -> TrustedRepository:
    """The metadata as a state sees it that knows this very customer's root."""
    publisher = customer.publisher
    return load_repository(publisher.folder, root=publisher.first_root(), repository=None, now=NOW, remembered=None)


def pinned(customer: Any, folder: Path) -> PinnedRoot:
    return PinnedRoot(folder, NOW)


def test_the_first_root_is_kept_and_follows_a_rotation(customer: Any, tmp_path: Path) -> None:
    """So that a root key that was stolen and replaced brings no software either."""
    opt, first = tmp_path / "opt", trusted(customer)
    assert pinned(customer, opt).vouched(customer.medium, first) is first
    assert (opt / NAME).read_bytes() == first.root
    roots, ring = Roots(customer.ring.home), customer.ring
    change = Change("root", [ring.new_key("root-new", QUICK)], [ring.public("root").keyid])
    take_root(changed_root(roots.newest(), [change], NOW), ring, roots, None, NOW)
    customer.publisher.resign()
    vouched = pinned(customer, opt).vouched(customer.medium, trusted(customer))
    assert vouched.root_version == 2
    assert (opt / NAME).read_bytes() == vouched.root


def test_a_root_that_was_put_into_the_state_brings_no_software(customer: Any, tmp_path: Path) -> None:
    """Whoever faces the network may write the state, and have a stick of their own put in."""
    opt = tmp_path / "opt"
    pinned(customer, opt).vouched(customer.medium, trusted(customer))
    thief = type(customer)(tmp_path / "thief")
    thief.root.mkdir()
    thief.make()
    with pytest.raises(UnknownRoot, match="not signed by whom"):
        pinned(customer, opt).vouched(thief.medium, trusted(thief))
    assert (opt / NAME).read_bytes() == trusted(customer).root


def test_a_disk_that_fails_is_told_as_such(customer: Any, tmp_path: Path) -> None:
    """And no reason to take another root."""
    opt = tmp_path / "opt"
    pinned(customer, opt).vouched(customer.medium, trusted(customer))
    (opt / NAME).write_bytes(b"")
    with pytest.raises((UnknownRoot, BadInput)):
        pinned(customer, opt).vouched(customer.medium, trusted(customer))
