"""The box's own endpoints: ask, FAQ, route, search, embeddings, models, health, metrics and the pages."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest

from appliance.engine.fit import Fit, Plan
from appliance.engine.need import Need
from appliance.settings import Settings
from bundler.format.errors import Busy
from bundler.format.service import FaqSpec, RungSpec
from bundler.format.store import CollectionSpec

if TYPE_CHECKING:
    from tests.appliance.routes.conftest import FakeBox, World, Worlds


@pytest.mark.parametrize(
    ("question", "rung", "answer", "sources"),
    [
        ("when are you open?", "helpdesk", "The helpdesk is open from 07:30 to 18:30.", ["faq:hours"]),
        (
            "how fast is the wipe?",
            "handbook",
            "Laptops that are lost are wiped remotely within 30 minutes of the call.",
            ["lost-device.md"],
        ),
        ("what is the meaning of life?", "message", "I will not guess.\n\nPlease phone 100.", []),
    ],
)
def test_ask_climbs_its_ladder(world: World, question: str, rung: str, answer: str, sources: list[str]) -> None:
    """FAQ, then documents, then the refusal with the hand-off; citations quote what they rest on."""
    reply = world.http.post("/v1/ask", json={"question": question})
    found = reply.json()
    assert (found["rung"], found["answer"]) == (rung, answer)
    assert [cited["source"] for cited in found["citations"]] == sources
    assert all(cited["quote"] and cited["end"] - cited["start"] == len(cited["quote"]) for cited in found["citations"])
    assert (found["confidence"] is not None) == bool(sources)
    assert reply.headers["X-Lifeboat-Rung"] == rung
    assert reply.headers["X-Lifeboat-Mode"] == "NORMAL"
    assert world.cloud.asked == []


def _beside(*ask: str, chat: tuple[str, ...] = ("small", "message")) -> Callable[[FakeBox], None]:
    """Returns a change of the box: an FAQ `office` and a collection `house` that know nothing, and these ladders."""

    def change(box: FakeBox) -> None:
        service, ladder = box.service, box.service.ladder
        rungs = (*ladder.rungs, RungSpec("office", "faq", "office"), RungSpec("house", "documents", "house"))
        box.service = replace(
            service,
            collections=(*service.collections, CollectionSpec("house", "documents/house")),
            faqs=(*service.faqs, FaqSpec("office", "faq/office")),
            ladder=replace(ladder, rungs=rungs, ask=ask, chat=chat),
        )

    return change


@pytest.mark.parametrize("question", ["when are you open?", "how fast is the wipe?"])
def test_a_rung_answers_from_what_it_names_alone(worlds: Worlds, question: str) -> None:
    """What another FAQ or another collection knows is no answer of a ladder that does not name it."""
    world = worlds.make(change=_beside("office", "house", "message"))
    assert world.http.post("/v1/ask", json={"question": question}).json()["rung"] == "message"
    world = worlds.make(change=_beside("office", "house", "helpdesk", "handbook", "message"))
    assert world.http.post("/v1/ask", json={"question": question}).json()["rung"] in ("helpdesk", "handbook")


@pytest.mark.parametrize(("named", "passages"), [(("house",), False), (("handbook",), True), ((), True)])
def test_a_model_gets_passages_of_what_its_ladder_names(
    worlds: Worlds, named: tuple[str, ...], *, passages: bool
) -> None:
    """Of every collection where it names none."""
    world = worlds.make(change=_beside("message", chat=("small", *named, "message")))
    world.chat("how fast is the wipe?")
    assert ("wiped remotely" in str(world.engine.asked[0]["messages"])) is passages


def test_ask_may_go_on_to_models(worlds: Worlds) -> None:
    """A ladder that lists providers and models reaches them after FAQ and documents."""
    world = worlds.make(ask=("helpdesk", "handbook", "alpha", "small", "message"))
    found = world.http.post("/v1/ask", json={"question": "why?"}).json()
    assert (found["rung"], found["answer"]) == ("alpha", "[alpha] one two three four")
    assert found["lifeboat"]["reason"] == [
        "helpdesk: no FAQ entry answers this question",
        "handbook: the documents do not answer this question",
    ]
    world.cloud.stop()
    found = world.http.post("/v1/ask", json={"question": "why?"}).json()
    assert (found["rung"], found["citations"]) == ("small", [])


def test_faq(world: World) -> None:
    """A match, or null with suggestions."""
    found = world.http.post("/v1/faq", json={"question": "open?"}).json()
    assert found["match"]["id"] == "hours"
    found = world.http.post("/v1/faq", json={"question": "other"}).json()
    assert found["match"] is None
    assert found["suggestions"][0]["id"] == "hours"


def test_route(world: World) -> None:
    """A label with candidates, or an abstention."""
    found = world.http.post("/v1/route", json={"input": "the printer smokes", "router": "tickets"}).json()
    assert (found["label"], found["abstained"]) == ("printing", False)
    assert found["candidates"][1] == {"label": "network", "confidence": 0.1}
    assert world.http.post("/v1/route", json={"input": "hm"}).json()["label"] is None


def test_search(world: World) -> None:
    """Hits carry text, source, place and score."""
    hits = world.http.post("/v1/search", json={"query": "wipe", "collection": "handbook"}).json()["hits"]
    assert hits[0].keys() == {"text", "source", "start", "end", "score", "collection"}
    assert world.http.post("/v1/search", json={"query": "wipe", "top_k": 1}).json()["hits"] == hits


@pytest.mark.parametrize("encoding", ["base64", "float", None])
def test_embeddings_through_the_client(world: World, encoding: str | None) -> None:
    """Base64 (what the client asks for by default) and numbers are the same vectors."""
    options = {"encoding_format": encoding} if encoding else {}
    found = world.openai.embeddings.create(model="mini", input=["a bc", "d"], **options)  # type: ignore[arg-type]  # parametrised
    vectors = [item.embedding for item in found.data]
    if encoding == "base64":
        assert all(isinstance(vector, str) for vector in vectors)
        return
    assert [len(vector) for vector in vectors] == [4, 4]
    assert sum(value * value for value in vectors[0]) == pytest.approx(1, abs=1e-6)
    assert (found.model, found.usage.prompt_tokens) == ("mini", 3)


def test_a_large_request_for_embeddings_holds_no_thread(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """While many such requests wait for their vectors, questions are answered."""
    waiting: list[Future[Any]] = []

    def submit(_ids: Any) -> Future[Any]:
        waiting.append(Future())
        return waiting[-1]

    monkeypatch.setattr(world.box.encoder, "submit", submit)
    with ThreadPoolExecutor(4) as pool:
        body = {"model": "mini", "input": ["x"] * 2000}
        asked = [pool.submit(world.http.post, "/v1/embeddings", json=body) for _ in range(4)]
        while len(waiting) < 4:
            time.sleep(0.01)
        assert world.http.post("/v1/route", json={"input": "the printer"}).status_code == 200
        for future in waiting:
            future.set_result(np.zeros((2000, 4), np.float32))
        assert [len(reply.result().json()["data"]) for reply in asked] == [2000] * 4


def test_a_full_queue_of_embeddings_asks_to_come_back(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the threads are taken."""

    def submit(_ids: Any) -> Future[Any]:
        raise Busy("2000000 tokens wait to be embedded", "try again in a moment")

    monkeypatch.setattr(world.box.encoder, "submit", submit)
    reply = world.http.post("/v1/embeddings", json={"model": "mini", "input": "x"})
    assert reply.status_code == 429
    assert "Retry-After" in reply.headers


