"""A field that the first version had not: absent where it says nothing new, so that older readers take the rest."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from bundler.format.errors import BadBundle
from bundler.format.index import Index, decode_index, encode_index
from bundler.format.record import LATER, from_json, to_json
from bundler.format.service import (
    LadderSpec,
    LimitsSpec,
    ModelSpec,
    OutputSpec,
    RouteSpec,
    RungSpec,
    SelftestSpec,
    Service,
    UpstreamSpec,
)

OLD = {"name": "m", "asset": "a", "digest": "d", "context_tokens": 512, "max_output_tokens": 48}


@dataclass(frozen=True)
class Noted:
    """A record with a later field that is nothing by default."""

    name: str
    note: str | None = field(default=None, metadata=LATER)


@dataclass(frozen=True)
class Listed:
    """A later field whose default is made anew each time, which the format does not take."""

    names: tuple[str, ...] = field(default_factory=tuple, metadata=LATER)


@dataclass(frozen=True)
class Needed:
    """A later field without a default, which no older bundle has."""

    name: str = field(metadata=LATER)


def test_a_chat_model_is_written_as_ever() -> None:
    """Byte for byte what an older reader knows, and read from it."""
    assert to_json(ModelSpec("m", "a", "d", 512, 48)) == OLD
    assert from_json(ModelSpec, OLD, "model").serves == "chat"


def test_another_use_is_written_and_read() -> None:
    """An older reader refuses it as a field that it does not know."""
    spec = ModelSpec("m", "a", "d", 512, 0, "rerank")
    assert to_json(spec)["serves"] == "rerank"
    assert from_json(ModelSpec, to_json(spec), "model") == spec


def test_the_default_in_words_is_refused() -> None:
    """One value has one encoding (SPEC 2.2)."""
    with pytest.raises(BadBundle, match="serves is written though it holds its default"):
        from_json(ModelSpec, OLD | {"serves": "chat"}, "model")


def test_a_use_that_is_not_known_is_refused() -> None:
    """A box does not guess what a model is there for."""
    model, ladder = ModelSpec("m", "a", "d", 512, 0, "speech"), LadderSpec((), (), (), "", "", "")
    service = Service("p", "P", (model,), None, (), (), (), (), ladder, LimitsSpec(1, 1, 1), None, ())
    with pytest.raises(BadBundle, match="the model m serves 'speech'"):
        decode_index(encode_index(Index(1, "repo", "1-0001-0123abcd", "p", (), service)), volumes=0)


def test_a_later_field_may_be_nothing_by_default() -> None:
    """Absent it holds None, and None in words is refused."""
    assert from_json(Noted, {"name": "n"}, "noted") == Noted("n")
    assert from_json(Noted, to_json(Noted("n", "x")), "noted") == Noted("n", "x")
    assert to_json(Noted("n")) == {"name": "n"}
    with pytest.raises(BadBundle, match="note is written though it holds its default"):
        from_json(Noted, {"name": "n", "note": None}, "noted")


@pytest.mark.parametrize("record", [Listed(("a",)), Needed("a")])
def test_a_later_field_has_a_plain_default(record: Any) -> None:
    """Otherwise the program is wrong, and tells so when it first writes one."""
    with pytest.raises(TypeError, match="no plain default"):
        to_json(record)


def test_limits_of_the_selftest_are_written_where_they_say_something() -> None:
    """A bundle without any is byte for byte of the first version; one with a limit is read with it (SPEC 7.3)."""
    first = {"asset": "s", "faq_percent": 1, "documents_percent": 2, "route_percent": 3, "refuse_percent": 4}
    plain = SelftestSpec("s", 1, 2, 3, 4)
    assert to_json(plain) == first
    assert from_json(SelftestSpec, first, "selftest") == plain
    bound = SelftestSpec("s", 1, 2, 3, 4, model_ms=900, memory_mb=4000)
    assert to_json(bound) == first | {"model_ms": 900, "memory_mb": 4000}
    assert from_json(SelftestSpec, to_json(bound), "selftest") == bound


UPSTREAM = UpstreamSpec("u", "https://u.example", "m", "", "", 1, 1, 1)
LADDER = LadderSpec((RungSpec("u", "upstream", "u"),), ("u",), (), "", "", "")


def _with(upstream: UpstreamSpec, *routes: RouteSpec) -> Service:
    return Service("p", "P", (), None, (), (), (), (upstream,), LADDER, LimitsSpec(1, 1, 1), None, (), routes)


def test_what_a_rung_can_is_written_where_it_is_said() -> None:
    """That it can nothing is another thing than that nothing is said."""
    assert to_json(UPSTREAM).keys().isdisjoint({"can", "context_tokens", "languages", "continues"})
    for can in ((), ("tools", "vision")):
        said = UpstreamSpec("u", "https://u.example", "m", "", "", 1, 1, 1, 8192, can, ("de",), continues=True)
        assert from_json(UpstreamSpec, to_json(said), "upstream") == said


def test_routes_are_written_where_there_are_any() -> None:
    """A bundle without them is of the first version, and an empty list in words is refused."""
    service = _with(UPSTREAM)
    assert "routes" not in to_json(service)
    with pytest.raises(BadBundle, match="routes is written though it holds its default"):
        from_json(Service, to_json(service) | {"routes": []}, "service")
    routes = (
        RouteSpec("a", ("u",)),
        RouteSpec("b", ("u",), "hold", output=OutputSpec("", ("de",), (), own_model=False)),
    )
    index = Index(1, "repo", "1-0001-0123abcd", "p", (), _with(UPSTREAM, *routes))
    assert decode_index(encode_index(index), volumes=0).service.routes == routes
    assert to_json(routes[0]) == {"name": "a", "rungs": ["u"]}


@pytest.mark.parametrize(
    ("service", "reason"),
    [
        (_with(UPSTREAM, RouteSpec("r", ("u",), "splice")), "the route r says 'splice'"),
        (_with(UPSTREAM, RouteSpec("r", ("u",), criticality="x")), "the route r says 'x'"),
        (_with(UPSTREAM, RouteSpec("r", ("u",), too_long="y")), "the route r says 'y'"),
        (_with(UPSTREAM, RouteSpec("r", ("gone",))), "names the rung 'gone'"),
        (_with(UpstreamSpec("u", "https://u.example", "m", "", "", 1, 1, 1, can=("fly",))), "can 'fly'"),
        (
            _with(replace(UPSTREAM, kind="telex")),
            "of an unknown kind, 'telex'",
        ),
    ],
)
def test_a_word_of_a_route_that_is_not_known_is_refused(service: Service, reason: str) -> None:
    """A box does not take it for the default."""
    with pytest.raises(BadBundle, match=reason):
        decode_index(encode_index(Index(1, "repo", "1-0001-0123abcd", "p", (), service)), volumes=0)
