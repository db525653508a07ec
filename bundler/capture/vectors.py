"""Vectors through Chroma: put in, read back in order, and written in the portable form.

A Chroma directory is not a shipping format (its migrations are one-way); `.npy` and JSONL are.
"""

from __future__ import annotations

import io
import secrets
from collections.abc import Sequence
from typing import Any

import numpy as np

from bundler.format.errors import BadInput
from bundler.knowledge.reading import Vectors

_BATCH = 1_000


def through_chroma(vectors: Vectors, documents: Sequence[str]) -> Vectors:
    """Indexes the rows with Chroma in memory and returns what it holds, checked to be the same.

    Raises:
        BadInput: Chroma returned other rows than it was given.
    """
    import chromadb
    from chromadb.config import Settings

    # In memory: a Chroma directory would be the customer's text and vectors in a temporary folder.
    client = chromadb.EphemeralClient(Settings(anonymized_telemetry=False))
    name = f"snapshot-{secrets.token_hex(8)}"  # all ephemeral clients of a process share one store
    collection = client.create_collection(name, embedding_function=None, metadata={"hnsw:space": "ip"})
    try:
        ids = [f"{number:09d}" for number in range(len(vectors))]
        for start in range(0, len(ids), _BATCH):
            part = slice(start, start + _BATCH)
            collection.add(ids=ids[part], embeddings=vectors[part], documents=list(documents[part]))
        rows = snapshot(collection)
    finally:
        client.delete_collection(name)
    if rows.shape != vectors.shape or not np.array_equal(rows, vectors):
        raise BadInput("Chroma returned other vectors than it was given")
    return rows


def snapshot(collection: Any) -> Vectors:
    """Returns all rows of a Chroma collection, in order of their ids."""
    rows: list[tuple[str, Any]] = []
    total = collection.count()
    for offset in range(0, total, _BATCH):
        page = collection.get(include=["embeddings"], limit=_BATCH, offset=offset)
        rows += zip(page["ids"], page["embeddings"], strict=True)
    return np.array([vector for _, vector in sorted(rows, key=lambda row: row[0])], dtype=np.float32)


def npy(vectors: Vectors) -> bytes:
    """Returns the bytes of an `.npy` file, the same for the same rows."""
    out = io.BytesIO()
    np.save(out, np.ascontiguousarray(vectors, dtype=np.float32), allow_pickle=False)
    return out.getvalue()
