"""Models that prove themselves: beside what serves, or instead of it where memory holds only one of them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from appliance.host import gate
from appliance.host.trial import NotProved
from bundler.format.service import LadderSpec, LimitsSpec, ModelSpec, SelftestSpec, Service

SERVICE = Service(
    "test", "Test", (), None, (), (), (), (), LadderSpec((), (), (), "", "", ""), LimitsSpec(1, 1, 1), None, ()
)


@dataclass
class Memory:
    """A machine that holds so many models, and what happened on it."""

    holds: int
    running: set[str] = field(default_factory=set)
    events: list[str] = field(default_factory=list)


@dataclass(eq=False)
class FakeEngine:
    """An engine that needs one place of a memory; `says` is its answer."""

    name: str
    memory: Memory
    says: str = "Hello."
    socket: Path = Path("/nowhere")
    state: str = "loading"
    reason: str = ""
    short: bool = False
    over: bool = True
    fit: Any = None

    @property
    def spec(self) -> ModelSpec:
        return ModelSpec(self.name, "models/x.gguf", "00", 512, 32)

    async def start(self) -> None:
        self.start_soon()

    def start_soon(self) -> None:
        self.over, self.short = False, len(self.memory.running) >= self.memory.holds
        self.state, self.reason = ("failed", "it does not fit") if self.short else ("ready", "")
        self.memory.events.append(f"{self.name} {self.state}")
        if not self.short:
            self.memory.running.add(self.name)

    async def stop(self) -> None:
        self.over, self.state = True, "draining"
        self.memory.running.discard(self.name)
        self.memory.events.append(f"{self.name} stopped")

    async def drain(self, limit_s: float) -> None:
        self.memory.events.append(f"{self.name} finishes")
        await self.stop()


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine answers at once what it has to say; the wire is tested elsewhere."""

    async def asked(engine: Any, limit_ms: int) -> str:
        if engine.state != "ready" or not engine.says:
            raise NotProved(f"model {engine.name}: {engine.reason or 'an empty answer'}", short=engine.short)
        return f"model {engine.name}: answers"

    monkeypatch.setattr(gate, "asked", asked)


def engines(holds: int, says: str = "Hello.") -> tuple[Memory, Any, Any]:
    """Returns a memory, an engine that serves in it, and one that is to come."""
    memory = Memory(holds)
    old, new = FakeEngine("old", memory), FakeEngine("new", memory, says)
    old.start_soon()
    memory.events.clear()
    return memory, old, new


def test_where_both_fit_the_old_one_serves_on() -> None:
    """Nothing is ended before the new version takes over."""
    memory, old, new = engines(2)
    assert asyncio.run(gate.proved([new], [old])) == ["model new: answers"]
    assert memory.events == ["new ready"]


def test_where_one_fits_the_old_one_finishes_first() -> None:
    """What it has accepted is answered; then it makes room."""
    memory, old, new = engines(1)
    assert asyncio.run(gate.proved([new], [old])) == ["model new: answers"]
    assert memory.events == ["new failed", "new stopped", "old finishes", "old stopped", "new ready"]


def test_the_old_one_comes_back_where_the_new_one_fails() -> None:
    """And only after the new one has let go of the memory."""
    memory, old, new = engines(1, says="")
    with pytest.raises(NotProved, match="empty answer"):
        asyncio.run(gate.proved([new], [old]))
    assert memory.events[-2:] == ["new stopped", "old ready"]
    assert memory.running == {"old"}


def test_one_that_fits_nowhere_is_refused_for_want_of_memory() -> None:
    """With the old one gone, too; it comes back."""
    memory, old, new = engines(1)
    memory.holds = 0
    with pytest.raises(NotProved) as refused:
        asyncio.run(gate.proved([new], [old]))
    assert refused.value.short
    assert "old" in memory.events[-1]


def test_a_version_that_one_goes_back_to_is_not_asked() -> None:
    """Its models are started with the same care; what they say does not keep the box from leaving a bad version."""
    memory, old, new = engines(1, says="")
    asyncio.run(gate.brought([new], [old]))
    assert memory.running == {"new"}


def test_the_memory_of_a_version_has_a_limit() -> None:
    """Knowledge and models together; 0 is none."""

    class Fit:
        class need:  # noqa: N801 - the name of a field
            host_bytes = 400_000_000

    model = FakeEngine("m", Memory(1), fit=Fit())
    bound = replace(SERVICE, selftest=SelftestSpec("", 0, 0, 0, 0, memory_mb=500))
    told = "memory: 100 MB for the knowledge, 400 MB for the models"
    assert gate.memory_line(SERVICE, 100_000_000, [model]) == told  # type: ignore[list-item]  # a fake
    assert gate.memory_line(bound, 100_000_000, [model]) == told  # type: ignore[list-item]  # a fake
    with pytest.raises(NotProved, match="501 MB, at most 500 are allowed"):
        gate.memory_line(bound, 101_000_000, [model])  # type: ignore[list-item]  # a fake


def test_a_profile_sets_how_long_a_model_may_take() -> None:
    """Without a self-test it is what the format says."""
    assert gate.limit_ms_of(SERVICE) == 60_000
    assert gate.limit_ms_of(replace(SERVICE, selftest=SelftestSpec("", 0, 0, 0, 0, model_ms=7))) == 7
