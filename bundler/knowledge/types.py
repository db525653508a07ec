"""Results of the knowledge base. `start` and `end` count characters of the extracted text of `source`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Hit:
    """A passage, verbatim: `text` is exactly `start` to `end` of its source; a higher score is better.

    `id` is that of a vector store's row; "" for a passage of a document.
    """

    text: str
    source: str
    start: int
    end: int
    score: float
    collection: str
    id: str = ""


@dataclass(frozen=True)
class FaqMatch:
    """An FAQ entry."""

    id: str
    question: str
    answer: str


@dataclass(frozen=True)
class FaqResult:
    """The entry that answers, or None; `confidence` is the fitted probability that it is the right one."""

    match: FaqMatch | None
    confidence: float
    suggestions: tuple[FaqMatch, ...]


@dataclass(frozen=True)
class RouteResult:
    """The label, or None where the router abstains; `candidates` are labels with probabilities, best first."""

    label: str | None
    confidence: float
    abstained: bool
    candidates: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Citation:
    """A verbatim quote."""

    source: str
    start: int
    end: int
    quote: str


@dataclass(frozen=True)
class Evidence:
    """Whether the documents answer a question, with the sentences that do."""

    answerable: bool
    confidence: float
    citations: tuple[Citation, ...]
    hits: tuple[Hit, ...]


EMPTY = Evidence(answerable=False, confidence=0.0, citations=(), hits=())
