"""Lets a version take what comes only after its models have answered on this box, beside what serves or instead of it.

Models that serve already have proved themselves. Where memory does not hold an old model and a new one, the old one
ends first, and the other rungs answer until the new one does; where that fails, the old one comes back.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from appliance.answer.targets import engine_target
from appliance.engine.parent import Engine
from appliance.gateway.outcome import Failed
from appliance.gateway.upstream import Client, read_whole
from appliance.host.trial import NotProved
from bundler.format.service import CHAT, EMBEDDING, MODEL_MS, RERANK, Service

ASKED, TOKENS = 5, 32
_ASK_S, _LOAD_S = 120.0, 600.0
NOT_TESTED = "not tested"
_PROMPT = "Say in one sentence what a lifeboat is for."
_QUESTIONS: Mapping[str, tuple[str, dict[str, Any]]] = {
    CHAT: ("/chat/completions", {"messages": [{"role": "user", "content": _PROMPT}], "max_tokens": TOKENS}),
    EMBEDDING: ("/embeddings", {"input": _PROMPT}),
    RERANK: ("/rerank", {"query": _PROMPT, "documents": [_PROMPT]}),
}
# How long an engine that leaves may finish what it has accepted; what comes meanwhile goes to the other rungs.
FINISH_S = 60.0


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
        start_again(ended)
        raise


def start_again(engines: Iterable[Engine]) -> None:
    """Starts those again that were ended for a version that does not take over."""
    for engine in engines:
        if engine.over:
            engine.start_soon()


async def brought(fresh: Collection[Engine], leaving: Collection[Engine]) -> None:
    """Starts the models of a version that proved itself long ago: it serves with them or, for now, without."""
    ended: list[Engine] = []
    for engine in fresh:
        await _started(engine, leaving, ended)


async def _one(engine: Engine, leaving: Collection[Engine], ended: list[Engine], limit_ms: int) -> str:
    await _started(engine, leaving, ended)
    return await asked(engine, limit_ms)


async def _started(engine: Engine, leaving: Collection[Engine], ended: list[Engine]) -> None:
    """Starts an engine; where it has not the memory, or not for texts as long as before, after those that leave."""
    await engine.start()
    holding = [other for other in leaving if other not in ended]
    if holding and (engine.short or _cramped(engine, holding)):
        await engine.stop()
        ended += holding
        await asyncio.gather(*(other.drain(FINISH_S) for other in holding))
        await engine.start()


def _cramped(engine: Engine, leaving: Collection[Engine]) -> bool:
    """Whether a model takes shorter texts than its profile says only because those that leave are still there."""
    before = max((other.fit.plan.context_tokens for other in leaving if other.fit is not None), default=0)
    wanted = min(engine.spec.context_tokens, before)
    return engine.fit is not None and engine.fit.plan.context_tokens < wanted


def limit_ms_of(service: Service) -> int:
    """Returns the longest that a model of a profile may take for a short answer."""
    return MODEL_MS if service.selftest is None else service.selftest.model_ms


def memory_line(service: Service, knowledge_bytes: int, engines: Iterable[Engine]) -> str:
    """Returns a line about the memory that a version takes on this box.

    Raises:
        NotProved: It is more than its profile allows.
    """
    models_bytes = sum(engine.fit.need.host_bytes for engine in engines if engine.fit is not None)
    taken_mb = (knowledge_bytes + models_bytes) / 1e6
    most_mb = 0 if service.selftest is None else service.selftest.memory_mb
    told = f"memory: {knowledge_bytes / 1e6:.0f} MB for the knowledge, {models_bytes / 1e6:.0f} MB for the models"
    if most_mb and taken_mb > most_mb:
        raise NotProved(f"{told}: {taken_mb:.0f} MB, at most {most_mb} are allowed")
    return told


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
                if sum(one > limit_ms for one in taken[1:]) > ASKED // 2:  # the median is beyond it already
                    break
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
