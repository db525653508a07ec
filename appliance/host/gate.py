"""Lets a version take what comes only after its models have answered on this box, beside what serves or instead of it.

Models that serve already have proved themselves. Where memory does not hold an old model and a new one, the old one
ends first, and the other rungs answer until the new one does; where that fails, the old one comes back.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import Collection

from appliance.answer.answering import engine_target
from appliance.engine.parent import Engine
from appliance.gateway.outcome import Failed
from appliance.gateway.upstream import Client, read_whole

ASKED, TOKENS = 5, 32
_ASK_S = 120.0
_PROMPT = "Say in one sentence what a lifeboat is for."
MODEL_MS = 60_000


class NotProved(Exception):
    """A version does not answer as it must; the message says which part and what came.

    Attributes:
        short: It had not the memory.
    """

    def __init__(self, fact: str, *, short: bool = False) -> None:
        super().__init__(fact)
        self.short = short


async def proved(fresh: Collection[Engine], leaving: Collection[Engine], limit_ms: int = MODEL_MS) -> list[str]:
    """Starts the new models of a version and asks them.

    Args:
        fresh: Those that no serving version uses.
        leaving: Those that only the serving version uses: they end first where memory asks for it.
        limit_ms: The longest median of an answer of TOKENS tokens, in milliseconds.

    Returns:
        A line for each.

    Raises:
        NotProved: One does not answer, or not in time; the engines that were to leave run again.
    """
    ended: list[Engine] = []
    try:
        return [await _one(engine, leaving, ended, limit_ms) for engine in fresh]
    except BaseException:
        await asyncio.gather(*(engine.stop() for engine in fresh if not engine.over))
        for engine in ended:
            engine.start_soon()
        raise


async def _one(engine: Engine, leaving: Collection[Engine], ended: list[Engine], limit_ms: int) -> str:
    await engine.start()
    if engine.short and (holding := [other for other in leaving if other not in ended]):
        await engine.stop()
        ended += holding
        await asyncio.gather(*(other.stop() for other in holding))
        await engine.start()
    name = engine.spec.name
    if engine.state == "missing":
        return f"model {name}: not tested, {engine.reason}"
    if engine.state != "ready":
        raise NotProved(f"model {name}: {engine.reason}", short=engine.short)
    return f"model {name}: answers, {await median_ms(engine, limit_ms):.0f} ms for {TOKENS} tokens"


async def median_ms(engine: Engine, limit_ms: int) -> float:
    """Returns how long an answer takes: the median of five after one to warm up.

    Raises:
        NotProved: It fails, says nothing, or takes longer than `limit_ms`.
    """
    name, taken = engine.spec.name, []
    try:
        async with Client(engine_target(engine.spec, engine, _ASK_S)) as client:
            for _ in range(1 + ASKED):
                began = time.monotonic()
                if not await _answer(client):
                    raise NotProved(f"model {name}: an empty answer")
                taken.append((time.monotonic() - began) * 1000)
    except Failed as failure:
        raise NotProved(f"model {name}: {failure}") from failure
    found = statistics.median(taken[1:])
    if found > limit_ms:
        raise NotProved(f"model {name}: {TOKENS} tokens take {found:.0f} ms, at most {limit_ms} are allowed")
    return found


async def _answer(client: Client) -> str:
    body = {"messages": [{"role": "user", "content": _PROMPT}], "max_tokens": TOKENS}
    response = await client.post("/chat/completions", body)
    value = json.loads(await read_whole(response))
    return str(value["choices"][0]["message"]["content"]).strip()
