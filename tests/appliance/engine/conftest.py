"""A real engine with a real model, shared by the tests of one file, and OpenAI's own client in front of it."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx2
import pytest
from openai import OpenAI

from appliance.engine.parent import Engine
from appliance.engine.reading import BytesReader
from bundler.format.service import ModelSpec


@dataclass(frozen=True)
class Running:
    """A started engine: the client's calls go to its socket."""

    openai: OpenAI
    http: httpx2.Client


@pytest.fixture(scope="module")
def running(smollm_gguf: Path) -> Iterator[Running]:
    """SmolLM2 with 2048 tokens of context and answers of at most 200."""
    digest = hashlib.sha256(b"model").hexdigest()
    spec = ModelSpec("smol", "models/smol.gguf", digest, 2048, 200)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    with TemporaryDirectory() as folder:
        reader = BytesReader(smollm_gguf.read_bytes())
        engine = Engine(spec, reader, runtime_dir=Path(folder), threads=2, queue_requests=32)
        asyncio.run_coroutine_threadsafe(engine.start(), loop).result(120)
        try:
            assert engine.state == "ready", engine.reason
            transport = httpx2.HTTPTransport(uds=str(engine.socket))
            with httpx2.Client(transport=transport, timeout=120, base_url="http://engine/v1") as http:
                yield Running(
                    OpenAI(base_url="http://engine/v1", api_key="none", max_retries=0, http_client=http),  # type: ignore[arg-type, unused-ignore]
                    http,
                )
        finally:
            asyncio.run_coroutine_threadsafe(engine.stop(), loop).result(60)
            loop.call_soon_threadsafe(loop.stop)
            thread.join(10)
            loop.close()
