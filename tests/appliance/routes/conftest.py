"""A serving box on loopback with real HTTP on every side: uvicorn in front, providers and an engine behind it.

The providers and the engine are `Wall`s: servers of OpenAI's wire that misbehave as a test asks. Knowledge and encoder
are small in-memory fakes of `appliance.answer.facts`.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
import numpy as np
import pytest
import uvicorn
from aiohttp import web
from openai import DefaultHttpxClient, OpenAI

from appliance.answer.answering import Answering
from appliance.app import create_app, serve
from appliance.edge.tokens import TokenStore
from appliance.engine.fit import Fit
from appliance.gateway.breaker import Breaker
from appliance.settings import Settings
from bundler.format.service import (
    EmbeddingSpec,
    FaqSpec,
    LadderSpec,
    LimitsSpec,
    ModelSpec,
    RouterSpec,
    RungSpec,
    Service,
    UpstreamSpec,
)
from bundler.format.store import CollectionSpec
from bundler.knowledge.types import Hit

WORDS = ("one ", "two ", "three ", "four")


class Looped:
    """A coroutine that runs in a thread of its own until it is told to stop."""

    def __init__(self) -> None:
        self._ready, self._stop = threading.Event(), asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def run(self, main: Callable[[threading.Event, asyncio.Event], Any]) -> None:
        async def body() -> None:
            self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
            await main(self._ready, self._stop)

        self._ready.clear()
        self._thread = threading.Thread(target=lambda: asyncio.run(body()), daemon=True)
        self._thread.start()
        assert self._ready.wait(60), "it did not start"

    def stop(self) -> None:
        if self._thread is None or self._loop is None:
            return
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(60)
        assert not self._thread.is_alive(), "it did not stop"
        self._thread = None


class Wall:
    """A provider, or an engine on a Unix socket, that behaves as `behaviour` says; `asked` holds what it was asked."""

    def __init__(self, name: str, path: Path | None = None) -> None:
        self.name, self.path, self.behaviour = name, path, "ok"
        self.asked: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.gone = threading.Event()
        self.message, self.says = "no", ""
        self._port, self.page = 0, "followed"
        self._looped = Looped()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/v1"

    def __enter__(self) -> Wall:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.stop()

    def start(self) -> None:
        """Starts, on the port that it had before."""
        self._looped.run(self._main)

    def stop(self) -> None:
        self._looped.stop()

    async def _main(self, ready: threading.Event, stop: asyncio.Event) -> None:
        app = web.Application()
        app.add_routes([web.post("/v1/{tail:.*}", self._post), web.get("/{tail:.*}", self._elsewhere)])
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        if self.path is None:
            site: web.BaseSite = web.TCPSite(runner, "127.0.0.1", self._port, reuse_address=True)
        else:
            site = web.UnixSite(runner, str(self.path))
        await site.start()
        if self.path is None:
            self._port = runner.addresses[0][1]
        ready.set()
        await stop.wait()
        await runner.cleanup()

    async def _elsewhere(self, _: web.Request) -> web.Response:
        self.asked.append({"elsewhere": True})
        return web.Response(text=self.page)

    async def _post(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.asked.append(body)
        self.headers.append({**request.headers, "?": request.rel_url.raw_query_string})
        fault = self.behaviour
        await asyncio.sleep({"slow": 0.4, "late": 0.3, "very late": 1.5}.get(fault, 0))
        if fault == "silent":
            await self._until_gone()
        if fault == "throttled once":
            self.behaviour = "ok"
            return _error(429, "some_code", self.message, {"retry-after-ms": "200"})
        if fault.isdigit():
            return self._status(int(fault))
        if fault.startswith("hang up"):
            self.behaviour = "ok" if fault == "hang up once" else fault
            assert request.transport is not None
            request.transport.close()
        if fault == "html":
            return web.Response(text="<html>Please log in to the Wi-Fi</html>", content_type="text/html")
        if fault == "context" or (fault == "short context" and len(body["messages"]) > 2):
            return _error(400, "context_length_exceeded", self.message)
        if body.get("stream"):
            return await self._stream(request, fault, chat="chat" in request.path)
        return self._whole(fault, chat="chat" in request.path)

    async def _until_gone(self) -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            self.gone.set()

    def _status(self, status: int) -> web.Response:
        headers = {"Retry-After": "7"} if status == 429 else {}
        headers |= {"Location": f"http://127.0.0.1:{self._port}/elsewhere"} if status == 302 else {}
        return _error(status, "some_code", self.message, headers)

    def _whole(self, fault: str, *, chat: bool) -> web.Response:
        if fault == "in-band":
            return web.json_response({"error": {"message": "secret sk-123", "code": "x"}})
        text = "" if fault == "empty" else self.says or f"[{self.name}] " + "".join(WORDS)
        choice: dict[str, Any] = {"index": 0, "finish_reason": "stop"}
        choice |= {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
        usage = {"prompt_tokens": 1, "completion_tokens": 4, "total_tokens": 5}
        return web.json_response(self._head(chunk=False, chat=chat) | {"choices": [choice], "usage": usage})

    async def _stream(self, request: web.Request, fault: str, *, chat: bool) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for number, step in enumerate(_script(fault, self.name, self.says)):
            if isinstance(step, bytes):
                await response.write(step)
            elif step is None:
                assert request.transport is not None
                request.transport.close()
                return response
            elif step == "pause":
                await asyncio.sleep(0.3)  # what was written is read alone: the next step comes after the commit
            elif step == "wait":
                await self._until_gone()
            else:
                choice: dict[str, Any] = {"index": 0, "finish_reason": step.get("finish")}
                text = step.get("text", "")
                calls = [{"index": 0, "id": "1", "function": {"name": "f"}}]
                delta: dict[str, Any] = {"tool_calls": calls} if "call" in step else {}
                delta |= {"role": "assistant"} if number == 0 else {}
                choice |= {"delta": delta | ({"content": text} if text else {})} if chat else {"text": text}
                value = self._head(chunk=True, chat=chat) | {"choices": [choice]}
                await response.write(b"data: " + web.json_response(value).body + b"\n\n")  # type: ignore[operator]  # bytes here
        return response

    def _head(self, *, chunk: bool, chat: bool) -> dict[str, Any]:
        kind = ("chat.completion.chunk" if chunk else "chat.completion") if chat else "text_completion"
        return {"id": f"{self.name}-1", "object": kind, "created": 1, "model": f"{self.name}-large"}


def _script(fault: str, name: str, says: str = "") -> list[Any]:
    """Returns the steps of a stream: a chunk, raw bytes, "pause", "wait", or None for a broken connection."""
    text = [{"text": says}] if says else [{"text": f"[{name}] "}, *({"text": word} for word in WORDS)]
    done, finish = b"data: [DONE]\n\n", {"finish": "stop"}
    scripts: dict[str, list[Any]] = {
        "cut": [*text[:3], "pause", None],
        "cut early": [{}, None],
        "end early": [*text[:3], "pause"],
        "stall": [*text[:2], "wait"],
        "stall after finish": [*text, finish, "wait"],
        "in-band": [b'data: {"error": {"message": "secret sk-123", "code": "x"}}\n\n'],
        "in-band late": [*text[:2], "pause", b'data: {"error": {"message": "secret sk-123"}}\n\n'],
        "no done": [*text, finish],
        "no finish": [*text, done],
        "empty": [{}, finish, done],
        "keepalives": [b": keepalive\n\n", "wait"],
        "bad chunks": [b"data: {\n\n"] * 3 + ["wait"],
        "one bad chunk": [*text[:2], b"data: {\n\n", *text[2:], finish, done],
        "bad chunks late": [*text[:2], "pause", *[b"data: {\n\n"] * 3, "wait"],
        "tool cut": [*text[:1], {"call": "f"}, "pause", None],
        "long": [*text * 3_000, finish, done],
    }
    return scripts.get(fault, [{}, *text, finish, done])


def _error(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> web.Response:
    return web.json_response({"error": {"message": message, "code": code}}, status=status, headers=headers)


@dataclass
class FakeEngine:
    """`EngineFacts` over a wall on a Unix socket."""

    socket: Path
    state: str = "ready"
    reason: str = ""
    device: str = "cpu"
    fit: Fit | None = None
    restarts: int = 0
    last_end: str = ""
    generation: int = 1

    async def back(self, after: int, limit_s: float) -> bool:
        return False  # it never dies, however its wall behaves


@dataclass(frozen=True)
class Match:
    id: str
    question: str
    answer: str


@dataclass(frozen=True)
class Cited:
    source: str
    start: int
    end: int
    quote: str


@dataclass(frozen=True)
class FaqFound:
    match: Match | None
    confidence: float
    suggestions: tuple[Match, ...]


@dataclass(frozen=True)
class EvidenceFound:
    answerable: bool
    confidence: float
    citations: tuple[Cited, ...]
    hits: tuple[Hit, ...]


@dataclass(frozen=True)
class RouteFound:
    label: str | None
    confidence: float
    abstained: bool
    candidates: tuple[tuple[str, float], ...]


FAQ = Match("hours", "When are you open?", "The helpdesk is open from 07:30 to 18:30.")
TEXT = "Laptops that are lost are wiped remotely within 30 minutes of the call. Then a ticket is made."
HIT = Hit(TEXT, "lost-device.md", 0, len(TEXT), 1.5, "handbook")


class FakeKnowledge:
    """`KnowledgeFacts` that knows one FAQ entry ("open"), one document ("wipe") and one route ("printer")."""

    def __init__(self) -> None:
        self.wait = threading.Event()
        self.wait.set()

    def search(self, query: str, top_k: int, collection: str | None = None) -> Sequence[Hit]:
        assert self.wait.wait(60)
        return [HIT][:top_k] if "wipe" in query else []

    def evidence(self, question: str, collections: Collection[str] | None = None) -> EvidenceFound:
        if "wipe" not in question or "handbook" not in (collections or ["handbook"]):
            return EvidenceFound(answerable=False, confidence=0.1, citations=(), hits=())
        return EvidenceFound(True, 0.9, (Cited("lost-device.md", 0, 71, TEXT[:71]),), (HIT,))

    def faq(self, question: str, name: str | None = None) -> FaqFound:
        known = "open" in question and name in (None, "helpdesk")
        return FaqFound(FAQ, 0.95, ()) if known else FaqFound(None, 0.2, (FAQ,))

    def route(self, text: str, router: str | None = None) -> RouteFound:
        if "printer" in text:
            return RouteFound("printing", 0.8, False, (("printing", 0.8), ("network", 0.1)))
        return RouteFound(None, 0.3, True, (("network", 0.3),))


class FakeEncoder:
    """`EncoderFacts` of four dimensions."""

    dimensions, provider, precision = 4, "CPUExecutionProvider", "fp32"

    def embed(self, texts: Sequence[str]) -> Any:
        return self.submit(self.tokenise(texts)).result()

    def tokenise(self, texts: Sequence[str]) -> list[list[int]]:
        return [[len(word) for word in text.split()] for text in texts]

    def submit(self, ids: Sequence[Sequence[int]]) -> Future[Any]:
        rows = np.array([[sum(text), 1, 2, 3] for text in ids], dtype=np.float32)
        done: Future[Any] = Future()
        done.set_result(rows / np.linalg.norm(rows, axis=1, keepdims=True))
        return done


@dataclass
class FakePolicy:
    egress: tuple[str, ...]


@dataclass
class FakeBox:
    """`Box` with everything at hand, so that a test can take a part away."""

    service: Service
    policy: FakePolicy
    engines: dict[str, FakeEngine]
    knowledge: FakeKnowledge | None = field(default_factory=FakeKnowledge)
    encoder: FakeEncoder | None = field(default_factory=FakeEncoder)
    version: int = 3
    bundle: str = "b-1"
    told: Callable[[], dict[str, Any]] = field(default=lambda: {"selftest": ["faq: 10 of 10"]})


def make_service(
    upstreams: Sequence[Wall], first_token_ms: int, *, chat: tuple[str, ...] = (), ask: tuple[str, ...] = ()
) -> Service:
    """Returns a profile with these upstreams, one model, one FAQ, one collection and one router."""
    specs = tuple(
        UpstreamSpec(wall.name, wall.url, f"{wall.name}-large", "", "here", 5_000, first_token_ms, 1_000)
        for wall in upstreams
    )
    names = tuple(spec.name for spec in specs)
    rungs = (
        *(RungSpec(name, "upstream", name) for name in names),
        RungSpec("small", "model", "small"),
        RungSpec("helpdesk", "faq", "helpdesk"),
        RungSpec("handbook", "documents", "handbook"),
        RungSpec("message", "message", ""),
    )
    chat = chat or (*names, "small", "helpdesk", "handbook", "message")
    words = ("Degraded mode.", "I will not guess.", "Please phone 100.")
    return Service(
        profile="test",
        title="Test",
        models=(ModelSpec("small", "models/small.gguf", "00", 2048, 256),),
        embedding=EmbeddingSpec("mini", "m.onnx", "t.json", "00", 4, 256, "mean", "float32"),
        collections=(CollectionSpec("handbook", "documents/handbook"),),
        faqs=(FaqSpec("helpdesk", "faq/helpdesk"),),
        routers=(RouterSpec("tickets", "router/tickets"),),
        upstreams=specs,
        ladder=LadderSpec(rungs, chat, ask or ("helpdesk", "handbook", "message"), *words),
        limits=LimitsSpec(body_bytes=100_000, queue_requests=4, request_timeout_ms=20_000),
        selftest=None,
        inventory=(),
    )


@dataclass
class World:
    """A serving box and everything around it."""

    clouds: list[Wall]
    engine: Wall
    box: FakeBox
    tokens: TokenStore
    token: str
    url: str
    http: httpx.Client
    openai: OpenAI
    answering: Answering

    def breaker(self) -> Breaker:
        """What the box knows of the first provider."""
        return self.answering.health.breaker(self.cloud.name)

    @property
    def cloud(self) -> Wall:
        return self.clouds[0]

    def chat(self, text: str = "hello", **options: Any) -> Any:
        """Asks for a chat completion with the raw response's headers at hand."""
        messages = [{"role": "user", "content": text}]
        return self.http.post("/v1/chat/completions", json={"messages": messages, **options})

    def events(self, text: str = "hello", **options: Any) -> tuple[httpx.Headers, list[str]]:
        """Streams a chat completion and returns headers and the data of every event."""
        body = {"messages": [{"role": "user", "content": text}], "stream": True, **options}
        with self.http.stream("POST", "/v1/chat/completions", json=body) as response:
            lines = [line for line in response.iter_lines() if line.startswith("data: ")]
            return response.headers, [line.removeprefix("data: ") for line in lines]


