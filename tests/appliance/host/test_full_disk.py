"""A box whose disk takes no note any more still serves."""

from __future__ import annotations

import asyncio
import errno
import socket
from pathlib import Path
from typing import Any

import pytest

from appliance.host.listen import Listen
from appliance.host.supervisor import Supervisor
from appliance.host.worker import Gone
from appliance.store import current
from appliance.store.layout import StateLayout
from bundler.terminal import Terminal


def test_a_start_that_cannot_be_counted_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is said, and counted in memory, so that a version which dies at once is not started in a tight loop."""
    layout = StateLayout(tmp_path)
    layout.make()
    layout.version(1).mkdir()
    current.activate(layout, 1)
    waited, started = list[float](), list[int]()

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    async def run() -> None:
        with socket.socket() as listener:
            supervisor = Supervisor(
                layout,
                listener,
                Listen("127.0.0.1", 0, (), None),
                Terminal(quiet=True),
                lambda _: None,
                tmp_path / "programs",
            )

            async def start(number: int, **_: Any) -> None:
                started.append(number)
                if len(started) == 3:
                    supervisor._stop()
                raise Gone("it died", {})

            async def rest(seconds: float) -> None:
                waited.append(seconds)

            monkeypatch.setattr(current, "write_atomic", full)
            monkeypatch.setattr(supervisor, "_start", start)
            monkeypatch.setattr(supervisor, "_rest", rest)
            await supervisor.run()

    asyncio.run(run())
    assert started == [1, 1, 1]
    assert waited == [0.0, 0.2, 0.4]
    assert "the start of version 1 is not counted: the disk is full" in capsys.readouterr().err
