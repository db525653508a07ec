"""The FAQ matcher: exact wording first, then cosine and words over all wordings, with a fitted confidence.

Entries may differ in one word (a priority, a site, on or off). So words count by how few entries hold them, a figure or
code that an entry lacks speaks against it, and so do the opposite of what was asked and a name that no entry knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bundler.knowledge.logistic import Logistic
from bundler.knowledge.opposites import OPPOSITES
from bundler.knowledge.reading import Vectors
from bundler.knowledge.types import FaqMatch, FaqResult
from bundler.knowledge.words import names, negated, normal, numbers, plain_stems

SUGGESTIONS = 3
FEATURES = ("cosine", "mean_cosine", "coverage", "margin", "opposed", "foreign_number", "negation", "unknown_name")
# What a rank is made of, beside the cosine of the nearest wording.
_MEAN, _COVERAGE, _OPPOSED, _FOREIGN = 0.5, 0.3, 0.3, 0.2
_ALONE = 0.5  # the margin of an FAQ with one entry

Flags = NDArray[np.bool_]
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Ranked:
    """Entries by score, best first, and what speaks for the first one, in the order of FEATURES."""

    order: tuple[int, ...]
    features: tuple[float, ...]


@dataclass(frozen=True)
class _Holding:
    """Where a word stands: in which wordings, and in the answers of which entries."""

    wordings: Rows
    answers: Rows


class FaqIndex:
    """All wordings of an FAQ, without judgement; the fitting uses it with wordings left out.

    Args:
        entries: The answers.
        wordings: Question and variants of each entry; every entry has one at least.
        vectors: A row a wording, in the order of the entries.
    """

    def __init__(self, entries: Sequence[FaqMatch], wordings: Sequence[Sequence[str]], vectors: Vectors) -> None:
        self.entries, self.vectors = entries, vectors
        self.texts = [text for group in wordings for text in group]
        self.owners: Rows = np.array([number for number, group in enumerate(wordings) for _ in group], dtype=np.int64)
        self._first = np.searchsorted(self.owners, np.arange(len(entries)))
        self._negated = [negated(text) for text in self.texts]
        self._holding = _holdings(self.texts, [entry.answer for entry in entries])
        self._weights = {word: self._idf(len(self._entries_with(word, None))) for word in self._holding}
        self.exact = {normal(text): int(owner) for text, owner in zip(self.texts, self.owners, strict=True)}

    def rank(self, question: str, vector: Vectors, allowed: Flags | None = None) -> Ranked:
        """Ranks the entries; `allowed` masks wordings for leave-one-out fitting."""
        cosines = self.vectors @ vector
        used = np.ones(len(self.texts), dtype=np.bool_) if allowed is None else allowed
        counts = np.bincount(self.owners, weights=used, minlength=len(self.entries))
        total = np.bincount(self.owners, weights=np.where(used, cosines, 0.0), minlength=len(counts))
        mean = total / np.maximum(counts, 1)
        nearest = np.maximum.reduceat(np.where(used, cosines, -np.inf), self._first)
        coverage, opposed, foreign = self._words(question, allowed)
        scores = nearest + _MEAN * mean + _COVERAGE * coverage - _OPPOSED * opposed - _FOREIGN * foreign
        order = np.argsort(-np.where(counts > 0, scores, -np.inf), kind="stable")[: SUGGESTIONS + 1]
        order = order[counts[order] > 0]
        best = order[0]
        margin = float(scores[best] - scores[order[1]]) if len(order) > 1 else _ALONE
        span = np.flatnonzero((self.owners == best) & used)
        differs = negated(question) != self._negated[span[np.argmax(cosines[span])]]
        strange = any(word not in self._holding for word in names(question, acronyms=True))
        found = (nearest[best], mean[best], coverage[best], margin, opposed[best], foreign[best], differs, strange)
        return Ranked(tuple(int(number) for number in order), tuple(float(value) for value in found))

    def _words(
        self, question: str, allowed: Flags | None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Returns for each entry the share of the question's words that it holds, and whether one speaks against it."""
        size, words = len(self.entries), set(plain_stems(question))
        codes = {stemmed for code in numbers(question) for stemmed in plain_stems(code)}
        coverage, opposed, foreign = np.zeros(size), np.zeros(size), np.zeros(size)
        for word in words:
            held = np.zeros(size, dtype=np.bool_)
            held[self._entries_with(word, allowed)] = True
            coverage += self._weight(word) * held
            for opposite in OPPOSITES.get(word, ()):
                against = np.zeros(size, dtype=np.bool_)
                against[self._entries_with(opposite, allowed)] = True
                opposed = np.maximum(opposed, against & ~held)
            if word in codes:
                foreign = np.maximum(foreign, ~held)
        total = sum(self._weight(word) for word in words)
        return coverage / total if total else coverage, opposed, foreign

    def _entries_with(self, word: str, allowed: Flags | None) -> Rows:
        holding = self._holding.get(word)
        if holding is None:
            return np.zeros(0, dtype=np.int64)
        rows = holding.wordings if allowed is None else holding.wordings[allowed[holding.wordings]]
        return np.union1d(self.owners[rows], holding.answers)

    def _weight(self, word: str) -> float:
        return self._weights[word] if word in self._weights else self._idf(0)

    def _idf(self, holding: int) -> float:
        return float(np.log(1 + (len(self.entries) - holding + 0.5) / (holding + 0.5)))


class FaqMatcher:
    """Answers from an FAQ, or declines.

    Args:
        index: The wordings.
        model: Fitted by `bundler.fit.faq`.
    """

    def __init__(self, index: FaqIndex, model: Logistic) -> None:
        self._index, self._model = index, model

    def match(self, question: str, vector: Vectors) -> FaqResult:
        """Returns the entry whose probability reaches the threshold, and what may have been meant otherwise."""
        exact = self._index.exact.get(normal(question))
        if exact is not None:
            return FaqResult(self._index.entries[exact], 1.0, ())
        ranked = self._index.rank(question, vector)
        confidence = self._model.probability(ranked.features)
        found = [self._index.entries[number] for number in ranked.order[:SUGGESTIONS]]
        if confidence >= self._model.threshold:
            return FaqResult(found[0], round(confidence, 4), tuple(found[1:]))
        return FaqResult(None, round(confidence, 4), tuple(found))


def _holdings(texts: Sequence[str], answers: Sequence[str]) -> dict[str, _Holding]:
    in_wordings, in_answers = _rows(texts), _rows(answers)
    none = np.zeros(0, dtype=np.int64)
    return {
        word: _Holding(in_wordings.get(word, none), in_answers.get(word, none))
        for word in in_wordings.keys() | in_answers.keys()
    }


def _rows(texts: Sequence[str]) -> dict[str, Rows]:
    found: dict[str, list[int]] = {}
    for row, text in enumerate(texts):
        for word in set(plain_stems(text)):
            found.setdefault(word, []).append(row)
    return {word: np.array(rows, dtype=np.int64) for word, rows in found.items()}
