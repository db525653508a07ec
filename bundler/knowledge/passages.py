"""Searches the passages of one collection: sentence cosine, passage cosine and BM25, summed as z-scores a query.

Measured on XQuAD (see docs/benchmarks.md): the sum beats each part and reciprocal rank fusion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bundler.knowledge.dense import Dense, top
from bundler.knowledge.encoder import Vectors
from bundler.knowledge.lexical import Bm25
from bundler.knowledge.types import Hit

CANDIDATES = 50


@dataclass(frozen=True)
class Chunk:
    """A passage: where it stands, and its title and heading for scoring."""

    source: str
    title: str
    heading: str
    start: int
    end: int
    text: str

    @property
    def scored_text(self) -> str:
        """What is embedded and counted: context first, then the passage."""
        return "\n".join(part for part in (self.title, self.heading, self.text) if part)


@dataclass(frozen=True)
class Sentence:
    """Characters `start` to `end` of the source's text, inside chunk number `chunk`."""

    chunk: int
    start: int
    end: int


@dataclass(frozen=True)
class Found:
    """A chunk with what speaks for it; cosines are -1 to 1, `sentence` is the number of its nearest sentence."""

    chunk: int
    score: float
    passage_cosine: float
    sentence_cosine: float
    sentence: int


class Passages:
    """One collection, loaded.

    Args:
        name: Of the collection.
        chunks: Its passages.
        vectors: A row a chunk.
        sentences: All sentences, in order of their chunks.
        sentence_vectors: A row a sentence.
        dense: Finds candidates.
    """

    def __init__(
        self,
        name: str,
        chunks: Sequence[Chunk],
        vectors: Vectors,
        sentences: Sequence[Sentence],
        sentence_vectors: Vectors,
        dense: Dense,
    ) -> None:
        self.name, self.chunks, self.sentences = name, chunks, sentences
        self.vectors, self.sentence_vectors, self._dense = vectors, sentence_vectors, dense
        self.lexical = Bm25([chunk.scored_text for chunk in chunks])
        owners = np.array([sentence.chunk for sentence in sentences], dtype=np.int64)
        self._first = np.searchsorted(owners, np.arange(len(chunks) + 1))

    def find(self, query: str, vector: Vectors, k: int) -> list[Found]:
        """Returns the `k` best chunks, best first."""
        words = self.lexical.scores(query)
        rows = np.union1d(self._dense.candidates(vector, CANDIDATES), top(words, CANDIDATES))
        nearest = [self._nearest_sentence(int(row), vector) for row in rows]
        sentence = np.array([cosine for cosine, _ in nearest], dtype=np.float32)
        passage = self.vectors[rows] @ vector
        scores = _z(sentence) + _z(words[rows]) + 0.5 * _z(passage)
        return [
            Found(int(rows[i]), float(scores[i]), float(passage[i]), nearest[i][0], nearest[i][1])
            for i in top(scores, k)
        ]

    def hit(self, found: Found) -> Hit:
        chunk = self.chunks[found.chunk]
        return Hit(chunk.text, chunk.source, chunk.start, chunk.end, round(found.score, 4), self.name)

    def sentences_of(self, chunk: int) -> range:
        return range(int(self._first[chunk]), int(self._first[chunk + 1]))

    def sentence_text(self, number: int) -> str:
        sentence = self.sentences[number]
        chunk = self.chunks[sentence.chunk]
        return chunk.text[sentence.start - chunk.start : sentence.end - chunk.start]

    def _nearest_sentence(self, chunk: int, vector: Vectors) -> tuple[float, int]:
        span = self.sentences_of(chunk)
        cosines = self.sentence_vectors[span.start : span.stop] @ vector
        best = int(np.argmax(cosines))
        return float(cosines[best]), span.start + best


def _z(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    spread = float(scores.std())
    return (scores - scores.mean()) / spread if spread > 1e-9 else np.zeros_like(scores)
