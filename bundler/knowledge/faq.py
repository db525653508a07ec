"""The FAQ matcher: exact wording first, then cosine and words over all wordings, with a fitted confidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bundler.knowledge.encoder import Vectors
from bundler.knowledge.lexical import Bm25
from bundler.knowledge.logistic import Logistic
from bundler.knowledge.types import FaqMatch, FaqResult
from bundler.knowledge.words import negated, normal, numbers, stems

WORDS = 0.3
SUGGESTIONS = 3
FEATURES = ("cosine", "dice", "margin", "coverage", "foreign_number", "negation")


@dataclass(frozen=True)
class Ranked:
    """Entries by score, best first, and what speaks for the first one."""

    order: tuple[int, ...]
    features: tuple[float, ...]


class FaqIndex:
    """All wordings of an FAQ, without judgement; the fitting uses it with wordings left out.

    Args:
        entries: The answers.
        wordings: Question and variants of each entry.
        vectors: A row a wording, in the order of the entries.
    """

    def __init__(self, entries: Sequence[FaqMatch], wordings: Sequence[Sequence[str]], vectors: Vectors) -> None:
        self.entries, self.vectors = entries, vectors
        self.texts = [text for group in wordings for text in group]
        self.owners = np.array([number for number, group in enumerate(wordings) for _ in group], dtype=np.int64)
        self._stems = [frozenset(stems(text)) for text in self.texts]
        whole = [" ".join((*group, entry.answer)) for entry, group in zip(entries, wordings, strict=True)]
        self._answers = [frozenset(stems(entry.answer)) for entry in entries]
        self._numbers = [numbers(text) for text in whole]
        self._negated = [negated(text) for text in self.texts]
        self._lexical = Bm25(whole)
        self.exact = {normal(text): int(owner) for text, owner in zip(self.texts, self.owners, strict=True)}

    def rank(self, question: str, vector: Vectors, allowed: NDArray[np.bool_] | None = None) -> Ranked:
        """Ranks the entries; `allowed` masks wordings for leave-one-out fitting."""
        wanted = frozenset(stems(question))
        cosines = self.vectors @ vector
        dice = self._dice(wanted)
        scores = cosines + WORDS * dice
        if allowed is not None:
            scores = np.where(allowed, scores, -np.inf)
        best_row: dict[int, int] = {}
        for row in np.argsort(-scores, kind="stable"):
            if np.isfinite(scores[row]):
                best_row.setdefault(int(self.owners[row]), int(row))
            if len(best_row) > SUGGESTIONS:
                break
        order = tuple(best_row)
        first = best_row[order[0]]
        margin = float(scores[first] - scores[best_row[order[1]]]) if len(order) > 1 else 1.0
        coverage = self._share(wanted, self._held(order[0], allowed))
        foreign = bool(numbers(question) - self._numbers[order[0]])
        differs = negated(question) != self._negated[first]
        features = (float(cosines[first]), float(dice[first]), margin, coverage, float(foreign), float(differs))
        return Ranked(order, features)

    def _held(self, entry: int, allowed: NDArray[np.bool_] | None) -> frozenset[str]:
        """Returns the stems of an entry, less those of wordings that are left out."""
        mine = self.owners == entry if allowed is None else (self.owners == entry) & allowed
        return self._answers[entry].union(*(self._stems[row] for row in np.flatnonzero(mine)))

    def _dice(self, wanted: frozenset[str]) -> NDArray[np.float32]:
        return np.array([self._overlap(wanted, held) for held in self._stems], dtype=np.float32)

    def _overlap(self, one: frozenset[str], two: frozenset[str]) -> float:
        total = self._weight(one) + self._weight(two)
        return 2 * self._weight(one & two) / total if total else 0.0

    def _share(self, wanted: frozenset[str], held: frozenset[str]) -> float:
        total = self._weight(wanted)
        return self._weight(wanted & held) / total if total else 0.0

    def _weight(self, words: frozenset[str]) -> float:
        return sum(self._lexical.idf(word) for word in words)


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