def test_an_empty_text_has_no_vector(world: World) -> None:
    """It is refused, as OpenAI does, and its place is told."""
    reply = world.http.post("/v1/embeddings", json={"model": "mini", "input": ["x", ""]})
    assert (reply.status_code, reply.json()["error"]["message"]) == (400, "text 1 of input is empty")


def test_embeddings_never_cross_models(world: World) -> None:
    """A chat model's name, or another provider's, is a 404 with the name that there is."""
    for name in ("small", "text-embedding-3-small"):
        reply = world.http.post("/v1/embeddings", json={"model": name, "input": "x"})
        assert reply.status_code == 404
        assert "mini" in reply.json()["error"]["message"]


def test_models_lists_every_name_that_is_taken(world: World) -> None:
    """And each can be looked up."""
    names = [model.id for model in world.openai.models.list()]
    assert names == ["auto", "alpha", "small", "alpha-large", "mini"]
    assert world.openai.models.retrieve("small").owned_by == "lifeboat"
    assert world.http.get("/v1/models/org/none").status_code == 404


def test_ready_tells_version_device_and_rungs(world: World) -> None:
    """Everything that an operator asks, with the reasons."""
    world.cloud.stop()
    world.chat()
    world.chat()  # each request asked twice: the third refusal opens the breaker
    found = world.http.get("/health/ready").json()
    assert (found["ready"], found["mode"], found["version"], found["bundle"]) == (True, "LOCAL", 3, "b-1")
    assert found["device"] == {"small": "cpu", "mini": "CPUExecutionProvider"}
    assert found["engines"] == [{"name": "small", "state": "ready", "reason": "", "restarts": 0, "last_end": ""}]
    assert found["embedding_precision"] == "fp32"
    states = {rung["rung"]: rung["state"] for rung in found["rungs"]}
    assert states == {
        "alpha": "failing",
        "small": "ready",
        "helpdesk": "ready",
        "handbook": "ready",
        "message": "ready",
    }
    assert "connection refused" in found["rungs"][0]["reason"]


