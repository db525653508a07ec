"""A fault of this program is told to nobody but the log, and the log gets its place without its words."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from appliance.answer.answering import Answering

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
