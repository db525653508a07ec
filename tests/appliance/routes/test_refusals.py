"""What the edge refuses, each in OpenAI's error shape, and what it never says."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
import openai
import pytest

from appliance.settings import Settings

if TYPE_CHECKING:
    from tests.appliance.routes.conftest import FakeBox, World, Worlds

GOOD = [{"role": "user", "content": "x"}]
BAD_CHATS: list[tuple[dict[str, Any], str]] = [
    ({}, "messages"),
    ({"messages": []}, "messages"),
    ({"messages": "x"}, "messages"),
    ({"messages": [{"role": "boss", "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "user", "content": 3}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": [{"text": "x"}]}]}, "type"),
    ({"messages": GOOD, "temperature": "hot"}, "temperature"),
    ({"messages": GOOD, "temperature": 3}, "temperature"),
    ({"messages": GOOD, "top_p": -1}, "top_p"),
    ({"messages": GOOD, "max_tokens": 0}, "max_tokens"),
    ({"messages": GOOD, "n": 1.5}, "n"),
    ({"messages": GOOD, "stream": "yes"}, "stream"),
    ({"messages": GOOD, "stop": [1]}, "stop"),
    ({"messages": GOOD, "model": None}, "model"),
    ({"messages": GOOD, "seed": 2**64}, "seed"),
]


def _error(response: httpx.Response, status: int) -> dict[str, Any]:
    assert response.status_code == status, response.text
    error: dict[str, Any] = response.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert "Traceback" not in response.text
    return error


@pytest.mark.parametrize(("body", "names"), BAD_CHATS)
def test_a_bad_chat_request_names_the_field(world: World, body: dict[str, Any], names: str) -> None:
    """Each wrong field is a 400 that says where."""
    error = _error(world.http.post("/v1/chat/completions", json=body), 400)
    assert names in error["message"]
    assert world.cloud.asked == []


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"a": NaN}'])
@pytest.mark.parametrize("path", ["chat/completions", "ask", "embeddings"])
def test_a_body_that_is_no_json_object_is_a_400(world: World, data: bytes, path: str) -> None:
    """Truncated, foreign or absurdly deep JSON."""
    assert _error(world.http.post(f"/v1/{path}", content=data), 400)["type"] == "invalid_request_error"


def test_a_lone_surrogate_is_no_fault_of_ours(world: World) -> None:
    """Text that has no UTF-8 form is refused, not failed over."""
    data = b'{"messages": [{"role": "user", "content": "\\ud800"}]}'
    assert _error(world.http.post("/v1/chat/completions", content=data), 400)["code"] == "invalid_json"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("search", {"query": ""}),
        ("search", {"query": "x", "top_k": 0}),
        ("search", {"query": "x", "top_k": 101}),
        ("faq", {"question": 1}),
        ("ask", {}),
        ("route", {"input": None}),
        ("embeddings", {"input": []}),
        ("embeddings", {"input": [1, 2]}),
        ("embeddings", {"input": "x", "encoding_format": "int8"}),
        ("embeddings", {"input": "x", "dimensions": 3}),
        ("completions", {"prompt": [1, 2]}),
        ("completions", {}),
    ],
)
def test_bad_input_elsewhere_is_a_400(world: World, path: str, body: dict[str, Any]) -> None:
    """The box's own endpoints are as strict."""
    assert _error(world.http.post(f"/v1/{path}", json=body), 400)["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("path", "body", "known"),
    [
        ("search", {"query": "x", "topk": 3}, "query, top_k, collection"),
        ("faq", {"question": "x", "top_k": 3}, "question"),
        ("ask", {"question": "x", "model": "alpha"}, "question"),
        ("route", {"input": "x", "label": None}, "input, router"),
    ],
)
def test_a_misspelt_field_is_no_default(world: World, path: str, body: dict[str, Any], known: str) -> None:
    """In the box's own shapes a field that is not there is refused with those that are, and nothing is asked."""
    error = _error(world.http.post(f"/v1/{path}", json=body), 400)
    wrong = list(body)[-1]
    assert (error["code"], error["param"]) == ("unknown_field", wrong)
    assert error["message"] == f"there is no field {wrong!r} here; expected one of: {known}"
    assert world.cloud.asked == []


