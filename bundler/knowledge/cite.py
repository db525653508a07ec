"""Chooses the sentences that answer, verbatim with their offsets."""

from __future__ import annotations

import re
from collections.abc import Sequence

from bundler.knowledge.passages import Found, Passages
from bundler.knowledge.reading import Vectors
from bundler.knowledge.types import Citation

QUOTED = 3
# Another sentence of the passage is quoted where it is nearly as good, and one of another passage where that is.
_NEAR, _NEAR_PASSAGE = 0.15, 0.85
_WORDS, _FIGURE = 0.3, 0.1
_ASKS_FIGURE = re.compile(
    r"\b(?:how (?:many|much|long|often|old|far|fast|soon|quickly|big|large|high|early|late)|when"
    r"|(?:what|which) (?:time|year|date|day|number|percentage|age|size|amount))\b",
    re.IGNORECASE,
)
_FIGURE_WORDS = [
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "once",
    "twice",
    "half",
    "daily",
    "weekly",
    "monthly",
]
_HAS_FIGURE = re.compile(rf"\d|\b(?:{'|'.join(_FIGURE_WORDS)}|\w+day)\b", re.IGNORECASE)


def cite(passages: Passages, found: Sequence[Found], question: str, vector: Vectors) -> tuple[Citation, ...]:
    """Returns up to three quotes; the first comes from the best passage and holds its best sentence."""
    ranked = _ranked(passages, found[0].chunk, question, vector)
    best = ranked[0][0]
    chosen = [number for value, number in ranked[:2] if value >= best - _NEAR]
    quotes = _quotes(passages, chosen, ranked[0][1])
    for item in found[1:]:
        if item.score >= _NEAR_PASSAGE * found[0].score:
            number = _ranked(passages, item.chunk, question, vector)[0][1]
            quotes.append(_quote(passages, number, number))
    return tuple(dict.fromkeys(quotes))[:QUOTED]


def _ranked(passages: Passages, chunk: int, question: str, vector: Vectors) -> list[tuple[float, int]]:
    asks_figure = _ASKS_FIGURE.search(question) is not None
    ranked = []
    for number in passages.sentences_of(chunk):
        text = passages.sentence_text(number)
        value = float(passages.sentence_vectors[number] @ vector) + _WORDS * passages.lexical.coverage(question, text)
        figure = _FIGURE if asks_figure and _HAS_FIGURE.search(text) else 0.0
        ranked.append((value + figure, number))
    return sorted(ranked, key=lambda pair: (-pair[0], pair[1]))


def _quotes(passages: Passages, chosen: Sequence[int], best: int) -> list[Citation]:
    """Neighbours are one quote, as they stand; otherwise the best sentence comes first."""
    if len(chosen) == 2 and abs(chosen[0] - chosen[1]) == 1:
        return [_quote(passages, min(chosen), max(chosen))]
    return [_quote(passages, number, number) for number in sorted(chosen, key=lambda number: number != best)]


def _quote(passages: Passages, first: int, last: int) -> Citation:
    start, end = passages.sentences[first].start, passages.sentences[last].end
    chunk = passages.chunks[passages.sentences[first].chunk]
    return Citation(chunk.source, start, end, chunk.text[start - chunk.start : end - chunk.start])
