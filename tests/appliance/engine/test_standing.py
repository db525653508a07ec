"""What the gateway tells an engine about a request is read as it was written."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from appliance.engine.standing import Standing, from_headers, may_wait, to_headers
from appliance.gateway.call import CHAT, Call
from bundler.format.service import CRITICALITIES, RouteSpec


@given(
    priority=st.integers(-3, 3),
    tenant=st.text(st.characters(codec="ascii", categories=("L", "N")), max_size=20),
    milliseconds=st.none() | st.integers(0, 10**7),
    public=st.integers(0, 5),
)
def test_what_is_written_is_read(priority: int, tenant: str, milliseconds: int | None, public: int) -> None:
    """Every standing comes back as it was, to the millisecond."""
    deadline_s = math.inf if milliseconds is None else milliseconds / 1000
    read = from_headers(to_headers(Standing(priority, tenant, deadline_s, public)))
    assert (read.priority, read.tenant, read.public_messages) == (priority, tenant, public)
    assert read.deadline_s == pytest.approx(deadline_s, abs=0.0011)
    assert read.deadline_s <= deadline_s


def test_nothing_said_is_no_deadline() -> None:
    """A client without the gateway has no standing, and header names have no case."""
    assert from_headers({}) == Standing()
    assert from_headers(CIMultiDict({"x-lifeboat-priority": "1"})).priority == 1
    with pytest.raises(ValueError, match="invalid literal"):
        from_headers({"X-Lifeboat-Priority": "first"})


@pytest.mark.parametrize("queue", [1, 2, 8, 32, 10_000])
@pytest.mark.parametrize("flex", [False, True])
def test_a_crowd_of_what_can_be_done_without_keeps_nobody_out(queue: int, flex: bool) -> None:
    """Room for normal requests is left by convenient ones, and room for critical ones by all others."""
    room = {}
    for criticality in CRITICALITIES:
        words = {"wire": CHAT, "question": "", "stream": False, "model": "m", "needs": frozenset(), "ignorable": ()}
        body = {"service_tier": "flex"} if flex else {}
        route = RouteSpec("m", ("m",), criticality=criticality)
        room[criticality] = may_wait(queue, Call(**words, body=body, deadline_s=1.0, route=route).priority)  # type: ignore[arg-type]
    assert room["convenience"] < room["normal"] == queue < room["critical"]
