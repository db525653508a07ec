"""Searches the passages of one collection by sentence cosine, passage cosine and BM25, summed on fixed scales.

Fixed scales, because a score that is normalised a query (ranks, z-scores) makes the loudest part count most where all
parts are weak. `scripts/eval_knowledge` measures it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bundler.knowledge.dense import Dense, top
from bundler.knowledge.lexical import Bm25
from bundler.knowledge.reading import Vectors
from bundler.knowledge.stored import Stored
from bundler.knowledge.types import Hit

CANDIDATES = 50
SENTENCE, PASSAGE, WORDS = 0.4, 0.2, 0.4


@dataclass(frozen=True)
class Chunk:
    """A passage: where it stands, and its title and headings for scoring."""

    source: str
    title: str
    heading: str
    start: int
    end: int
    text: str

    @property
    def context(self) -> str:
        return "\n".join(part for part in (self.title, self.heading) if part)

    @property
    def scored_text(self) -> str:
        """What is embedded and counted: context first, then the passage."""
        return "\n".join(part for part in (self.context, self.text) if part)

    def sentence_in_context(self, sentence: str) -> str:
        """Returns a sentence with what it is about: alone, "it lasts 20 minutes" is near to nothing."""
        named = " - ".join(part for part in (self.title, self.heading) if part)
        return f"{named}: {sentence}" if named else sentence


@dataclass(frozen=True)
class Sentence:
    """Characters `start` to `end` of the source's text, inside chunk number `chunk`."""

    chunk: int
    start: int
    end: int


@dataclass(frozen=True)
class Found:
    """A chunk with what speaks for it: cosines -1 to 1, `words` and `score` about 0 to 1."""

    chunk: int
    score: float
    sentence_cosine: float
    passage_cosine: float
    words: float


class Passages:
    """One collection, loaded.

    Args:
        name: Of the collection.
        chunks: Its passages.
        vectors: A row a chunk.
        sentences: All sentences, in order of their chunks; every chunk has one at least.
        sentence_vectors: A row a sentence: the mean of its vector alone and in context.
        dense: Finds candidates among `vectors`.
        stored: What the vector store said of the rows that these are a snapshot of; None for documents.
    """

    def __init__(
        self,
        name: str,
        chunks: Sequence[Chunk],
        vectors: Vectors,
        sentences: Sequence[Sentence],
        sentence_vectors: Vectors,
        dense: Dense,
        stored: Stored | None = None,
    ) -> None:
        self.name, self.chunks, self.sentences, self.stored = name, chunks, sentences, stored
        self.vectors, self.sentence_vectors, self._dense = vectors, sentence_vectors, dense
        self.lexical = Bm25([chunk.scored_text for chunk in chunks])
        sources = {source: number for number, source in enumerate(dict.fromkeys(chunk.source for chunk in chunks))}
        self._source = np.array([sources[chunk.source] for chunk in chunks], dtype=np.int64)
        owners = np.array([sentence.chunk for sentence in sentences], dtype=np.int64)
        self._first = np.searchsorted(owners, np.arange(len(chunks) + 1))

    def find(self, query: str, vector: Vectors, k: int, allowed: NDArray[np.bool_] | None = None) -> list[Found]:
        """Returns the `k` best chunks, best first; `allowed` masks chunks, for fitting."""
        if not self.chunks:
            return []
        words = self.lexical.share(query)
        sentence = np.maximum.reduceat(self.sentence_vectors @ vector, self._first[:-1])
        dense = self._dense.candidates(vector, CANDIDATES)
        rows = np.union1d(np.union1d(dense, top(words, CANDIDATES)), top(sentence, CANDIDATES))
        if allowed is not None:
            rows = np.flatnonzero(allowed)
        passage = self.vectors[rows] @ vector
        scores = SENTENCE * sentence[rows] + PASSAGE * passage + WORDS * words[rows]
        return [
            Found(int(rows[i]), float(scores[i]), float(sentence[rows[i]]), float(passage[i]), float(words[rows[i]]))
            for i in top(scores, k)
        ]

    def hit(self, found: Found) -> Hit:
        chunk = self.chunks[found.chunk]
        name = self.stored.ids[found.chunk] if self.stored is not None else ""
        return Hit(chunk.text, chunk.source, chunk.start, chunk.end, round(found.score, 4), self.name, name)

    def as_stored(self, vector: Vectors, k: int) -> list[Hit]:
        """Returns the `k` nearest rows of a snapshot as its store ranked them; raises ValueError for documents."""
        if self.stored is None:
            raise ValueError(f"{self.name} is no snapshot of a vector store")
        rows, scores = self.stored.nearest(vector, k)
        found = [Found(int(row), float(score), 0.0, 0.0, 0.0) for row, score in zip(rows, scores, strict=True)]
        return [self.hit(item) for item in found]

    def sentences_of(self, chunk: int) -> range:
        return range(int(self._first[chunk]), int(self._first[chunk + 1]))

    def sentence_text(self, number: int) -> str:
        sentence = self.sentences[number]
        chunk = self.chunks[sentence.chunk]
        return chunk.text[sentence.start - chunk.start : sentence.end - chunk.start]

    def in_chunk(self, word: str, chunk: int) -> bool:
        """Says whether a chunk, with its title and headings, holds a stem."""
        return bool(np.any(self.lexical.rows(word) == chunk))

    def in_source(self, word: str, chunk: int) -> bool:
        """Says whether any chunk of the same source holds a stem."""
        return bool(np.any(self._source[self.lexical.rows(word)] == self._source[chunk]))
