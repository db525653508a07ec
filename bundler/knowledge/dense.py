"""Exact nearest neighbours: for the corpora of one box a scan takes milliseconds and misses nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bundler.knowledge.reading import Vectors


class Dense(Protocol):
    """Finds candidates by vector."""

    def candidates(self, vector: Vectors, k: int) -> NDArray[np.int64]:
        """Returns the row numbers of the `k` nearest, nearest first."""


class Exact:
    """Scans all vectors.

    Args:
        vectors: L2-normalised rows.
    """

    def __init__(self, vectors: Vectors) -> None:
        self._vectors = vectors

    def candidates(self, vector: Vectors, k: int) -> NDArray[np.int64]:
        return top(self._vectors @ vector, k)


DenseFactory = Callable[[Vectors], Dense]


def top(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Returns the positions of the `k` largest scores, largest first; equal scores in order of position."""
    count = min(k, len(scores))
    rows = np.argpartition(-scores, count - 1)[:count] if count < len(scores) else np.arange(len(scores))
    return rows[np.lexsort((rows, -scores[rows]))]
