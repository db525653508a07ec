"""The box in front of local models that give vectors or rank: OpenAI's client, real engines, the real application."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import numpy as np
import pytest
import uvicorn
from openai import BadRequestError, NotFoundError, OpenAI

from appliance.answer.answering import Answering
from appliance.app import create_app, serve
from appliance.edge.tokens import TokenStore
from appliance.engine.parent import Engine
from appliance.engine.reading import BytesReader
from appliance.gateway.call import VECTORS
from appliance.host.box import Box, Policy
from appliance.host.prove import Prover
from appliance.settings import Settings
from bundler.format.service import EmbeddingSpec, LadderSpec, LimitsSpec, ModelSpec, RungSpec, Service

pytestmark = pytest.mark.llm

WORDS = "[PAD] [UNK] [CLS] [SEP] [MASK] boat ship sea life save the a of cloud rain".split()
MODELS = {
    "vec": ModelSpec("vec", "models/vec.gguf", "ab" * 32, 64, 0, "embedding"),
    "judge": ModelSpec("judge", "models/judge.gguf", "cd" * 32, 64, 0, "rerank"),
}
SERVICE = Service(
    profile="test",
    title="Test",
    models=tuple(MODELS.values()),
    embedding=None,
    collections=(),
    faqs=(),
    routers=(),
    upstreams=(),
    ladder=LadderSpec((RungSpec("message", "message", ""),), ("message",), ("message",), "", "Sorry.", ""),
    limits=LimitsSpec(body_bytes=100_000, queue_requests=64, request_timeout_ms=60_000),
    selftest=None,
    inventory=(),
)
ONNX = EmbeddingSpec("mini", "m.onnx", "t.json", "00", 4, 256, "mean", "fp32")


@dataclass
class World:
    """A serving box, its engines, and clients."""

    engines: dict[str, Engine]
    openai: OpenAI
    http: httpx2.Client


@pytest.fixture(scope="module")
def ggufs(tiny_bert: Any, write_bert: Any) -> dict[str, bytes]:
    plain = {name: tensor for name, tensor in tiny_bert.items() if not name.startswith("cls.")}
    return {"vec": write_bert(plain, WORDS, 4, 1), "judge": write_bert(tiny_bert, WORDS, 4, 4)}


@pytest.fixture(scope="module")
def world(ggufs: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A box with a model of vectors and one that ranks, and nothing else."""
    folder, ready = tmp_path_factory.mktemp("box"), threading.Event()
    listener, servers = socket.create_server(("127.0.0.1", 0)), list[uvicorn.Server]()
    engines: dict[str, Engine] = {}
    tokens = TokenStore(folder / "tokens.json")
    token, _ = tokens.create("test", now_s=1_000)

    async def main() -> None:
        for name, data in ggufs.items():
            reader = BytesReader(data)
            engines[name] = Engine(MODELS[name], reader, runtime_dir=folder, threads=1, queue_requests=32)
            await engines[name].start()
        box = Box(SERVICE, 1, "b-1", None, None, engines, Policy(()))
        serving = asyncio.create_task(serve(create_app(box, tokens, Settings()), listener, on_ready=servers.append))
        while not (servers and servers[0].started):
            assert not serving.done(), serving.exception()
            await asyncio.sleep(0.01)
        ready.set()
        await serving
        await box.stop()

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    assert ready.wait(60)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    headers = {"Authorization": f"Bearer {token}"}
    with httpx2.Client(base_url=url, headers=headers, timeout=60, trust_env=False) as http:
        yield World(engines, OpenAI(base_url=f"{url}/v1", api_key=token, max_retries=0, timeout=60), http)
    servers[0].should_exit = True
    thread.join(30)
    listener.close()


def test_vectors_by_name_and_by_auto(world: World) -> None:
    """The client's default encoding, and numbers; where nobody names a model, the only one there is."""
    found = world.openai.embeddings.create(model="vec", input=["the boat", "rain"])
    again = world.openai.embeddings.create(model="auto", input=["the boat", "rain"], encoding_format="float")
    assert [len(item.embedding) for item in found.data] == [32, 32]
    assert np.allclose([item.embedding for item in found.data], [item.embedding for item in again.data])
    assert (found.model, again.model, found.usage.prompt_tokens) == ("vec", "vec", 7)
    tokens = world.openai.embeddings.create(model="vec", input=[[2, 10, 5, 3]])
    assert np.allclose(tokens.data[0].embedding, found.data[0].embedding, atol=1e-5)


def test_who_served_is_told(world: World) -> None:
    """As for every answer of the box."""
    reply = world.http.post("/v1/embeddings", json={"model": "vec", "input": "rain"})
    assert (reply.headers["X-Lifeboat-Served-By"], reply.headers["X-Lifeboat-Mode"]) == ("vec", "NORMAL")


def test_documents_are_ranked(world: World) -> None:
    """By the model that ranks; named, or not."""
    body = {"query": "the ship", "documents": ["rain", "a boat of the sea", "cloud"], "top_n": 2}
    reply = world.http.post("/v1/rerank", json=body)
    found = reply.json()["results"]
    assert reply.headers["X-Lifeboat-Served-By"] == "judge"
    assert len(found) == 2
    assert found[0].keys() == {"index", "relevance_score"}
    assert found[0]["relevance_score"] >= found[1]["relevance_score"]
    assert world.http.post("/v1/rerank", json=body | {"model": "judge"}).json()["results"] == found


