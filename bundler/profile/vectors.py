"""`[[vectors]]`: vector stores to be snapshotted. Pure: nothing is opened here."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from bundler.format.store import METRICS
from bundler.profile.table import Table

KINDS = CHROMA, FAISS, JSONL = ("chroma", "faiss", "jsonl")
SERVER = "chroma:"
TOKEN_HEADERS = ("authorization", "x-chroma-token")
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_SUFFIXES = {".faiss": FAISS, ".index": FAISS, ".jsonl": JSONL}
_ENVIRONMENT = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]*")
# Chroma's own default; the store's approximate search finds about this much of what is really nearest.
RECALL_PERCENT = 90


@dataclass(frozen=True)
class VectorsEntry:
    """A `[[vectors]]`.

    Attributes:
        source: `file:PATH`, or `chroma:URL` of a running server.
        kind: One of KINDS, or "" for a folder, which is Chroma's, and for a file whose name says it.
        collection: Of Chroma; "" where the store has one only.
        tenant: Of Chroma.
        database: Of Chroma.
        token: `env:NAME` of what the server asks for, or "".
        token_header: One of TOKEN_HEADERS.
        texts: `file:PATH` of the texts beside a FAISS file, or "".
        metric: One of METRICS, for JSONL; the others tell it.
        embedding: The name of the embedding model that made the vectors; "" where they are made anew.
        text_key: The metadata that holds a row's text; "" for where the store keeps texts.
        source_key: The metadata that names where a text comes from.
        title_key: The metadata that holds its title.
        reembed: Whether only the texts are taken.
        whole: Whether passages are quoted whole, so that no sentence gets a vector.
        recall_percent: How much of what is really nearest the store itself must find.
    """

    name: str
    source: str
    kind: str
    collection: str
    tenant: str
    database: str
    token: str
    token_header: str
    texts: str
    metric: str
    embedding: str
    text_key: str
    source_key: str
    title_key: str
    reembed: bool
    whole: bool
    recall_percent: int

    @property
    def url(self) -> str:
        """The address of the server; "" for a file."""
        return self.source.removeprefix(SERVER) if self.source.startswith(SERVER) else ""


def read_vectors(tables: Sequence[Table]) -> tuple[VectorsEntry, ...]:
    """Reads the tables; every issue is noted."""
    return tuple(_entry(table) for table in tables)


def of_other_models(entries: Sequence[VectorsEntry], embedding: str) -> list[str]:
    """Returns an issue for each store whose vectors are not said to be of the profile's model, whose name is given."""
    return [
        f"[[vectors]] {entry.name}: embedding is {entry.embedding!r}, and the profile's [embedding] is {embedding!r}: "
        "vectors of two models cannot be compared; name that model there, or set reembed = true, which takes only texts"
        for entry in entries
        if embedding and entry.embedding and entry.embedding != embedding
    ]


def _entry(table: Table) -> VectorsEntry:
    source, given = table.text("source"), table.choice("kind", KINDS) if table.has("kind") else ""
    reembed = table.flag("reembed")
    entry = VectorsEntry(
        name=table.name(),
        source=source,
        kind=given or _told(source),
        collection=table.text("collection", ""),
        tenant=table.text("tenant", "default_tenant"),
        database=table.text("database", "default_database"),
        token=table.text("token", ""),
        token_header=table.choice("token_header", TOKEN_HEADERS, TOKEN_HEADERS[0]),
        texts=table.text("texts", ""),
        metric=table.choice("metric", METRICS, METRICS[0]),
        embedding=table.text("embedding", "") if reembed else table.text("embedding"),
        text_key=table.text("text_key", ""),
        source_key=table.text("source_key", "source"),
        title_key=table.text("title_key", "title"),
        reembed=reembed,
        whole=table.flag("whole"),
        recall_percent=table.integer("recall_percent", RECALL_PERCENT, 1, 100),
    )
    for issue in _issues(entry):
        table.issue(issue)
    table.close()
    return entry


def _told(source: str) -> str:
    if source.startswith(SERVER):
        return CHROMA
    return next((kind for suffix, kind in _SUFFIXES.items() if source.lower().endswith(suffix)), "")


def _issues(entry: VectorsEntry) -> list[str]:
    found = []
    if entry.url:
        found += url_issues(entry.url)
    elif not entry.source.startswith("file:"):
        found.append(f"source is {entry.source!r}, expected file:PATH or chroma:https://HOST:PORT")
    if entry.url and entry.kind != CHROMA:
        found.append(f"kind is {entry.kind!r}, and a chroma: source is of the kind 'chroma'")
    if entry.token and not (entry.url and _ENVIRONMENT.fullmatch(entry.token)):
        found.append('token is "env:NAME", a variable of this process, and goes with a chroma:http(s): source')
    if (entry.kind == FAISS) != bool(entry.texts):
        found.append("texts names the JSONL beside a FAISS file, which holds no texts: one goes with the other")
    return found


def url_issues(url: str) -> list[str]:
    """Returns what keeps a URL from being the address of a server."""
    if "@" in url:  # a password in it goes into no error, which an unattended build writes to its log
        return ["source chroma:... holds a login before its host: it may hold a host and a port only; use `token`"]
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        return [f"source: {error}"]
    plain = parts.scheme == "http" and parts.hostname in _LOOPBACK
    if not plain and parts.scheme != "https":
        return [f"source chroma:{url} must be https (http is for loopback only)"]
    if not parts.hostname or port == 0 or parts.path not in ("", "/") or parts.query or parts.fragment:
        return [f"source chroma:{url} may hold a host and a port only; a token goes into `token`"]
    return []
