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


class Quiet:
    """A process that serves and does nothing else."""

    version, software, ended, hangs, began_s = 1, "", False, False, 0.0

    async def end(self, _limit_s: float) -> None:
        return None


def test_a_change_that_cannot_be_noted_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What serves goes on; it is said, and looked at again after a while."""
    layout = StateLayout(tmp_path)
    layout.make()
    looks, waited = list[int](), list[float]()

    async def run() -> None:
        with socket.socket() as listener:
            listen = Listen("127.0.0.1", 0, (), None)
            supervisor = Supervisor(layout, listener, listen, Terminal(quiet=True), lambda _: None, tmp_path)

            async def follow(_: Any) -> None:
                looks.append(1)
                if len(looks) == 2:
                    supervisor._stop()
                raise OSError(errno.ENOSPC, "No space left on device")

            async def rest(seconds: float) -> None:
                waited.append(seconds)

            async def begin() -> None:
                monkeypatch.setattr(supervisor, "_worker", Quiet())
                await supervisor._watch()

            monkeypatch.setattr(supervisor, "_follow", follow)
            monkeypatch.setattr(supervisor, "_rest", rest)
            monkeypatch.setattr(supervisor, "_keep_serving", begin)
            await supervisor.run()

    asyncio.run(run())
    assert len(looks) == 2
    assert waited[:2] == [30.0, 0.5]
    assert "nothing is changed" in capsys.readouterr().err
