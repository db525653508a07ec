"""The real local model goes on with an answer that a provider broke off, through the box and the OpenAI wire."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.answer.answering import Answering
from appliance.engine.parent import Engine
from appliance.engine.reading import BytesReader
from appliance.host.box import Box, Policy
from appliance.routes import present
from appliance.settings import Settings
from bundler.format.service import LadderSpec, LimitsSpec, ModelSpec, RouteSpec, RungSpec, Service, UpstreamSpec

pytestmark = [pytest.mark.llm]

SPEC = ModelSpec("smol", "models/smol.gguf", "ab" * 32, 512, 400)
RUNGS = (RungSpec("cloud", "upstream", "cloud"), RungSpec("smol", "model", "smol"))
SERVICE = Service(
    profile="test",
    title="Test",
    models=(SPEC,),
    embedding=None,
    collections=(),
    faqs=(),
    routers=(),
    upstreams=(),
    ladder=LadderSpec(RUNGS, ("cloud", "smol"), (), "", "", ""),
    limits=LimitsSpec(body_bytes=100_000, queue_requests=64, request_timeout_ms=120_000),
    selftest=None,
    inventory=(),
    routes=(RouteSpec("desk", ("cloud", "smol"), "continue"),),
)


async def _cutting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, text: str) -> None:
    """Streams a text word by word and breaks the connection instead of ending."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 99999\r\n\r\n")
    for word in text.split(" "):
        delta = {"content": word if text.startswith(word) else f" {word}"}
        value = {"id": "c-1", "created": 7, "model": "big", "choices": [{"index": 0, "delta": delta}]}
        writer.write(b"data: " + json.dumps(value).encode() + b"\n\n")
    await writer.drain()
    writer.close()


def _body(**more: object) -> dict[str, object]:
    messages = [{"role": "user", "content": "Count from one to ten in words."}]
    return {"messages": messages, "max_tokens": 48, "temperature": 0, **more}


async def _streamed(answering: Answering) -> tuple[str, dict[str, object]]:
    served = await answering.complete(answering.call(_body(model="desk", stream=True)))
    text, last = "", {}
    assert served.answer.chunks is not None
    async for event in present.events(served, lambda _: None):
        if b"[DONE]" not in event and event.startswith(b"data: "):
            last = json.loads(event.removeprefix(b"data: "))
            text += "".join(choice["delta"].get("content", "") for choice in last["choices"])
    served.answer.chunks.close()
    return text, last


async def _both(gguf: bytes, folder: Path) -> tuple[str, str, str, dict[str, object]]:
    """Returns the model's own answer, the half that the provider gives, and what the box makes of it."""
    engine = Engine(SPEC, BytesReader(gguf), runtime_dir=folder, threads=1, queue_requests=8)
    await engine.start()
    begun = ""
    try:
        listening = await asyncio.start_server(lambda r, w: _cutting(r, w, begun), "127.0.0.1", 0)
        url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1"
        service = replace(SERVICE, upstreams=(UpstreamSpec("cloud", url, "big", "", "", 2000, 9000, 9000),))
        box = Box(service, 1, "b-1", None, None, {"smol": engine}, Policy((url.removesuffix("/v1"),)))
        async with listening, Answering(box, Settings()) as answering:
            own = await answering.complete(answering.call(_body(model="smol")))
            assert own.answer.body is not None
            whole = str(own.answer.body["choices"][0]["message"]["content"])
            begun = " ".join(whole.split(" ")[: len(whole.split(" ")) // 2])
            return whole, begun, *await _streamed(answering)
    finally:
        await engine.stop()


def test_the_local_model_goes_on_from_the_last_word(smollm_gguf: Path, tmp_path: Path) -> None:
    """At temperature 0 it says what it would have said itself: nothing is lost, doubled or begun anew."""
    whole, begun, text, last = asyncio.run(_both(smollm_gguf.read_bytes(), tmp_path))
    assert begun
    assert text.startswith(begun)
    assert text[: len(begun) + 12] == whole[: len(begun) + 12]
    assert last["choices"][0]["finish_reason"] in ("stop", "length")  # type: ignore[index]
    first, second = last["lifeboat"]["segments"]  # type: ignore[index]
    assert (first["rung"], first["chars"]) == ("cloud", len(begun))
    assert (second["rung"], second["chars"]) == ("smol", len(text) - len(begun))
    assert second["usage"]["completion_tokens"] > 0
