"""Lets a version take what comes only after its models have answered on this box, beside what serves or instead of it.

Models that serve already have proved themselves. Where memory does not hold an old model and a new one, the old one
ends first, and the other rungs answer until the new one does; where that fails, the old one comes back.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import Collection, Mapping
from typing import Any

from appliance.answer.answering import engine_target
from appliance.engine.parent import Engine
from appliance.gateway.outcome import Failed
from appliance.gateway.upstream import Client, read_whole
from bundler.format.service import CHAT, EMBEDDING, RERANK

ASKED, TOKENS = 5, 32
_ASK_S, _LOAD_S = 120.0, 600.0
NOT_TESTED = "not tested"
_PROMPT = "Say in one sentence what a lifeboat is for."
_QUESTIONS: Mapping[str, tuple[str, dict[str, Any]]] = {
    CHAT: ("/chat/completions", {"messages": [{"role": "user", "content": _PROMPT}], "max_tokens": TOKENS}),
    EMBEDDING: ("/embeddings", {"input": _PROMPT}),
    RERANK: ("/rerank", {"query": _PROMPT, "documents": [_PROMPT]}),
}
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
    return await asked(engine, limit_ms)


async def shared_line(engine: Engine) -> str:
    """Returns a line about a model that serves the version before, too, once it has loaded."""
    await engine.settled(_LOAD_S)
    ready = engine.state == "ready"
    return f"model {engine.spec.name}: {'serves already' if ready else f'{NOT_TESTED}, {engine.state}'}"


async def asked(engine: Engine, limit_ms: int = MODEL_MS) -> str:
    """Returns a line about an engine that was started.

    Raises:
        NotProved: It is not ready, fails, says nothing, or the median of five answers after one to warm up takes longer
            than `limit_ms`.
    """
    name, taken = engine.spec.name, []
    if engine.state == "missing":
        return f"model {name}: {NOT_TESTED}, {engine.reason}"
    if engine.state != "ready":
        raise NotProved(f"model {name}: {engine.reason}", short=engine.short)
    try:
        async with Client(engine_target(engine.spec, engine, _ASK_S)) as client:
            for _ in range(1 + ASKED):
                began = time.monotonic()
                if not await _answer(client, engine.spec.serves):
                    raise NotProved(f"model {name}: an empty answer")
                taken.append((time.monotonic() - began) * 1000)
    except Failed as failure:
        raise NotProved(f"model {name}: {failure}") from failure
    found = statistics.median(taken[1:])
    if found > limit_ms:
        raise NotProved(f"model {name}: an answer takes {found:.0f} ms, at most {limit_ms} are allowed")
    return f"model {name}: answers in {found:.0f} ms"


async def _answer(client: Client, serves: str) -> str:
    """Asks what the model is there for; returns what it said, "" for nothing."""
    path, body = _QUESTIONS[serves]
    value = json.loads(await read_whole(await client.post(path, body)))
    if serves == CHAT:
        return str(value["choices"][0]["message"]["content"]).strip()
    return str(value["data"] if serves == EMBEDDING else value["results"])
