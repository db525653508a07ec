"""A running Chroma server, the real one, behind a front that counts, asks for a token, and lies."""

import json
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import chromadb
import numpy as np
import pytest
from chromadb.config import Settings

from bundler.capture.stores import chroma_server
from bundler.capture.stores.chroma_server import ChromaServer
from bundler.capture.stores.rows import open_vectors, read_rows
from bundler.format.errors import BadInput, SourceFailed
from bundler.profile.table import Table
from bundler.profile.vectors import read_vectors
from bundler.stores import open_store

ROWS, SIZE = 1_203, 8
L1 = {"hnsw": {"space": "l1"}}
Change = Callable[[str, int, bytes], tuple[int, bytes]]


@pytest.fixture(scope="module")
def vectors() -> Any:
    return np.random.default_rng(5).normal(size=(ROWS, SIZE)).astype(np.float32)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, chroma_run: Any, vectors: Any) -> Iterator[str]:
    path = tmp_path_factory.mktemp("served") / "chroma"
    client = chromadb.PersistentClient(str(path), Settings(anonymized_telemetry=False))
    made = client.create_collection("notes", embedding_function=None, metadata={"hnsw:space": "ip"})
    made.add(
        ids=[f"n{number}" for number in range(ROWS)],
        documents=[f"note {number}" for number in range(ROWS)],
        metadatas=[{"source": f"s{number % 5}"} for number in range(ROWS)],
        embeddings=list(vectors),
    )
    client.close()
    with chroma_run(path) as url:
        yield url


def plain(_path: str, status: int, body: bytes) -> tuple[int, bytes]:
    return status, body


@dataclass
class Front:
    """Hands requests on to the server; `change` may answer otherwise. Keeps what it saw."""

    behind: str
    change: Change = plain
    token: tuple[str, str] | None = None
    seen: list[str] = field(default_factory=list)

    def answer(self, method: str, path: str, headers: Any, body: bytes) -> tuple[int, bytes]:
        self.seen.append(f"{method} {path}")
        if self.token is not None and headers.get(self.token[0]) != self.token[1]:
            return 401, b'{"error":"AuthError"}'
        request = urllib.request.Request(self.behind + path, body or None, method=method)
        request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request) as answer:
                status, found = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            status, found = error.code, error.read()
        return self.change(path, status, found)


@contextmanager
def fronted(front: Front) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, found = front.answer(self.command, self.path, self.headers, body)
            self.send_response(status)
            if status in (301, 307):
                self.send_header("Location", front.behind + self.path)
            self.send_header("Content-Length", str(len(found)))
            self.end_headers()
            self.wfile.write(found)

        do_GET = do_POST = _serve  # noqa: N815 - the names that http.server looks for

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as served:
        threading.Thread(target=served.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{served.server_port}"
        served.shutdown()


def store(url: str, folder: Path, token: str = "", **options: str) -> ChromaServer:
    issues: list[str] = []
    written = {"name": "notes", "source": f"chroma:{url}", "embedding": "m", **options}
    (entry,) = read_vectors([Table(written, "[[vectors]]", issues)])
    assert issues == []
    return ChromaServer.of(entry, token, folder)


def read(made: ChromaServer, folder: Path) -> Any:
    return made.read(folder / "rows", folder / "vectors", wants_vectors=True)


def test_every_row_comes_page_by_page_and_twice(server: str, tmp_path: Path, vectors: Any) -> None:
    """Rows, vectors and facts are the server's; the second read is what shows that nothing changed."""
    front = Front(server)
    with fronted(front) as url:
        facts = read(store(url, tmp_path), tmp_path)
        assert store(url, tmp_path).ask(vectors[:3], 2)[0][0].startswith("n")
    assert (facts.rows, facts.dimensions, facts.metric, facts.collection) == (ROWS, SIZE, "ip", "notes")
    assert facts.version.startswith("server ")
    rows = list(read_rows(tmp_path / "rows"))
    assert [row.id for row in rows] == [f"n{number}" for number in range(ROWS)]
    assert rows[6].metadata == {"source": "s1"}
    assert np.array_equal(open_vectors(tmp_path / "vectors", facts), vectors)
    assert sum(line.endswith("/get") for line in front.seen) == 2 * 3
    assert not (tmp_path / "pages").exists()


@pytest.mark.parametrize(
    ("header", "sent"), [("authorization", "Bearer s3cret"), ("x-chroma-token", "s3cret")], ids=["bearer", "chroma"]
)
def test_a_token_goes_where_the_server_wants_it(server: str, tmp_path: Path, header: str, sent: str) -> None:
    """With it the rows come; without it the message says what to do, and holds no token."""
    with fronted(Front(server, token=(header, sent))) as url:
        assert store(url, tmp_path, "s3cret", token_header=header).look().rows == ROWS
        with pytest.raises(SourceFailed, match=r"wants a token, or another one \(401\)") as refused:
            store(url, tmp_path, "wr0ng", token_header=header).look()
    assert "wr0ng" not in str(refused.value)
    assert "wr0ng" not in repr(store("http://127.0.0.1:1", tmp_path, "wr0ng"))
    assert "token" in refused.value.hint


@pytest.mark.parametrize("token", ["", "s3cret\nHost: x", "s3crèt"], ids=["none", "lines", "letter"])
def test_a_token_that_is_none_is_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, token: str) -> None:
    """The HTTP library would say what is wrong with it, and the token with that."""
    monkeypatch.setenv("STORE_TOKEN", token)
    issues: list[str] = []
    written = {"name": "notes", "source": "chroma:http://127.0.0.1:9", "embedding": "m", "token": "env:STORE_TOKEN"}
    (entry,) = read_vectors([Table(written, "[[vectors]]", issues)])
    profile: Any = None  # of a server nothing of it is looked at
    with pytest.raises(BadInput, match="STORE_TOKEN") as refused:
        open_store(profile, entry, tmp_path)
    assert "s3cr" not in f"{refused.value} {refused.value.hint}"


