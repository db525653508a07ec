"""Whether passages answer a question: the gate before any answer from documents. Refusing beats guessing."""

from __future__ import annotations

from bundler.knowledge.cite import cite
from bundler.knowledge.logistic import Logistic
from bundler.knowledge.passages import Found, Passages
from bundler.knowledge.reading import Vectors
from bundler.knowledge.types import EMPTY, Evidence
from bundler.knowledge.words import names, stems

HITS = 5
FEATURES = ("sentence_cosine", "passage_cosine", "words", "coverage", "name_not_in_passage", "name_not_in_source")


def features(passages: Passages, found: Found, question: str) -> tuple[float, ...]:
    """Returns what speaks for and against a passage, in the order of FEATURES.

    Coverage is the share of the question's words, weighed by idf, that the passage holds. A name or figure of the
    question that the passage lacks speaks against it, however near the rest is.
    """
    weights = {word: passages.lexical.idf(word) for word in set(stems(question))}
    held = sum(weight for word, weight in weights.items() if passages.in_chunk(word, found.chunk))
    coverage = held / sum(weights.values()) if weights else 0.0
    named = names(question)
    strange = any(not passages.in_chunk(word, found.chunk) for word in named)
    foreign = any(not passages.in_source(word, found.chunk) for word in named)
    return found.sentence_cosine, found.passage_cosine, found.words, coverage, float(strange), float(foreign)


def judge(passages: Passages, gate: Logistic, question: str, vector: Vectors) -> Evidence:
    """Returns the evidence of one collection: its best passages, and quotes where the best one opens the gate."""
    found = passages.find(question, vector, HITS)
    if not found:
        return EMPTY
    confidence = gate.probability(features(passages, found[0], question))
    answerable = confidence >= gate.threshold
    citations = cite(passages, found, question, vector) if answerable else ()
    return Evidence(answerable, round(confidence, 4), citations, tuple(passages.hit(item) for item in found))
