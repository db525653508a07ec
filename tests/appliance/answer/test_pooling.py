"""What an engine of vectors answers, and what the caller is told."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from appliance.answer.pooling import NotServing, Pooling
from appliance.gateway import relay
from appliance.gateway.call import Call
from appliance.gateway.outcome import Failed, Kind, Refused
from bundler.format.errors import Busy
from bundler.format.service import ModelSpec

MODEL = ModelSpec("vec", "models/vec.gguf", "ab" * 32, 64, 0, "embedding")


@pytest.mark.parametrize(
    ("status", "code", "error", "told"),
    [
        (500, "engine_error", Refused, 502),  # the same request fails again: nobody is asked to come back
        (500, "", NotServing, None),
        (503, "engine_ending", NotServing, None),
        (413, "request_too_large", Refused, 413),
        (429, "queue_full", Busy, None),
    ],
)
def test_failures_keep_their_meaning(
    monkeypatch: pytest.MonkeyPatch, status: int, code: str, error: type[Exception], told: int | None
) -> None:
    """What fails again is told as that, with its code; what may pass is not."""

    async def fetched(*_: Any) -> bytes:
        raise Failed(Kind.STATUS, status=status, code=code, message="words")

    monkeypatch.setattr(relay, "fetched", fetched)
    engine: Any = type("Ready", (), {"generation": 1})()
    client: Any = None
    call = Call("embeddings", {}, "", stream=False, model="vec", needs=frozenset(), ignorable=(), deadline_s=1e9)
    with pytest.raises(error) as caught:
        asyncio.run(Pooling([MODEL], {"vec": engine}, {"vec": client}).ask("vec", call))
    if isinstance(caught.value, Refused):
        assert (caught.value.status, caught.value.code, caught.value.message) == (told, code, "words")
