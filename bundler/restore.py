"""Writes a collection of a bundle out as a vector store again: a Chroma directory, a FAISS file, JSONL or `.npy`."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from bundler.capture.stores.faiss_flat import write_flat
from bundler.files import DISK, make_folder, staged
from bundler.fit.snapshot import npy_parts
from bundler.format.bundle import Bundle
from bundler.format.errors import BadInput, Busy
from bundler.format.store import COSINE
from bundler.knowledge import assets
from bundler.knowledge.reading import Vectors
from bundler.knowledge.stored import stored

FORMS = CHROMA, FAISS, JSONL, NPY = ("chroma", "faiss", "jsonl", "npy")
_BATCH = 1_000
_OTHERWISE = "`--as jsonl` writes every collection as it is"
_CHROMA_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,510}[A-Za-z0-9]")
_INT64 = re.compile(r"0|-?[1-9][0-9]{0,17}")


@dataclass(frozen=True)
class Collection:
    """A collection as it goes out: a text, an id and metadata a row, and the vectors as the store had them."""

    name: str
    metric: str
    ids: Sequence[str]
    texts: Sequence[str]
    metadatas: Sequence[Mapping[str, Any]]
    vectors: Vectors

    def rows(self) -> Iterator[dict[str, Any]]:
        for name, text, metadata in zip(self.ids, self.texts, self.metadatas, strict=True):
            yield {"id": name, "text": text, "metadata": dict(metadata)}


def collection_of(bundle: Bundle, name: str) -> Collection:
    """Reads a collection: the snapshot of a vector store, or documents, whose passages then are the rows.

    Raises:
        BadInput: The bundle has no such collection.
        BadBundle: A chunk of it is not what was signed.
    """
    service = bundle.index.service
    spec = next((item for item in service.collections if item.name == name), None)
    if spec is None or service.embedding is None:
        listed = ", ".join(item.name for item in service.collections) or "none"
        raise BadInput(f"the bundle has no collection {name!r}; it has: {listed}")
    read, prefix = bundle.read, spec.prefix
    chunks = assets.load_chunks(read, prefix)
    vectors = assets.read_vectors(read(f"{prefix}/vectors.npy"), service.embedding.dimensions, prefix)
    texts = [chunk.text for chunk in chunks]
    if spec.store is None:
        ids = [f"{chunk.source}#{chunk.start}-{chunk.end}" for chunk in chunks]
        facts = [{"source": chunk.source, "title": chunk.title, "heading": chunk.heading} for chunk in chunks]
        return Collection(name, COSINE, ids, texts, facts, vectors)
    rows = assets.read_lines(read(f"{prefix}/rows.jsonl"))
    told = assets.read_json(read(f"{prefix}/store.json"), "store.json")
    named = str(told.get("collection") or name)
    return Collection(
        named, spec.store.metric, [row["id"] for row in rows], texts, [row["metadata"] for row in rows], vectors
    )


def restore(collection: Collection, form: str, folder: Path, name: str) -> list[Path]:
    """Writes a collection; returns the files, readable by this user alone.

    Args:
        collection: Read from a bundle.
        form: One of FORMS.
        folder: Made if it is new.
        name: What the files are called.

    Raises:
        Busy: A file is there already; none is written over.
    """
    suffixes = {CHROMA: ("",), FAISS: (".faiss", ".jsonl"), JSONL: (".jsonl",), NPY: (".npy", ".jsonl")}[form]
    paths = [folder / f"{name}{suffix}" for suffix in suffixes]
    for path in paths:
        if path.exists() or path.is_symlink():
            raise Busy(f"{path} is there already", "name a new folder")
    make_folder(folder)
    if form == CHROMA:
        _write_chroma(collection, paths[0])
        return paths
    if form == JSONL:
        with staged(paths[0], mode=0o600) as file:
            for row, vector in zip(collection.rows(), collection.vectors, strict=True):
                file.write(_with_vector(row, vector))
        return paths
    with staged(paths[1], mode=0o600) as file:
        file.writelines(json.dumps(row).encode() + b"\n" for row in collection.rows())
    with staged(paths[0], mode=0o600) as file:
        _write_faiss(collection, file) if form == FAISS else file.writelines(npy_parts(collection.vectors))
    return paths


def _with_vector(row: Mapping[str, Any], vector: Vectors) -> bytes:
    """Nine digits bring every float32 back as it was."""
    numbers = ",".join(f"{value:.9g}" for value in vector.tolist())
    return f'{json.dumps(row)[:-1]}, "vector": [{numbers}]}}\n'.encode()


def _write_faiss(collection: Collection, file: IO[bytes]) -> None:
    # FAISS has no cosine, which the inner product of rows of length 1 is.
    vectors = collection.vectors
    if collection.metric == COSINE:
        vectors = stored(COSINE, collection.ids, np.array(vectors)).units
    numbers = [int(name) for name in collection.ids] if all(map(_INT64.fullmatch, collection.ids)) else None
    plain = numbers is None or numbers == list(range(len(numbers)))
    write_flat(file, vectors, collection.metric, None if plain else numbers)


def _write_chroma(collection: Collection, path: Path) -> None:
    """Writes a directory by Chroma itself; it gets its name once it is whole and closed."""
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    before = os.umask(0o077)
    try:
        fresh.mkdir()
        _check_numbers(collection)
        _fill(collection, fresh)
        DISK.rename(fresh, path)
    finally:
        os.umask(before)
        shutil.rmtree(fresh, ignore_errors=True)
    DISK.sync_folder(path.parent)


def _check_numbers(collection: Collection) -> None:
    """Refuses what Chroma would take and round: it has no integers beyond 64 bits."""
    for name, metadata in zip(collection.ids, collection.metadatas, strict=True):
        for key, value in metadata.items():
            items = value if isinstance(value, list) else [value]
            if any(isinstance(item, int) and not -(2**63) <= item < 2**63 for item in items):
                raise BadInput(f"the metadata {key!r} of {name[:80]!r} is no number that Chroma keeps", _OTHERWISE)


def _fill(collection: Collection, folder: Path) -> None:
    import chromadb
    from chromadb.config import Settings
    from chromadb.errors import InvalidArgumentError

    client = chromadb.PersistentClient(str(folder), Settings(anonymized_telemetry=False))
    try:
        made = client.create_collection(
            chroma_name(collection.name), embedding_function=None, metadata={"hnsw:space": collection.metric}
        )
        for start in range(0, len(collection.ids), _BATCH):
            part = slice(start, start + _BATCH)
            made.add(
                ids=list(collection.ids[part]),
                documents=list(collection.texts[part]),
                metadatas=[dict(metadata) or None for metadata in collection.metadatas[part]],
                embeddings=list(collection.vectors[part]),
            )
    except (ValueError, InvalidArgumentError) as error:  # metadata of another store that Chroma's rules do not allow
        raise BadInput(f"Chroma does not take a row of {collection.name}: {str(error)[:300]}", _OTHERWISE) from error
    finally:
        client.close()


def chroma_name(name: str) -> str:
    """Returns a name that Chroma takes (3 to 512 letters, digits, and `._-` inside), the same where it is one."""
    return name if _CHROMA_NAME.fullmatch(name) else f"vectors-{name.strip('._-')}"