def test_many_strange_fields_make_a_short_error(world: World) -> None:
    """What the caller wrote is told in part: names are cut, and only the first ones are listed."""
    body = {"query": "x", **{f"{number}{'y' * 1000}": 1 for number in range(20)}}
    error = _error(world.http.post("/v1/search", json=body), 400)
    assert len(error["message"]) < 700
    assert len(error["param"]) == 100


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("chat/completions", {"messages": [{"role": "user", "content": "x"}]}),
        ("completions", {"prompt": "x"}),
        ("embeddings", {"input": "x"}),
    ],
)
def test_fields_that_others_send_are_let_through(world: World, path: str, body: dict[str, Any]) -> None:
    """In OpenAI's shapes a client may send what we do not know."""
    assert world.http.post(f"/v1/{path}", json={**body, "x_vendor_option": True}).status_code == 200


def test_an_unknown_model_gets_the_list(world: World) -> None:
    """404 in the shape that the client turns into its own error, with what there is."""
    with pytest.raises(openai.NotFoundError) as caught:
        world.openai.chat.completions.create(model="gpt-9", messages=[{"role": "user", "content": "x"}])
    assert caught.value.code == "model_not_found"
    assert "auto, alpha, small, alpha-large" in caught.value.message


@pytest.mark.parametrize("path", ["search", "route"])
def test_an_unknown_collection_or_router_gets_the_list(world: World, path: str) -> None:
    """404 with the names that exist."""
    body = {"query": "x", "collection": "nope"} if path == "search" else {"input": "x", "router": "nope"}
    assert "handbook" in _error(world.http.post(f"/v1/{path}", json=body), 404)["message"] or path == "route"


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/ask", "/v1/search", "/v1/embeddings", "/v1/rerank"])
def test_every_endpoint_wants_a_token(world: World, path: str) -> None:
    """None, a foreign one and a malformed header are the same 401."""
    for header in ({}, {"Authorization": "Bearer lb_" + "a" * 32}, {"Authorization": f"Basic {world.token}"}):
        response = httpx.post(world.url + path, json={}, headers=header, trust_env=False)
        assert _error(response, 401)["code"] == "invalid_api_key"
        assert response.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("path", ["/v1/models", "/health/ready", "/metrics"])
def test_reading_wants_a_token_too(world: World, path: str) -> None:
    """The list of models, readiness and metrics tell about the box."""
    assert _error(httpx.get(world.url + path, trust_env=False), 401)["type"] == "authentication_error"
    assert world.http.get(path).status_code == 200


def test_the_client_sees_a_wrong_token_as_its_own_error(world: World) -> None:
    """The unmodified client raises AuthenticationError."""
    with pytest.raises(openai.AuthenticationError):
        world.openai.with_options(api_key="lb_wrong").models.list()


def test_a_revoked_token_stops_at_once(world: World) -> None:
    """The running server sees the file change."""
    assert world.http.get("/v1/models").status_code == 200
    world.tokens.revoke(world.tokens.list()[0].id)
    assert world.http.get("/v1/models").status_code == 401


def test_a_scope_is_a_limit(world: World) -> None:
    """A token that may watch may not ask, and the other way round."""
    watch, _ = world.tokens.create("rmm", now_s=1_000, scopes=["monitor"])
    headers = {"Authorization": f"Bearer {watch}"}
    assert world.http.get("/health/ready", headers=headers).status_code == 200
    assert world.http.get("/v1/models", headers=headers).status_code == 401


def test_a_damaged_token_file_lets_nobody_in(worlds: Worlds, tmp_path: Any) -> None:
    """Fail closed, as unavailable and without a path in the answer."""
    world = worlds.make()
    (tmp_path / "tokens.json").write_bytes(b"{}")
    error = _error(world.http.get("/v1/models"), 503)
    assert str(tmp_path) not in error["message"]


def test_a_large_body_is_a_413(world: World) -> None:
    """Over the profile's limit, with and without an announced length."""
    data = b'{"messages": "' + b"x" * 200_000 + b'"}'
    assert _error(world.http.post("/v1/chat/completions", content=data), 413)["code"] == "request_too_large"
    chunked = world.http.post("/v1/chat/completions", content=iter([data[:90_000], data[90_000:]]))
    assert _error(chunked, 413)["code"] == "request_too_large"