def _fitted(box: FakeBox) -> None:
    memory = Need(100, 200, 300, 50, 0, 0, 0)
    plan = Plan(0, 4096, 3, "f16", flash=False, threads=2, batch_threads=2)
    box.engines["small"].fit = Fit(plan, memory, 4000, 0, 500, ("It runs on the CPU.",))


def test_ready_tells_how_each_model_runs_and_why(worlds: Worlds) -> None:
    """The plan, its bytes and its sentences; null where the model does not run."""
    found = worlds.make(change=_fitted).http.get("/health/ready").json()["models"]
    assert [model["name"] for model in found] == ["small"]
    fit = found[0]["fit"]
    assert (fit["context_tokens"], fit["sequences"], fit["kv_type"], fit["threads"]) == (4096, 3, "f16", 2)
    assert (fit["memory"]["host_cache_bytes"], fit["memory"]["free_bytes"]) == (200, 4000)
    assert fit["reasons"] == ["It runs on the CPU."]
    assert worlds.make().http.get("/health/ready").json()["models"][0]["fit"] is None


def _empty(box: FakeBox) -> None:
    box.knowledge = box.encoder = None
    box.engines["small"].state, box.engines["small"].reason = "failed", "no memory"
    box.policy.egress = ()


def test_ready_is_503_when_only_regret_is_left(worlds: Worlds) -> None:
    """The last message is no service; chat still gets it rather than nothing."""
    world = worlds.make(change=_empty)
    reply = world.http.get("/health/ready")
    assert (reply.status_code, reply.json()["ready"]) == (503, False)
    assert {rung["rung"]: rung["state"] for rung in reply.json()["rungs"]}["small"] == "failed"
    assert world.chat().json()["lifeboat"]["rung"] == "message"


def test_live_and_status_need_no_token(world: World) -> None:
    """The public facts hold no reason, no address and no title."""
    assert httpx.get(f"{world.url}/health/live", trust_env=False).json() == {"live": True}
    found = httpx.get(f"{world.url}/status.json", trust_env=False).json()
    assert found.keys() == {"mode", "pinned", "version", "ready", "rungs"}
    assert all(rung.keys() == {"rung", "kind", "state"} for rung in found["rungs"])


def test_metrics(world: World) -> None:
    """Answers by rung and mode, skips, errors, readiness; no path of a scan becomes a series."""
    world.chat()
    world.cloud.stop()
    world.events()
    world.events()
    world.http.get("/some/scan")
    page = world.http.get("/metrics").text
    chat = 'endpoint="/v1/chat/completions"'
    assert f'lifeboat_answers_total{{{chat},mode="NORMAL",rung="alpha"}} 1.0' in page
    assert f'lifeboat_answers_total{{{chat},mode="LOCAL",rung="small"}} 2.0' in page
    assert 'lifeboat_rung_skips_total{rung="alpha"} 2.0' in page
    assert 'lifeboat_mode{mode="LOCAL"} 1.0' in page
    assert 'lifeboat_errors_total{endpoint="other",status="404"} 1.0' in page
    assert "scan" not in page


@pytest.mark.parametrize("path", ["/", "/status", "/app.js", "/status.js", "/style.css", "/icon.svg"])
def test_pages_are_static_and_confined(world: World, path: str) -> None:
    """Served without a token, under a policy that allows nothing inline and nothing from elsewhere."""
    reply = httpx.get(world.url + path, trust_env=False)
    assert reply.status_code == 200
    policy = reply.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    assert "http://" not in reply.text.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in reply.text


@pytest.mark.parametrize("path", ["/", "/status"])
def test_pages_hold_no_inline_code(world: World, path: str) -> None:
    """What the policy forbids is not there either."""
    page = httpx.get(world.url + path, trust_env=False).text
    assert "style=" not in page
    assert "onclick" not in page
    assert page.count("<script") == page.count("<script src=")


def test_every_reply_carries_the_security_headers(world: World) -> None:
    """Errors, API answers and streams too."""
    for reply in (world.http.get("/nowhere"), world.http.get("/v1/models"), world.chat(stream=True)):
        assert reply.headers["Cache-Control"] == "no-store"
        assert "default-src 'none'" in reply.headers["Content-Security-Policy"]


def test_the_ca_certificate_is_served_where_there_is_one(worlds: Worlds, world: World) -> None:
    """Without TLS there is none."""
    assert world.http.get("/ca.crt").status_code == 404


def test_the_ca_certificate(worlds: Worlds) -> None:
    """The certificate comes as it was set."""
    world = worlds.make(settings=Settings(ca_pem=b"-----BEGIN CERTIFICATE-----\n"))
    assert world.http.get("/ca.crt").content.startswith(b"-----BEGIN")
