"""Proves a candidate before it may serve: the bundle's own self-test on this box, with its models on this box."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.answer.answering import engine_target
from appliance.engine.parent import Engine
from appliance.gateway.outcome import Failed
from appliance.gateway.upstream import Client, read_whole
from appliance.host.box import load_knowledge, make_engines
from appliance.store.install import Proof
from bundler.files import scratch_folder
from bundler.format.bundle import Bundle
from bundler.format.service import CHAT, EMBEDDING, RERANK
from bundler.knowledge import selftest

_LIMIT_S, _TOKENS = 120.0, 32
_PROMPT = "Say in one sentence what a lifeboat is for."
_QUESTIONS: Mapping[str, tuple[str, dict[str, Any]]] = {
    CHAT: ("/chat/completions", {"messages": [{"role": "user", "content": _PROMPT}], "max_tokens": _TOKENS}),
    EMBEDDING: ("/embeddings", {"input": _PROMPT}),
    RERANK: ("/rerank", {"query": _PROMPT, "documents": [_PROMPT]}),
}


@dataclass(frozen=True)
class Prover:
    """Loads a candidate beside what serves, and asks it.

    Attributes:
        run: Where the engines' sockets may lie.
    """

    run: Path

    def __call__(self, bundle: Bundle) -> Proof:
        service = bundle.index.service
        lines, passed = [], True
        knowledge, _ = load_knowledge(bundle)
        if service.selftest is not None and knowledge is not None:
            cases = selftest.read_cases(bundle.read(service.selftest.asset))
            report = selftest.run(cases, knowledge, service.selftest)
            lines, passed = list(report.lines()), report.passed
        tested = asyncio.run(self._models(bundle))
        lines += [line for line, _ in tested]
        outcomes = [outcome for _, outcome in tested]
        return Proof(passed and False not in outcomes, tuple(lines), all(outcomes))

    async def _models(self, bundle: Bundle) -> list[tuple[str, bool | None]]:
        """Returns a line and an outcome a model: True answered, False failed, None could not be tried."""
        with scratch_folder(self.run, "prove-") as folder:
            return [await _ask(name, engine) for name, engine in make_engines(bundle, folder).items()]


async def _ask(name: str, engine: Engine) -> tuple[str, bool | None]:
    await engine.start()
    try:
        if engine.state == "missing":
            return f"model {name}: not tested, {engine.reason}", None
        if engine.state != "ready":
            return f"model {name}: FAILED, {engine.reason}", False
        answer = await _answer(engine)
    except Failed as failure:
        return f"model {name}: FAILED, {failure}", False
    finally:
        await engine.stop()
    return (f"model {name}: answers", True) if answer.strip() else (f"model {name}: FAILED, empty answer", False)


async def _answer(engine: Engine) -> str:
    """Asks what the model is there for; returns what it said, "" for nothing."""
    path, body = _QUESTIONS[engine.spec.serves]
    async with Client(engine_target(engine.spec, engine, _LIMIT_S)) as client:
        response = await client.post(path, body)
        value = json.loads(await read_whole(response))
    if engine.spec.serves == CHAT:
        return str(value["choices"][0]["message"]["content"])
    return str(value["data"] if engine.spec.serves == EMBEDDING else value["results"])
