"""Clients of a box that ask without a pause, and without a second try: what they met is what a user would have met."""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import openai

FAQ = "After how many minutes does a locked account open again?"
OPEN = "Say hi to the crew."


@dataclass(frozen=True)
class Asked:
    """One request: when it began and how long it took, in seconds, and what served it or what went wrong."""

    began_s: float
    took_s: float
    rung: str
    failure: str


@dataclass
class Load:
    """What all clients met so far."""

    asked: list[Asked] = field(default_factory=list)

    @property
    def failed(self) -> list[Asked]:
        return [one for one in self.asked if one.failure]

    def rungs(self, since_s: float = 0.0) -> dict[str, int]:
        """Returns how many answers each rung gave."""
        found = [one.rung for one in self.asked if not one.failure and one.began_s >= since_s]
        return {rung: found.count(rung) for rung in sorted(set(found))}

    def latencies_ms(self) -> tuple[float, float, float]:
        """Returns median, 99th percentile and maximum of the answered requests."""
        taken = sorted(one.took_s * 1000 for one in self.asked if not one.failure)
        if len(taken) < 2:
            return (0.0, 0.0, 0.0)
        return statistics.median(taken), statistics.quantiles(taken, n=100)[-1], taken[-1]


@asynccontextmanager
async def under_load(url: str, token: str, clients: int, model: str = "auto") -> AsyncIterator[Load]:
    """Asks a box from so many clients as long as the block lasts, and lets them finish.

    Args:
        url: The box, without `/v1`.
        token: Of the box.
        clients: A third each asks the FAQ, streams from `model`, and lists the models.
        model: "auto" answers by whatever rung can.
    """
    load, over = Load(), asyncio.Event()
    tasks = [asyncio.create_task(_client(url, token, number, model, load, over)) for number in range(clients)]
    try:
        yield load
    finally:
        over.set()
        await asyncio.gather(*tasks)


async def _client(url: str, token: str, number: int, model: str, load: Load, over: asyncio.Event) -> None:
    drawn = random.Random(number)
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=token, max_retries=0, timeout=180) as client:
        while not over.is_set():
            began_s, rung, failure = time.monotonic(), "", ""
            try:
                rung = await (_faq, _stream, _models)[number % 3](client, model)
            except Exception as error:  # noqa: BLE001 - whatever a client met is the finding
                failure = f"{type(error).__name__}: {error!s:.200} {error.__cause__!r:.150}"
            load.asked.append(Asked(began_s, time.monotonic() - began_s, rung, failure))
            await asyncio.sleep(drawn.random() * 0.2)


async def _faq(client: openai.AsyncOpenAI, _: str) -> str:
    raw = await client.chat.completions.with_raw_response.create(model="auto", messages=_said(FAQ), max_tokens=24)
    assert raw.parse().choices[0].message.content, "an empty answer"
    return str(raw.headers["X-Lifeboat-Rung"])


async def _stream(client: openai.AsyncOpenAI, model: str) -> str:
    stream = await client.chat.completions.create(model=model, messages=_said(OPEN), max_tokens=12, stream=True)
    reason, rung = None, str(stream.response.headers["X-Lifeboat-Rung"])
    async for event in stream:
        reason = event.choices[0].finish_reason or reason if event.choices else reason
        rung = ((event.model_extra or {}).get("lifeboat") or {}).get("rung", rung)
    assert reason in ("stop", "length"), f"finish_reason {reason}"
    return rung


async def _models(client: openai.AsyncOpenAI, _: str) -> str:
    assert (await client.models.list()).data, "no models"
    return "models"


def _said(text: str) -> Any:
    return [{"role": "user", "content": text}]


def table(rows: Sequence[Sequence[object]]) -> str:
    """Returns rows as aligned columns."""
    texts = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in texts) for column in range(len(texts[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in texts
    )
