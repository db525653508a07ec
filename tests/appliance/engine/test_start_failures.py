"""A machine that cannot start the engine: told, tried again, and never a supervisor that hangs."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from appliance.engine.parent import Engine
from appliance.engine.reading import BytesReader
from bundler.format.service import ModelSpec


def test_a_process_that_cannot_be_made_is_told(smollm_gguf: Path, tmp_path: Path) -> None:
    """`start` returns, the reason holds the system's words, and `stop` ends it."""
    spec = ModelSpec("smol", "models/smol.gguf", "ab" * 32, 512, 48)

    model = smollm_gguf.read_bytes()

    async def run() -> tuple[str, str]:
        missing = [str(tmp_path / "no-such-program")]
        reader = BytesReader(model)
        engine = Engine(spec, reader, runtime_dir=tmp_path, threads=2, queue_requests=8, command=missing)
        await asyncio.wait_for(engine.start(), 60)
        state, reason = engine.state, engine.reason
        await asyncio.wait_for(engine.stop(), 60)
        return state, reason

    state, reason = asyncio.run(run())
    assert state == "failed"
    assert "cannot be started" in reason
    assert "no-such-program" in reason


def test_waits_grow_also_after_a_child_that_had_served(
    smollm_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An hour of service counts for the first failure after it, and not for those that follow."""
    spec = ModelSpec("smol", "models/smol.gguf", "ab" * 32, 512, 48)
    waits: list[float] = []
    model = smollm_gguf.read_bytes()

    async def run() -> None:
        missing = [str(tmp_path / "no-such-program")]
        reader = BytesReader(model)
        engine = Engine(spec, reader, runtime_dir=tmp_path, threads=2, queue_requests=8, command=missing)
        engine._ready_s = -100_000.0

        async def rest(wait_s: float) -> None:
            waits.append(wait_s)
            if len(waits) == 4:
                enough.set()
                await engine._stopping.wait()

        enough = asyncio.Event()
        monkeypatch.setattr(engine, "_rest", rest)
        await asyncio.wait_for(engine.start(), 60)
        await asyncio.wait_for(enough.wait(), 60)
        await asyncio.wait_for(engine.stop(), 60)

    asyncio.run(run())
    assert waits == sorted(waits)
    assert waits[-1] >= 4 * waits[0] > 0
