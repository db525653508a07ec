"""BM25 over stems, exact (Robertson and Zaragoza 2009, "The Probabilistic Relevance Framework", section 3.5)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bundler.knowledge.words import stems

Scores = NDArray[np.float32]
_K1, _B = 1.2, 0.75
_NO_ROWS = np.zeros(0, dtype=np.int64)


class Bm25:
    """Scores all of a fixed list of texts against a query.

    Args:
        texts: Anything with words; their order is the order of scores.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        counts = [Counter(stems(text)) for text in texts]
        lengths = np.array([sum(count.values()) for count in counts], dtype=np.float32)
        mean = float(lengths.mean()) if len(lengths) and lengths.any() else 1.0
        rows: dict[str, list[tuple[int, int]]] = {}
        for row, count in enumerate(counts):
            for word, times in count.items():
                rows.setdefault(word, []).append((row, times))
        self._size = len(texts)
        self._postings = {word: self._weigh(found, lengths, mean) for word, found in rows.items()}

    def idf(self, word: str) -> float:
        """Returns the weight of a stem; a word that no text holds weighs most."""
        return self._idf(len(self._postings[word][0]) if word in self._postings else 0)

    def scores(self, query: str) -> Scores:
        """Returns one score a text."""
        result = np.zeros(self._size, dtype=np.float32)
        for word in set(stems(query)):
            if word in self._postings:
                rows, weights = self._postings[word]
                result[rows] += weights
        return result

    def rows(self, word: str) -> NDArray[np.int64]:
        """Returns the numbers of the texts that hold a stem."""
        return self._postings[word][0] if word in self._postings else _NO_ROWS

    def share(self, query: str) -> Scores:
        """Returns the scores on a scale that is the same for every query: 1 is what no real text reaches."""
        most = (_K1 + 1) * sum(self.idf(word) for word in set(stems(query)))
        return self.scores(query) / np.float32(most) if most else self.scores(query)

    def coverage(self, query: str, text: str) -> float:
        """Returns the share of the query's stems, weighed by idf, that a text holds: 0 to 1."""
        wanted = set(stems(query))
        held = set(stems(text))
        total = sum(self.idf(word) for word in wanted)
        return sum(self.idf(word) for word in wanted & held) / total if total else 0.0

    def _weigh(self, found: list[tuple[int, int]], lengths: Scores, mean: float) -> tuple[NDArray[np.int64], Scores]:
        rows = np.array([row for row, _ in found], dtype=np.int64)
        times = np.array([count for _, count in found], dtype=np.float32)
        norm = _K1 * (1 - _B + _B * lengths[rows] / mean)
        return rows, (self._idf(len(rows)) * times * (_K1 + 1) / (times + norm)).astype(np.float32)

    def _idf(self, holding: int) -> float:
        return math.log(1 + (self._size - holding + 0.5) / (holding + 0.5))
