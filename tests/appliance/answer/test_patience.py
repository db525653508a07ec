"""How long a ladder of two local models, whose engines are down, keeps a caller."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from appliance.answer.answering import Answering
from appliance.gateway.call import Served
from appliance.gateway.climb import NoRung
from appliance.host.box import Box, Policy
from appliance.settings import Settings
from bundler.format.service import LadderSpec, LimitsSpec, ModelSpec, RungSpec, Service

NAMES = ("first", "second")
SERVICE = Service(
    profile="test",
    title="Test",
    models=tuple(ModelSpec(name, f"models/{name}.gguf", "ab" * 32, 512, 64) for name in NAMES),
    embedding=None,
    collections=(),
    faqs=(),
    routers=(),
    upstreams=(),
    ladder=LadderSpec(
        (*(RungSpec(name, "model", name) for name in NAMES), RungSpec("message", "message", "")),
        (*NAMES, "message"),
        ("message",),
        "",
        "Sorry.",
        "",
    ),
    limits=LimitsSpec(body_bytes=100_000, queue_requests=4, request_timeout_ms=60_000),
    selftest=None,
    inventory=(),
)


@dataclass
class Down:
    """An engine that ended a moment ago and stays away, on a clock of its own."""

    socket: Path
    clock: list[float]
    state: str = "ready"
    reason: str = ""
    device: str = "cpu"
    fit: None = None
    restarts: int = 0
    last_end: str = ""
    generation: int = 1
    waits: list[float] = field(default_factory=list)

    async def back(self, after: int, limit_s: float) -> bool:
        assert after == self.generation
        self.waits.append(limit_s)
        self.clock[0] += limit_s
        return False


@pytest.fixture
def engines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Down]:
    clock = [1000.0]
    monkeypatch.setattr("appliance.gateway.replay.time.monotonic", lambda: clock[0])
    return {name: Down(tmp_path / name, clock) for name in NAMES}


async def asked(engines: Mapping[str, Any], model: str) -> Served:
    box = Box(SERVICE, 1, "b-1", None, None, engines, Policy(()))
    async with Answering(box, Settings(), clock=lambda: engines["first"].clock[0]) as answering:
        return await answering.complete(
            answering.call({"model": model, "messages": [{"role": "user", "content": "Hi"}]})
        )


def test_auto_waits_ten_seconds_on_all_rungs_together(engines: dict[str, Down]) -> None:
    """The first model takes them, the second is asked and not waited for, and the last rung answers."""
    served = asyncio.run(asked(engines, "auto"))
    assert [engine.waits for engine in engines.values()] == [[10], [0]]
    assert served.answer.rung == "message"
    assert [skip.rung for skip in served.skips] == list(NAMES)


def test_who_names_a_model_that_loads_again_waits_for_it(engines: dict[str, Down]) -> None:
    """To the deadline; then it gets the state as the reason."""
    engines["second"].state = "loading"
    with pytest.raises(NoRung) as caught:
        asyncio.run(asked(engines, "second"))
    assert [engine.waits for engine in engines.values()] == [[], [60]]
    assert caught.value.skips[0].reason == "the local model is loading"