class Worlds:
    """Makes worlds and takes them down again."""

    def __init__(self, folder: Path, stack: ExitStack, first_token_ms: int) -> None:
        self._folder, self._stack, self._first_token_ms = folder, stack, first_token_ms
        self.tickets: Callable[[Any], Any] = lambda _: None
        self.cache: Callable[[Any], Any] = lambda _: None
        self.jobs: Callable[[Any], Any] = lambda _: None
        self.stop: Callable[[], None] = lambda: None

    def make(
        self,
        clouds: Sequence[str] = ("alpha",),
        *,
        settings: Settings | None = None,
        change: Callable[[FakeBox], None] = lambda _: None,
        **service: Any,
    ) -> World:
        """Starts providers, engine and box; `change` gets the box before it serves."""
        walls = [self._stack.enter_context(Wall(name)) for name in clouds]
        engine = self._stack.enter_context(Wall("small", self._folder / "engine.sock"))
        assert engine.path is not None
        policy = FakePolicy(tuple(wall.url.removesuffix("/v1") for wall in walls))
        box = FakeBox(make_service(walls, self._first_token_ms, **service), policy, {"small": FakeEngine(engine.path)})
        change(box)
        tokens = TokenStore(self._folder / "tokens.json")
        token, _ = tokens.create("test", now_s=1_000)
        url, answering = self._serve(box, tokens, settings or Settings(open_s=0.3, open_longest_s=0.5, probe_s=0))
        headers = {"Authorization": f"Bearer {token}"}
        enter, plain = self._stack.enter_context, DefaultHttpxClient(verify=False)  # no TLS: nothing to load for it
        http = enter(httpx.Client(base_url=url, headers=headers, timeout=60, trust_env=False, verify=False))
        client = enter(OpenAI(base_url=f"{url}/v1", api_key=token, max_retries=0, timeout=60, http_client=plain))
        return World(walls, engine, box, tokens, token, url, http, client, answering)

    def _serve(self, box: FakeBox, tokens: TokenStore, settings: Settings) -> tuple[str, Answering]:
        listener = self._stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        looped = Looped()
        more = {"tickets": self.tickets(box), "cache": self.cache(box), "jobs": self.jobs(box)}
        app = create_app(box, tokens, settings, **more)

        async def main(ready: threading.Event, stop: asyncio.Event) -> None:
            servers: list[uvicorn.Server] = []
            serving = asyncio.create_task(serve(app, listener, on_ready=servers.append))
            while not (servers and servers[0].started):
                assert not serving.done(), serving.exception()
                await asyncio.sleep(0.01)
            ready.set()
            await stop.wait()
            servers[0].should_exit = True
            await serving

        looped.run(main)
        self._stack.callback(looped.stop)
        self.stop = looped.stop
        return f"http://127.0.0.1:{listener.getsockname()[1]}", app.state.answering


@pytest.fixture
def first_token_ms() -> int:
    """How long a provider may be silent: longer than a loaded machine is; tests of silence itself say less."""
    return 10_000


@pytest.fixture
def worlds(tmp_path: Path, first_token_ms: int, quick_stop: None) -> Iterator[Worlds]:
    with ExitStack() as stack:
        yield Worlds(tmp_path, stack, first_token_ms)


@pytest.fixture
def world(worlds: Worlds) -> World:
    """One provider `alpha`, the engine `small`, FAQ, documents and the last message."""
    return worlds.make()


def without_engine(box: FakeBox) -> None:
    """A `change`: the local model is still loading."""
    box.engines = {name: replace(engine, state="loading") for name, engine in box.engines.items()}
