"""Vector stores that a profile names: opened once a build, and made into collections that the box searches."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from bundler.capture.row_cuts import row_cuts
from bundler.capture.stores import chroma_folder, files
from bundler.capture.stores.chroma_server import ChromaServer
from bundler.capture.stores.rows import StoreFacts, open_vectors, read_rows
from bundler.fit import snapshot
from bundler.format.errors import BadInput, SourceFailed
from bundler.format.limits import CHUNK_BYTES_SMALL
from bundler.format.store import COSINE, CollectionSpec, StoreSpec
from bundler.knowledge.reading import Embeds, Vectors
from bundler.knowledge.same_answers import Asked
from bundler.local import local_path, sized
from bundler.plan import Found
from bundler.profile.model import Profile
from bundler.profile.vectors import CHROMA, VectorsEntry
from bundler.repository.survey import Captured

PREFIX = "vectors"
_EMBEDDED_AT_ONCE = 2_048
# Beside each row's vector stand about three of its sentences.
_VECTORS_A_ROW = 4
_KINDS = {
    "texts.jsonl": "texts",
    "chunks.jsonl": "chunks",
    "rows.jsonl": "texts",
    "search.json": "chunks",
    "sentences.jsonl": "chunks",
    "vectors.npy": "vectors",
    "sentences.npy": "vectors",
    "answers.jsonl": "answers",
    "store.json": "config",
}


class Store(Protocol):
    """A vector store, ready to be read."""

    def look(self) -> StoreFacts: ...

    def read(self, rows: Path, vectors: Path, *, wants_vectors: bool) -> StoreFacts: ...

    def ask(self, queries: Vectors, k: int) -> list[list[str]] | None: ...


@dataclass(frozen=True)
class Opened:
    """A store of the profile, and what it says of itself."""

    entry: VectorsEntry
    store: Store
    facts: StoreFacts

    def found(self, profile: Profile) -> Found:
        """Returns its size for the plan: about, since the sentences of its texts are not known yet."""
        local = 0
        if not self.entry.url:
            local = sized(PREFIX, self.entry.source, local_path(profile, self.entry.source)).length_bytes
        held = self.facts.rows * self.facts.dimensions * 4 * (1 if self.entry.whole else _VECTORS_A_ROW)
        return Found(PREFIX, self.entry.source, max(local, held), "", "")


def open_store(profile: Profile, entry: VectorsEntry, work: Path) -> Opened:
    """Opens a store; a Chroma directory is copied first.

    Raises:
        BadInput: It is refused.
        SourceFailed: A server does not deliver, or something writes to a directory.
    """
    folder = work / "stores" / entry.name
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _named(entry):
        store = _store(profile, entry, folder)
        return Opened(entry, store, store.look())


@contextmanager
def _named(entry: VectorsEntry) -> Iterator[None]:
    """Puts the name of the store before what is wrong with it: a profile may have several."""
    try:
        yield
    except (BadInput, SourceFailed) as error:
        error.fact = f"[[vectors]] {entry.name}: {error.fact}"
        raise


def _store(profile: Profile, entry: VectorsEntry, folder: Path) -> Store:
    if entry.url:
        return ChromaServer.of(entry, _token(entry), folder)
    path = local_path(profile, entry.source)
    kind = entry.kind or (CHROMA if path.is_dir() else "")
    if kind == CHROMA:
        names = {"collection": entry.collection, "tenant": entry.tenant, "database": entry.database}
        return chroma_folder.open_folder(path, folder / "copy", **names, text_key=entry.text_key)
    if not kind:
        raise BadInput(f"{entry.source}: what kind of store this is cannot be told", 'set kind = "faiss" or "jsonl"')
    texts = local_path(profile, entry.texts) if entry.texts else None
    return files.open_file(kind, path, texts, metric=entry.metric, text_key=entry.text_key)


def _token(entry: VectorsEntry) -> str:
    """Returns what the server asks for; no error shows it, and none of the HTTP library's, which would, comes about."""
    if not entry.token:
        return ""
    name = entry.token.removeprefix("env:")
    token = os.environ.get(name, "").strip()
    if not token:
        raise BadInput(f"its token is in ${name}, which is not set", f"export {name}=...")
    if not (token.isascii() and token.isprintable()):
        raise BadInput(f"${name} is not a token: it holds signs that no token has")
    return token