@pytest.mark.parametrize(("path", "name"), [("embeddings", "judge"), ("embeddings", "gpt-9"), ("rerank", "vec")])
def test_no_model_stands_for_another(world: World, path: str, name: str) -> None:
    """404 with the list of those that do it."""
    body = {"model": name, "input": "a", "query": "a", "documents": ["a"]}
    reply = world.http.post(f"/v1/{path}", json=body)
    assert (reply.status_code, reply.json()["error"]["code"]) == (404, "model_not_found")
    assert ("judge" if path == "rerank" else "vec") in reply.json()["error"]["message"].split("serves:")[1]


@pytest.mark.parametrize("name", ["vec", "judge"])
def test_they_are_no_chat_models(world: World, name: str) -> None:
    """They are listed as models, and refused where a chat names them."""
    assert name in [model.id for model in world.openai.models.list()]
    with pytest.raises(NotFoundError):
        world.openai.chat.completions.create(model=name, messages=[{"role": "user", "content": "x"}])


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"input": "boat " * 100}, "context_length_exceeded"),
        ({"input": [[99]]}, "invalid_request"),
        ({"input": "boat", "dimensions": 8}, "unsupported_option"),
    ],
)
def test_what_the_engine_refuses_reaches_the_caller(world: World, options: dict[str, Any], code: str) -> None:
    """With its words."""
    with pytest.raises(BadRequestError) as caught:
        world.openai.embeddings.create(model="vec", **options)
    assert caught.value.code == code


def test_a_killed_engine_comes_back_and_answers(world: World) -> None:
    """The request that finds it dead waits for the next child."""
    before = world.openai.embeddings.create(model="vec", input="the boat").data[0].embedding
    child = world.engines["vec"]._child
    assert child is not None
    os.kill(child.pid, signal.SIGKILL)
    after = world.openai.embeddings.create(model="vec", input="the boat").data[0].embedding
    assert np.allclose(before, after, atol=1e-6)
    assert world.engines["vec"].restarts == 1


@pytest.mark.parametrize("noticed", [False, True])
def test_before_and_after_an_end_is_noticed_it_answers(
    ggufs: dict[str, bytes], tmp_path: Path, *, noticed: bool
) -> None:
    """Who finds the engine dead, and who finds it loading again, wait for the next one alike."""

    async def ask() -> Any:
        reader = BytesReader(ggufs["vec"])
        engine = Engine(MODELS["vec"], reader, runtime_dir=tmp_path, threads=1, queue_requests=32)
        box = Box(SERVICE, 1, "b-1", None, None, {"vec": engine}, Policy(()))
        await engine.start()
        try:
            async with Answering(box, Settings()) as answering:
                assert engine._child is not None
                os.kill(engine._child.pid, signal.SIGKILL)
                if noticed:
                    await engine._changed.wait()
                assert engine.state == ("loading" if noticed else "ready")
                return json.loads(await answering.pool("vec", {"input": "the boat"}, VECTORS, "t"))
        finally:
            await engine.stop()

    assert len(asyncio.run(ask())["data"][0]["embedding"]) == 32


def test_readiness_tells_what_they_serve_and_take(world: World) -> None:
    """Their fit too; a box without a rung that answers is not ready for chats."""
    reply = world.http.get("/health/ready")
    found = reply.json()
    assert (reply.status_code, found["ready"]) == (503, False)
    assert {model["name"]: model["serves"] for model in found["models"]} == {"vec": "embedding", "judge": "rerank"}
    fit = found["models"][0]["fit"]
    assert (fit["context_tokens"], fit["sequences"]) == (256, 1)
    assert "become vectors" in " ".join(fit["reasons"])


@dataclass
class Candidate:
    """Of a bundle what a prover reads."""

    index: Any
    ggufs: dict[str, bytes]

    def reader(self, asset: str) -> BytesReader:
        return BytesReader(self.ggufs[Path(asset).stem])


def test_a_candidate_is_asked_for_what_it_serves(ggufs: dict[str, bytes], tmp_path: Path) -> None:
    """Vectors of the one, a ranking of the other, before the version may serve."""
    bundle: Any = Candidate(SimpleNamespace(service=SERVICE), ggufs)
    proof = Prover(tmp_path)(bundle)
    *models, memory = proof.lines
    assert [line.split(" in ")[0] for line in models] == ["model vec: answers", "model judge: answers"]
    assert memory.startswith("memory: 0 MB for the knowledge, ")
    assert (proof.passed, proof.model_tested) == (True, True)


def test_a_model_that_loads_is_a_503(tmp_path: Path) -> None:
    """Not broken, not there yet; and the embedding model of documents stays what `auto` means."""
    engine = Engine(MODELS["vec"], BytesReader(b""), runtime_dir=tmp_path, threads=1, queue_requests=1)
    service = replace(SERVICE, models=(MODELS["vec"],), embedding=ONNX)
    box = Box(service, 1, "b-1", None, None, {"vec": engine}, Policy(()))
    tokens = TokenStore(tmp_path / "tokens.json")
    token, _ = tokens.create("test", now_s=1_000)

    async def ask() -> list[Any]:
        app: Any = create_app(box, tokens, Settings())
        headers = {"Authorization": f"Bearer {token}", "Host": "localhost"}
        async with app.lifespan(), httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app)) as http:
            bodies = [{"model": name, "input": "a"} for name in ("vec", "auto")]
            url = "http://localhost/v1/embeddings"
            replies = [await http.post(url, json=body, headers=headers) for body in bodies]
            return [*replies, await http.post("http://localhost/v1/rerank", json={}, headers=headers)]

    loading, onnx, none = asyncio.run(ask())
    assert (loading.status_code, loading.headers["Retry-After"]) == (503, "5")
    assert "vec: the local model is loading" in loading.json()["error"]["message"]
    assert "the embedding model is not loaded" in onnx.json()["error"]["message"]
    assert (none.status_code, none.json()["error"]["code"]) == (501, "not_implemented")
