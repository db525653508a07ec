"""Candidates from an in-memory Chroma, where an operator wants it; exact search is the default.

Chroma gets vectors only: no text, no embedding function (it would download one), no file.
"""

from __future__ import annotations

from itertools import count

import numpy as np
from numpy.typing import NDArray

from bundler.knowledge.dense import Dense
from bundler.knowledge.reading import Vectors

_BATCH = 1_000
_names = count()


class ChromaDense:
    """An in-memory Chroma collection of L2-normalised rows; its search is approximate (HNSW).

    Args:
        vectors: A row a passage.
    """

    def __init__(self, vectors: Vectors) -> None:
        import chromadb
        from chromadb.config import Settings

        client = chromadb.EphemeralClient(Settings(anonymized_telemetry=False))
        # All ephemeral clients of a process share one store: names must differ between versions.
        name, space = f"passages-{next(_names)}", {"hnsw:space": "ip"}
        self._collection = client.create_collection(name, embedding_function=None, metadata=space)
        self._rows = len(vectors)
        for start in range(0, len(vectors), _BATCH):
            part = vectors[start : start + _BATCH]
            self._collection.add(ids=[str(start + number) for number in range(len(part))], embeddings=part)

    def candidates(self, vector: Vectors, k: int) -> NDArray[np.int64]:
        found = self._collection.query(query_embeddings=[vector], n_results=min(k, self._rows), include=[])
        return np.array([int(name) for name in found["ids"][0]], dtype=np.int64)


def chroma(vectors: Vectors) -> Dense:
    """The `DenseFactory` of `serve --dense chroma`."""
    return ChromaDense(vectors)
