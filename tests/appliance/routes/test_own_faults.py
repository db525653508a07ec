"""A fault of this program is told to nobody but the log, and the log gets its place without its words."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import httpx
import pytest

from appliance.answer.answering import Answering
from appliance.routes import present

PLANTED = "planted-words-of-a-caller"


def test_the_log_quotes_nobody(world: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """The words of an exception may be those of a request or of a provider."""

    async def broken(*_: object) -> None:
        raise KeyError(PLANTED)

    monkeypatch.setattr(Answering, "complete", broken)
    with caplog.at_level(logging.DEBUG):
        reply = world.chat(stream=False)
    assert reply.status_code == 500
    assert reply.json()["error"]["code"] == "internal_error"
    assert "KeyError" in caplog.text
    assert "in broken" in caplog.text
    assert PLANTED not in caplog.text + reply.text


def test_a_stream_that_we_break_quotes_nobody(
    world: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There the server itself logs, as nothing can be answered any more."""

    async def broken(*_: object) -> AsyncIterator[bytes]:
        yield b": begun\n\n"
        raise KeyError(PLANTED)

    monkeypatch.setattr(present, "events", broken)
    with caplog.at_level(logging.DEBUG), suppress(httpx.HTTPError):
        world.events()
    for _ in range(600):
        if "KeyError" in caplog.text:
            break
        time.sleep(0.05)
    assert "in broken" in caplog.text
    assert PLANTED not in caplog.text


def test_a_box_that_was_held_up_knows_it(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Something of ours that takes the loop for a second is no second of anybody else's."""

    async def busy(*_: object) -> None:
        time.sleep(1.0)  # noqa: ASYNC251 - it shall block
        raise KeyError

    monkeypatch.setattr(Answering, "complete", busy)
    began_s = time.monotonic()
    assert world.chat(stream=False).status_code == 500
    for _ in range(600):
        if world.answering.health.lag.since(began_s) > 0.5:
            return
        time.sleep(0.05)
    raise AssertionError("the lag was not seen")