def specs(profile: Profile, opened: Mapping[str, Opened]) -> tuple[CollectionSpec, ...]:
    """Returns the collections as the box sees them."""
    return tuple(
        CollectionSpec(entry.name, f"{PREFIX}/{entry.name}", StoreSpec(_metric(opened[entry.name]), entry.whole))
        for entry in profile.vectors
    )


def _metric(opened: Opened) -> str:
    return COSINE if opened.entry.reembed else opened.facts.metric


def snapshot_store(opened: Opened, encoder: Embeds, work: Path, say: Callable[[str], None]) -> list[Captured]:
    """Reads a store, proves that it answers as before, and writes its assets.

    Args:
        opened: The store.
        encoder: The profile's embedding model.
        work: The private work folder.
        say: Hears what is being done.

    Raises:
        BadInput: Its vectors are another model's, or it answers otherwise than its vectors say.
    """
    entry, folder = opened.entry, work / "stores" / opened.entry.name
    say(f"reading the vector store {entry.name}")
    with _named(entry):
        facts = opened.store.read(folder / "rows", folder / "vectors", wants_vectors=not entry.reembed)
        rows = list(read_rows(folder / "rows"))
    if len(rows) != facts.rows or not rows:
        raise BadInput(f"the store {entry.name} says that it has {facts.rows} rows and gave {len(rows)}")
    found, texts, metric = None, snapshot.place(entry, rows), _metric(opened)
    if entry.reembed:
        vectors = _embedded(folder / "vectors", texts, encoder)
    else:
        snapshot.refuse_other_model(entry, facts, None, encoder)
        vectors = open_vectors(folder / "vectors", facts)
        found = snapshot.agreement(rows, vectors, encoder)
        snapshot.refuse_other_model(entry, facts, found, encoder)
    asked, queries = snapshot.questions(texts, vectors, metric, encoder)
    recalled = None if entry.reembed else _recall(opened, texts, vectors, asked, queries)
    target = work / "compiled" / PREFIX / entry.name
    say(f"embedding the sentences of {entry.name}" if not entry.whole else f"writing {entry.name}")
    snapshot.write_assets(target, texts, vectors, asked, encoder, whole=entry.whole)
    (target / "store.json").write_bytes(snapshot.store_facts(entry, facts, vectors, found, recalled))
    return [_captured(entry, facts, path) for path in sorted(target.iterdir())]


def _embedded(path: Path, texts: snapshot.Texts, encoder: Embeds) -> Vectors:
    """Embeds every text anew, as documents are: with its title before it."""
    scored = [chunk.scored_text for chunk in texts.chunks()]
    with path.open("wb") as file:
        for start in range(0, len(scored), _EMBEDDED_AT_ONCE):
            file.write(encoder.embed_passages(scored[start : start + _EMBEDDED_AT_ONCE]).astype("<f4").tobytes())
    return np.memmap(path, dtype="<f4", mode="r", shape=(len(scored), encoder.dimensions))


def _recall(opened: Opened, texts: snapshot.Texts, vectors: Vectors, asked: list[Asked], queries: Vectors) -> float:
    """Asks the store itself; what defines its own search exactly has found all by definition."""
    answers = opened.store.ask(queries, len(asked[0].ids))
    if answers is None:
        return 1.0
    metric, least = opened.facts.metric, opened.entry.recall_percent
    found = snapshot.recall(asked, answers, snapshot.scored(texts, vectors, metric, queries, answers))
    if found * 100 < least:
        raise BadInput(
            f"{opened.entry.name}: the store gives {found:.1%} of the rows that are nearest by its own vectors and "
            f"{metric}, expected at least {least} %",
            "its index is damaged, or searches too little (ef_search); rebuild it there, or set recall_percent",
        )
    return found


def _captured(entry: VectorsEntry, facts: StoreFacts, path: Path) -> Captured:
    source = f"{entry.source} [{facts.line}]" if path.name == "store.json" else entry.source
    name, kind = f"{PREFIX}/{entry.name}/{path.name}", _KINDS[path.name]
    return Captured(name, path, kind, "", source, row_cuts(path), CHUNK_BYTES_SMALL)
