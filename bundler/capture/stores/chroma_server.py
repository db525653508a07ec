"""A running Chroma server: read page by page over its HTTP API (v2), until two reads in a row gave the same.

Only bytes are moved here; pages are parsed in the confined child. No redirect is followed, no proxy of the environment
used, nothing is told to anybody but the server.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import h11

from bundler.capture.stores.chroma_child import described_collection
from bundler.capture.stores.chroma_folder import answers_of
from bundler.capture.stores.chroma_ids import SeenIds
from bundler.capture.stores.chroma_wire import Limits, TooLong, exchange
from bundler.capture.stores.rows import ROWS_MAX, StoreFacts, facts_of, printable
from bundler.confine import Confinement, run_confined
from bundler.format import strict_json
from bundler.format.errors import BadInput, SourceFailed
from bundler.format.limits import GIB, MIB
from bundler.format.store import METRICS
from bundler.knowledge.reading import Vectors
from bundler.profile.vectors import CHROMA, TOKEN_HEADERS, VectorsEntry

PAGE_ROWS, PAGE_BYTES_MAX, FACTS_BYTES_MAX = 500, 256 * MIB, 4 * MIB
PAGES_BYTES_MAX = 64 * GIB
TIMEOUT_S, ATTEMPTS, READS = 60.0, 4, 4
# A page may be long, and come over a slow line; nobody waits longer for all of them than for the child that reads them.
PAGE_S, READ_S = 600.0, 3_600.0
_PAUSE_S = 0.5
_BY_FOLDER = 'stop the server and snapshot a copy of its directory: source = "file:FOLDER"'
_AGAIN = (429, 500, 502, 503, 504)
_CHILD = "bundler.capture.stores.chroma_pages"


@dataclass(frozen=True)
class ChromaServer:
    """A collection of a server.

    Attributes:
        url: Its address.
        headers: What goes with every request; they hold the token.
        place: The path of the database.
        collection: Its name; "" where there is one only.
        text_key: As of the profile.
        folder: Where pages are kept until they are parsed.
    """

    url: str
    headers: Mapping[str, str] = field(repr=False)
    place: str
    collection: str
    text_key: str
    folder: Path

    @classmethod
    def of(cls, entry: VectorsEntry, token: str, folder: Path) -> ChromaServer:
        """Returns the server of a profile's entry; nothing is sent yet."""
        place = f"/api/v2/tenants/{quote(entry.tenant, safe='')}/databases/{quote(entry.database, safe='')}/collections"
        headers = {"Accept": "application/json"}
        if token:
            bearer = entry.token_header == TOKEN_HEADERS[0]
            headers[entry.token_header] = f"Bearer {token}" if bearer else token
        return cls(entry.url.rstrip("/"), headers, place, entry.collection, entry.text_key, folder)

    def look(self) -> StoreFacts:
        """Asks what the server is and what the collection holds.

        Raises:
            SourceFailed: It cannot be reached, or does not answer as Chroma does.
            BadInput: There is no such collection.
        """
        found, version = self._found(), self._value("GET", "/api/v2/version")
        told = described_collection(found["configuration_json"], found.get("metadata") or {})
        metric = told.pop("metric")
        if metric not in METRICS:
            raise SourceFailed(f"{self.url} says that the collection ranks by {printable(metric)!r}")
        facts = {"kind": CHROMA, "version": f"server {version}", "collection": found["name"], "metric": metric}
        return facts_of(
            {**facts, "dimensions": found.get("dimension") or 0, "rows": self._count(found["id"]), "details": told}
        )

    def read(self, rows: Path, vectors: Path, *, wants_vectors: bool) -> StoreFacts:
        """Writes every row; see `rows.RowWriter`. Reads until two in a row are equal, byte by byte.

        Raises:
            SourceFailed: It changes all the time, or counts otherwise than it gives.
        """
        before = ""
        for _ in range(READS):
            facts = self._read(rows, vectors, wants_vectors=wants_vectors)
            digest = _digest(rows) + (_digest(vectors) if wants_vectors else "")
            if digest == before:
                return facts
            before = digest
        raise SourceFailed(
            f"{self.url}: the collection was another at each of {READS} reads",
            "stop what writes to it for as long as the snapshot takes",
        )

    def ask(self, queries: Vectors, k: int) -> list[list[str]]:
        """Returns what the server finds for vectors: ids, nearest first."""
        body = {"query_embeddings": queries.astype(float).tolist(), "n_results": k, "include": []}
        found = self._json("POST", f"{self.place}/{self._found()['id']}/query", body)
        return answers_of(found.get("ids"), len(queries))

    def _read(self, rows: Path, vectors: Path, *, wants_vectors: bool) -> StoreFacts:
        facts, pages = self.look(), self.folder / "pages"
        identifier = self._found()["id"]
        taken = self._take(pages, identifier, facts.rows, wants_vectors=wants_vectors)
        limits = Confinement(memory_bytes=6 * GIB, cpu_s=3_600, wall_s=3_600, output_bytes=max(2 * GIB, taken))
        request = {"text_key": self.text_key, "vectors": wants_vectors, "facts": _plain(facts)}
        outputs = {"rows": rows, "vectors": vectors}
        read = run_confined(f"{_CHILD}:read", request, inputs={"pages": pages}, outputs=outputs, confinement=limits)
        pages.unlink()
        found, after = facts_of(read), self._count(identifier)
        if not found.rows == facts.rows == after:
            raise SourceFailed(
                f"{self.url} counts {facts.rows} rows before, gives {found.rows}, and counts {after} after",
                "stop what writes to it for as long as the snapshot takes",
            )
        return found

    def _take(self, pages: Path, identifier: str, rows: int, *, wants_vectors: bool) -> int:
        """Writes all pages to a file, each behind its length; returns how many bytes came."""
        include = ["documents", "metadatas", *(["embeddings"] if wants_vectors else [])]
        taken, until, ids = 0, time.monotonic() + READ_S, SeenIds(PAGE_ROWS)
        with pages.open("wb") as file:
            for offset in range(0, rows, PAGE_ROWS):
                body = {"limit": PAGE_ROWS, "offset": offset, "include": include}
                left_s = until - time.monotonic()
                if left_s <= 0:
                    raise SourceFailed(f"{self.url} took longer than {READ_S:g} s for {rows} rows", _BY_FOLDER)
                limits = Limits(PAGE_BYTES_MAX, TIMEOUT_S, min(PAGE_S, left_s))
                page = self._send("POST", f"{self.place}/{identifier}/get", body, limits)
                taken += len(page)
                if taken > PAGES_BYTES_MAX:
                    raise SourceFailed(f"{self.url} sent more than {PAGES_BYTES_MAX} bytes of rows", _BY_FOLDER)
                file.write(len(page).to_bytes(8, "little") + page)
                if not ids.take(page):
                    break
        return taken

    def _found(self) -> Mapping[str, Any]:
        name = self.collection or self._only()
        found = self._json("GET", f"{self.place}/{quote(name, safe='')}")
        if not _is_description(found):
            raise SourceFailed(f"{self.url} does not describe the collection as Chroma 1.x does")
        return {**found, "id": quote(found["id"], safe="")}

    def _only(self) -> str:
        listed = self._value("GET", self.place)
        if not isinstance(listed, list):
            raise SourceFailed(f"{self.url}{self.place} answered with no list")
        names = [item["name"] for item in listed if isinstance(item, dict) and isinstance(item.get("name"), str)]
        if len(names) != 1:
            shown = ", ".join(printable(name) for name in names[:20]) or "none"
            raise BadInput(f"{self.url} has the collections: {shown}", "name one with `collection`")
        return str(names[0])

    def _count(self, identifier: str) -> int:
        found = self._value("GET", f"{self.place}/{identifier}/count")
        if type(found) is not int or not 0 <= found <= ROWS_MAX:
            raise SourceFailed(f"{self.url} counts {printable(str(found))[:80]} rows, expected 0 to {ROWS_MAX}")
        return found

    def _json(self, method: str, path: str, body: object = None) -> Mapping[str, Any]:
        found = self._value(method, path, body)
        if not isinstance(found, dict):
            raise SourceFailed(f"{self.url}{path} answered with no object")
        return found

    def _value(self, method: str, path: str, body: object = None) -> Any:
        try:
            return strict_json.parse(self._send(method, path, body, Limits(FACTS_BYTES_MAX, TIMEOUT_S, TIMEOUT_S)))
        except ValueError:
            hint = "is this a Chroma server of version 1 or later?"
            raise SourceFailed(f"{self.url}{path} answered with no JSON", hint) from None

    def _send(self, method: str, path: str, body: object, limits: Limits) -> bytes:
        """Sends a request, again after a pause where the server is busy; returns the body of a 200."""
        status, data = 0, b""
        for attempt in range(ATTEMPTS):
            time.sleep(_PAUSE_S * attempt)
            status, data = self._once(method, path, body, limits)
            if status not in _AGAIN:
                break
        if status == 200:
            return data
        said = printable(data[:300].decode(errors="replace"))
        if status in (401, 403):
            raise SourceFailed(f"{self.url} wants a token, or another one ({status})", 'set token = "env:NAME"')
        if status == 404:
            raise BadInput(f"{self.url}{path} is not there: {said}", "see `collection`, `tenant` and `database`")
        raise SourceFailed(f"{self.url}{path} answered {status}: {said}")

    def _once(self, method: str, path: str, body: object, limits: Limits) -> tuple[int, bytes]:
        headers = {**self.headers, **({"Content-Type": "application/json"} if body is not None else {})}
        sent = json.dumps(body).encode() if body is not None else None
        try:
            return exchange(self.url, method, path, headers, sent, limits)
        except TooLong as error:
            raise SourceFailed(f"{self.url}{path}: {error}") from None
        except (OSError, h11.RemoteProtocolError) as error:
            hint = "is it running? `chroma run --path FOLDER` starts one"
            raise SourceFailed(f"{self.url} cannot be reached: {_reason(error)}", hint) from error


def _is_description(found: Mapping[str, Any]) -> bool:
    """Whether a server tells of a collection what `described_collection` can read."""
    configuration = found.get("configuration_json")
    if not isinstance(configuration, dict):
        return False
    parts = (found.get("metadata"), configuration.get("hnsw"), configuration.get("spann"))
    texts = (found.get("id"), found.get("name"))
    return all(isinstance(part or {}, dict) for part in parts) and all(isinstance(text, str) for text in texts)


def _reason(error: Exception) -> str:
    return printable(str(error)) or type(error).__name__


def _plain(facts: StoreFacts) -> dict[str, Any]:
    return {**vars(facts), "details": dict(facts.details)}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