def test_a_server_that_is_down_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, with the way out."""
    with pytest.raises(SourceFailed, match="cannot be reached") as refused:
        store("http://127.0.0.1:9", tmp_path).look()
    assert "chroma run" in refused.value.hint


def test_a_server_that_hangs_is_given_up(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time is bounded."""
    monkeypatch.setattr(chroma_server, "TIMEOUT_S", 0.3)
    held = threading.Event()

    def hang(_path: str, status: int, body: bytes) -> tuple[int, bytes]:
        held.wait(5)
        return status, body

    with fronted(Front(server, hang)) as url:
        with pytest.raises(SourceFailed, match="no answer within"):
            store(url, tmp_path).look()
        held.set()


def changed(ending: str, change: Callable[[Any, int], Any]) -> Change:
    """Changes the JSON of answers whose path ends so; `change` gets the value and how often it was called."""
    calls = [0]

    def apply(path: str, status: int, body: bytes) -> tuple[int, bytes]:
        if not path.endswith(ending):
            return status, body
        calls[0] += 1
        return status, json.dumps(change(json.loads(body), calls[0])).encode()

    return apply


def both(first: Change, then: Change) -> Change:
    return lambda path, status, body: then(path, *first(path, status, body))


def more(page: Any, call: int) -> Any:
    return {**page, "documents": [f"{text} {call}" for text in page["documents"]]}


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (changed("/count", lambda value, _: value + 5), "counts 1208 rows before, gives 1203"),
        (changed("/count", lambda value, call: value if call < 2 else value - 1), "counts 1203 after|and counts 1202"),
        (changed("/count", lambda value, _: -1), "counts -1 rows"),
        (changed("/count", lambda value, _: "many"), "counts many rows"),
        (changed("/get", more), "was another at each of 4 reads"),
        (changed("/get", lambda page, _: {**page, "ids": page["ids"][:-1]}), "not one for each id"),
        (changed("/get", lambda page, _: {**page, "embeddings": None}), "no embeddings"),
        (changed("/notes", lambda value, _: {**value, "configuration_json": L1}), "ranks by 'l1'"),
        (changed("/notes", lambda value, _: {**value, "configuration_json": {"hnsw": "flat"}}), "does not describe"),
        (changed("/notes", lambda value, _: {**value, "metadata": "l2"}), "does not describe"),
        (lambda path, status, body: (200, b"<html>hello</html>"), "no JSON"),
        (lambda path, status, body: (307, b""), "answered 307"),
        (changed("/notes", lambda value, _: {**value, "id": "\ud800"}), "no JSON"),
        (changed("/version", lambda value, _: "1\ud800"), "no JSON"),
    ],
    ids=[
        "count", "after", "negative", "word", "moving", "short", "no vectors", "metric", "index", "metadata", "html",
        "redirect", "no text as id", "no text as version",
    ],
)  # fmt: skip
def test_a_server_that_lies_is_not_believed(server: str, tmp_path: Path, change: Change, match: str) -> None:
    """What it counts and what it gives must agree, and stay the same for as long as it is read."""
    with fronted(Front(server, change)) as url, pytest.raises(SourceFailed, match=match):
        read(store(url, tmp_path, collection="notes"), tmp_path)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (changed("/get", lambda page, _: {**page, "ids": [page["ids"][0]] * len(page["ids"])}), "stands twice"),
        (changed("/get", lambda page, _: {**page, "embeddings": [["x"]] * len(page["ids"])}), "not a list of numbers"),
        (changed("/get", lambda page, _: {**page, "documents": [None] * len(page["ids"])}), "has no text"),
        (changed("/get", lambda page, _: {**page, "metadatas": [{"a": "\ud800"}] * len(page["ids"])}), "surrogate"),
        (lambda path, status, body: (status, body.replace(b"[", b"[NaN,", 1) if path.endswith("get") else body), "NaN"),
    ],
)  # fmt: skip
def test_rows_that_cannot_be_are_refused(server: str, tmp_path: Path, change: Change, match: str) -> None:
    """The same rules as for a file, in the confined child."""
    with fronted(Front(server, change)) as url, pytest.raises(BadInput, match=match):
        read(store(url, tmp_path), tmp_path)