def test_a_body_that_never_comes_is_a_408(worlds: Worlds) -> None:
    """A slow sender does not hold a connection for ever."""
    world = worlds.make(settings=Settings(body_wait_s=0.2))
    address = urlsplit(world.url)
    head = (
        f"POST /v1/ask HTTP/1.1\r\nHost: {address.netloc}\r\nAuthorization: Bearer {world.token}\r\n"
        "Content-Length: 10\r\n\r\n{"
    )
    with socket.create_connection((str(address.hostname), address.port or 0), timeout=60) as line:
        line.sendall(head.encode())
        assert line.recv(1000).startswith(b"HTTP/1.1 408")


def test_long_headers_are_a_431(world: World) -> None:
    """Headers have a limit too."""
    assert _error(world.http.get("/v1/models", headers={"X-A": "a" * 40_000}), 431)["code"] == "headers_too_large"


def test_a_foreign_host_is_refused(world: World) -> None:
    """DNS rebinding gets nothing, not even a page."""
    for path in ("/", "/health/live", "/v1/models"):
        assert _error(world.http.get(path, headers={"Host": "evil.example"}), 403)["code"] == "unknown_host"


def test_a_foreign_origin_is_refused(world: World) -> None:
    """A page of another site may not call the box, even with a token."""
    for origin in ("https://evil.example", "null", "http://127.0.0.1:1"):
        error = _error(world.http.get("/v1/models", headers={"Origin": origin}), 403)
        assert error["code"] == "foreign_origin"
    assert world.http.get("/v1/models", headers={"Origin": world.url}).status_code == 200


def test_wrong_paths_and_methods_have_the_same_shape(world: World) -> None:
    """404 and 405 are errors like the others."""
    assert _error(world.http.get("/v2/models"), 404)["code"] == "not_found"
    forgotten = _error(world.http.post("/chat/completions", json={}), 404)
    assert "the API is under /v1" in forgotten["message"]
    assert _error(world.http.get("/v1/chat/completions"), 405)["code"] == "method_not_allowed"
    assert _error(world.http.post("/v1/rerank", json={}), 501)["code"] == "not_implemented"


def test_our_own_fault_is_a_500_without_details(world: World) -> None:
    """An exception's words stay in the log."""
    assert world.box.knowledge is not None
    world.box.knowledge.search = lambda *_: 1 / 0  # type: ignore[method-assign, assignment]  # our bug
    error = _error(world.http.post("/v1/search", json={"query": "x"}), 500)
    assert "division" not in error["message"]
    assert error["code"] == "internal_error"


def _empty(box: FakeBox) -> None:
    box.knowledge = box.encoder = None
    box.engines = {}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("search", {"query": "x"}),
        ("faq", {"question": "x"}),
        ("route", {"input": "x"}),
        ("embeddings", {"input": "x"}),
    ],
)
def test_a_part_that_is_not_loaded_is_a_503(worlds: Worlds, path: str, body: dict[str, Any]) -> None:
    """Not ready is not broken: 503 with Retry-After."""
    response = worlds.make(change=_empty).http.post(f"/v1/{path}", json=body)
    assert _error(response, 503)["code"] == "unavailable"
    assert response.headers["Retry-After"] == "5"


def test_a_full_queue_is_a_429(worlds: Worlds) -> None:
    """Beyond the threads and the queue a request is refused, not kept."""
    world = worlds.make(settings=Settings(knowledge_threads=1))
    assert world.box.knowledge is not None
    world.box.knowledge.wait.clear()
    statuses: list[int] = []

    def one() -> None:
        statuses.append(world.http.post("/v1/search", json={"query": "x"}).status_code)

    threads = [threading.Thread(target=one) for _ in range(7)]
    for thread in threads:
        thread.start()
    while 429 not in statuses:
        assert any(thread.is_alive() for thread in threads)
    world.box.knowledge.wait.set()
    for thread in threads:
        thread.join(60)
    assert sorted(set(statuses)) == [200, 429]
