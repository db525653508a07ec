"""Chooses the sentences that answer, verbatim with their offsets."""

from __future__ import annotations

from collections.abc import Sequence

from bundler.knowledge.encoder import Vectors
from bundler.knowledge.passages import Found, Passages
from bundler.knowledge.types import Citation

_NEAR = 0.12  # a second sentence is quoted where it is nearly as good as the first
_QUOTED = 3
_WORDS = 0.5


def cite(passages: Passages, found: Sequence[Found], question: str, vector: Vectors) -> tuple[Citation, ...]:
    """Returns up to three quotes, best first; the first comes from the best passage."""
    best = _ranked(passages, found[0], question, vector)
    chosen = [number for value, number in best if value >= best[0][0] - _NEAR][:2]
    for item in found[1:]:
        value, number = _ranked(passages, item, question, vector)[0]
        if value >= best[0][0] - _NEAR / 2:
            chosen.append(number)
    return tuple(_citation(passages, number) for number in chosen[:_QUOTED])


def _ranked(passages: Passages, found: Found, question: str, vector: Vectors) -> list[tuple[float, int]]:
    ranked = []
    for number in passages.sentences_of(found.chunk):
        cosine = float(passages.sentence_vectors[number] @ vector)
        words = passages.lexical.coverage(question, passages.sentence_text(number))
        ranked.append((cosine + _WORDS * words, number))
    return sorted(ranked, key=lambda pair: (-pair[0], pair[1]))


def _citation(passages: Passages, number: int) -> Citation:
    sentence = passages.sentences[number]
    source = passages.chunks[sentence.chunk].source
    return Citation(source, sentence.start, sentence.end, passages.sentence_text(number))
