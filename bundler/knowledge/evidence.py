"""Whether passages answer a question: the gate before any answer from documents. Refusing beats guessing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bundler.knowledge.cite import cite
from bundler.knowledge.encoder import Vectors
from bundler.knowledge.passages import Found, Passages
from bundler.knowledge.types import EMPTY, Evidence

CONSIDERED = 3


@dataclass(frozen=True)
class Gate:
    """A logistic model over what speaks for the best passage, and the least probability that opens the gate."""

    sentence_cosine: float
    passage_cosine: float
    coverage: float
    bias: float
    threshold: float

    def confidence(self, sentence_cosine: float, passage_cosine: float, coverage: float) -> float:
        """Returns the probability that the passage answers, 0 to 1."""
        weighed = self.sentence_cosine * sentence_cosine + self.passage_cosine * passage_cosine
        return 1 / (1 + math.exp(-(weighed + self.coverage * coverage + self.bias)))


def features(passages: Passages, found: Found, question: str) -> tuple[float, float, float]:
    """Returns sentence cosine, passage cosine and the share of the question's words that the passage holds."""
    coverage = passages.lexical.coverage(question, passages.chunks[found.chunk].scored_text)
    return found.sentence_cosine, found.passage_cosine, coverage


def judge(passages: Passages, gate: Gate, question: str, vector: Vectors) -> Evidence:
    """Returns the evidence of one collection: its best passages in order of their own confidence."""
    found = passages.find(question, vector, CONSIDERED + 2)
    if not found:
        return EMPTY
    # The best passage may be second: the gate sees the one that answers, within what retrieval found best.
    judged = [(gate.confidence(*features(passages, item, question)), item) for item in found[:CONSIDERED]]
    confidence = max(value for value, _ in judged)
    first = judged[0][1] if judged[0][0] >= gate.threshold else max(judged, key=lambda pair: pair[0])[1]
    ordered: Sequence[Found] = [first, *(item for item in found if item is not first)]
    answerable = confidence >= gate.threshold
    citations = cite(passages, ordered[:CONSIDERED], question, vector) if answerable else ()
    hits = tuple(passages.hit(item) for item in ordered)
    return Evidence(answerable, round(confidence, 4), citations, hits)