def test_a_page_that_repeats_itself_is_found_at_once(server: str, tmp_path: Path) -> None:
    """Ids that came before end the read, and so does a page without rows: nobody asks for two million on end."""
    many, pages = changed("/count", lambda value, _: 2_000_000), list[Any]()

    def second(page: Any, call: int) -> Any:
        pages.append(page)
        return pages[min(call, 2) - 1]

    repeating = changed("/get", second)
    for change, error, match, asked in [
        (repeating, BadInput, "the id 'n500' stands twice", 3),
        (plain, SourceFailed, "counts 2000000 rows before, gives 1203", 4),
    ]:
        front = Front(server, both(many, change))
        with fronted(front) as url, pytest.raises(error, match=match):
            read(store(url, tmp_path), tmp_path)
        assert sum(line.endswith("/get") for line in front.seen) == asked


def test_a_busy_server_is_asked_again(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """503 and 429 pass; a server that stays busy is a failure."""
    monkeypatch.setattr(chroma_server, "_PAUSE_S", 0.01)
    calls = [0]

    def busy(_path: str, status: int, body: bytes) -> tuple[int, bytes]:
        calls[0] += 1
        return (503 if calls[0] % 2 else 200), body

    with fronted(Front(server, busy)) as url:
        assert store(url, tmp_path).look().rows == ROWS
    with fronted(Front(server, lambda *_: (503, b"later"))) as url, pytest.raises(SourceFailed, match="503: later"):
        store(url, tmp_path).look()


def test_all_pages_together_have_their_time(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that gives each page just in time does not hold the build for days."""
    monkeypatch.setattr(chroma_server, "READ_S", 0.0)
    with pytest.raises(SourceFailed, match="took longer than 0 s for 1203 rows") as ended:
        read(store(server, tmp_path), tmp_path)
    assert "copy of its directory" in ended.value.hint


def test_an_answer_is_bounded(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No server fills the builder's memory."""
    monkeypatch.setattr(chroma_server, "PAGE_BYTES_MAX", 1_000)
    with pytest.raises(SourceFailed, match="longer than 1000 bytes"):
        read(store(server, tmp_path), tmp_path)


@pytest.mark.parametrize("listed", [b"7", b"null", b'"notes"'])
def test_a_list_of_collections_that_is_none(server: str, tmp_path: Path, listed: bytes) -> None:
    """Asked where the profile names no collection."""
    front = Front(server, lambda path, status, body: (status, listed if path.endswith("/collections") else body))
    with fronted(front) as url, pytest.raises(SourceFailed, match="answered with no list"):
        store(url, tmp_path).look()


def test_an_answer_that_breaks_off_is_told_as_such(tmp_path: Path) -> None:
    """It is no answer that is too long, and not a whole one either."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{}")

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        with pytest.raises(SourceFailed, match=r"received 2 bytes, expected 1000"):
            store(f"http://127.0.0.1:{listening.getsockname()[1]}", tmp_path, collection="notes").look()
        thread.join(10)


def test_a_collection_that_is_not_there_is_told(server: str, tmp_path: Path) -> None:
    """Which is the operator's to mend."""
    with pytest.raises(BadInput, match="not there"):
        store(server, tmp_path, collection="other").look()
    with pytest.raises(BadInput, match="has the collections: none"):
        store(server, tmp_path, database="other").look()
