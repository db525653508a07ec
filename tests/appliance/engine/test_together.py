"""Many requests at once on a real model: each gets, to the last character, what it would get alone."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from appliance.engine.parent import Engine
from appliance.engine.reading import BytesReader
from bundler.format.service import ModelSpec

pytest.importorskip("llama_cpp")

SYSTEM = "You are the helpdesk of an office. " + "Answer in one short sentence and never guess. " * 6
QUESTIONS = (
    "What is a lifeboat?",
    "Name three colours.",
    "How do I reset my password?",
    "Write a line about rain.",
    "Explain DNS to a child.",
    "Count to five.",
    "Who repairs the printer?",
    "What is two and two?",
)


def with_engine(gguf: Path, folder: Path, work: Callable[[Engine, Any], Awaitable[Any]]) -> Any:
    """Runs `work` with a started engine and a client of its socket."""
    folder.mkdir(exist_ok=True)
    reader = BytesReader(gguf.read_bytes())
    spec = ModelSpec("smol", "models/smol.gguf", "ab" * 32, 512, 48)

    async def run() -> Any:
        engine = Engine(spec, reader, runtime_dir=folder, threads=2, queue_requests=64)
        try:
            await engine.start()
            transport = httpx2.AsyncHTTPTransport(uds=str(engine.socket))
            async with httpx2.AsyncClient(transport=transport, timeout=120) as http:
                return await work(engine, http)
        finally:
            await engine.stop()

    return asyncio.run(run())


async def ask(http: Any, question: str, tokens: int = 24, **more: Any) -> Any:
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}]
    body = {"messages": messages, "max_tokens": tokens, "temperature": 0, **more}
    answer = await http.post("http://e/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_together_is_the_same_as_alone(smollm_gguf: Path, tmp_path: Path) -> None:
    """One after another, then all at once, in another order and with a shared beginning: the same texts."""

    async def alone(_: Engine, http: Any) -> dict[str, str]:
        return {q: (await ask(http, q))["choices"][0]["message"]["content"] for q in QUESTIONS}

    async def together(_: Engine, http: Any) -> tuple[dict[str, str], int]:
        order = random.Random(3).sample(QUESTIONS, len(QUESTIONS))
        answers = await asyncio.gather(*(ask(http, question) for question in order))
        cached = sum(item["usage"]["prompt_tokens_details"]["cached_tokens"] for item in answers)
        return {q: item["choices"][0]["message"]["content"] for q, item in zip(order, answers, strict=True)}, cached

    single = with_engine(smollm_gguf, tmp_path / "one", alone)
    crowd, cached = with_engine(smollm_gguf, tmp_path / "two", together)
    assert crowd == single
    assert cached > 400, "the shared beginning was computed more than once"


def test_clients_that_leave_harm_nobody(smollm_gguf: Path, tmp_path: Path) -> None:
    """Thirty streams are dropped at any moment, two before their first word; who stays gets what it gets alone."""

    async def storm(engine: Engine, http: Any) -> tuple[str, str, int]:
        before = (await ask(http, QUESTIONS[0]))["choices"][0]["message"]["content"]
        drawn = random.Random(5)

        async def leave(number: int) -> None:
            messages = [{"role": "user", "content": f"{number}. Tell me a very long story."}]
            body = {"messages": messages, "stream": True}
            async with http.stream("POST", "http://e/v1/chat/completions", json=body) as answer:
                if number % 15:
                    async for _ in answer.aiter_raw():
                        if drawn.random() < 0.3:
                            return

        *_, during = await asyncio.gather(*(leave(number) for number in range(30)), ask(http, QUESTIONS[0]))
        health = {"requests": -1, "running": -1, "waiting": -1}
        for _ in range(100):
            health = (await http.get("http://e/health")).json()
            if not any(health[name] for name in ("requests", "running", "waiting")):
                break
            await asyncio.sleep(0.1)
        assert engine.state == "ready"
        left = health["requests"] + health["running"] + health["waiting"]
        return before, during["choices"][0]["message"]["content"], left

    before, during, left = with_engine(smollm_gguf, tmp_path / "run", storm)
    assert during == before
    assert left == 0


def test_sampling_is_its_own(smollm_gguf: Path, tmp_path: Path) -> None:
    """A seed gives the same text cold, warm, and in a crowd of others with other settings."""

    async def work(_: Engine, http: Any) -> None:
        mine: dict[str, Any] = {"temperature": 0.9, "seed": 11}
        alone = await ask(http, QUESTIONS[3], **mine)
        warm = await ask(http, QUESTIONS[3], **mine)
        assert warm["choices"][0]["message"] == alone["choices"][0]["message"]
        crowd = await asyncio.gather(
            ask(http, QUESTIONS[3], **mine),
            *(ask(http, question, temperature=1.2, seed=number) for number, question in enumerate(QUESTIONS)),
        )
        assert crowd[0]["choices"][0]["message"] == alone["choices"][0]["message"]

    with_engine(smollm_gguf, tmp_path / "run", work)
