"""Ranks the rows of a snapshot of a vector store as the store did: by its metric, over its vectors alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bundler.format.store import COSINE, IP
from bundler.knowledge.dense import top
from bundler.knowledge.reading import Vectors


@dataclass(frozen=True)
class Stored:
    """What a store said of its rows beside their texts.

    Attributes:
        metric: One of `format.store.METRICS`.
        ids: The store's own, a row each.
        units: The vectors at length 1; a row of zeros stays one.
        norms: Their lengths in the store.
    """

    metric: str
    ids: Sequence[str]
    units: Vectors
    norms: Vectors

    def scores(self, query: Vectors) -> Vectors:
        """Returns how near each row is, larger is nearer: cosine, inner product, or minus the squared distance."""
        cosines: Vectors = self.units @ query
        if self.metric == COSINE:
            length = np.linalg.norm(query)
            near: Vectors = cosines / np.float32(length or 1)
            return near
        inner: Vectors = cosines * self.norms
        if self.metric == IP:
            return inner
        squared: Vectors = 2 * inner - self.norms**2 - np.float32(query @ query)
        return squared

    def scale(self, query: Vectors, row: int) -> float:
        """Returns how large the numbers are that the score of a row comes out of: rounding is a share of that."""
        if self.metric == COSINE:
            return 1.0
        return max(1.0, float(query @ query), float(self.norms[row]) ** 2)

    def row(self, number: int) -> Vectors:
        """Returns a vector as the store had it."""
        found: Vectors = self.units[number] * self.norms[number]
        return found

    def nearest(self, query: Vectors, k: int) -> tuple[NDArray[np.int64], Vectors]:
        """Returns the `k` nearest rows, nearest first, and their scores."""
        scores = self.scores(query)
        rows = top(scores, k)
        return rows, scores[rows]


def stored(metric: str, ids: Sequence[str], vectors: Vectors) -> Stored:
    """Returns a store's rows ready to be ranked; `vectors` are as the store had them and are used up."""
    norms = np.linalg.norm(vectors, axis=1).astype(np.float32)
    divisors = np.where(norms > 0, norms, np.float32(1))
    np.divide(vectors, divisors[:, None], out=vectors)
    return Stored(metric, ids, vectors, norms)
