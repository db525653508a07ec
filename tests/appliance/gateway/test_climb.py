"""Leave to ask an upstream comes back, however a rung ends."""

from __future__ import annotations

import asyncio
import random
import time

import pytest

from appliance.gateway import breaker as breakers
from appliance.gateway.breaker import Breaker, Rules
from appliance.gateway.call import CHAT, Answer, Call
from appliance.gateway.climb import Climber
from appliance.gateway.health import Asking, Health, Known
from appliance.gateway.outcome import Passed
from appliance.gateway.pace import Limits
from bundler.format.service import RungSpec

HALF_OPEN = Breaker(state=breakers.HALF_OPEN, reason="it answered 503", good=1, epoch=3)
CLOUD, LOCAL = RungSpec("cloud", "upstream", "a"), RungSpec("box", "model", "m")


def _call() -> Call:
    body = {"messages": [{"role": "user", "content": "?"}]}
    return Call(CHAT, body, "?", False, "auto", frozenset(), (), time.monotonic() + 60)


async def _open(rung: RungSpec, _: Call, asking: Asking | None) -> Answer:
    if asking is not None:
        raise Passed("its context is too short", incapable=True)
    return Answer(rung.name, rung.kind, rung.name, {})


@pytest.mark.parametrize("others", [(LOCAL,), (RungSpec("words", "message", ""),)])
def test_a_rung_that_declines_its_trial_unasked_leaves_it_to_the_next_request(others: tuple[RungSpec, ...]) -> None:
    """Otherwise nobody would ever ask that upstream again."""
    known = Known("a", "m", "k", Limits(10.0, 30.0, 15.0))
    health = Health([known], Rules(), probed=True, clock=time.monotonic, chance=random.random)
    health.put("a", HALF_OPEN)
    climber = Climber([CLOUD], "", health, lambda _: "")
    for _ in range(2):
        served = asyncio.run(climber.climb(_call(), (CLOUD, *others), {}, _open))
        assert served.skips[0].reason == "its context is too short"
        assert not health.breaker("a").trial
