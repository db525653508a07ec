"""Cuts documents into passages on block and sentence borders; a passage knows the headings that it stands under."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bundler.ingest.readers import Document
from bundler.knowledge.words import sentences

PASSAGE_TOKENS = 160
HEADING = "# "


@dataclass(frozen=True)
class Passage:
    """Characters `start` to `end` of a document's text, and the heading above them ("" for none)."""

    source: str
    title: str
    heading: str
    start: int
    end: int


@dataclass(frozen=True)
class _Piece:
    heading: str
    start: int
    end: int
    tokens: int


def passages(
    document: Document, count_tokens: Callable[[str], int], most_tokens: int = PASSAGE_TOKENS
) -> list[Passage]:
    """Returns the passages of a document, in order, without overlap.

    Args:
        document: Its text; headings are context and stand in no passage, unless they have no text below.
        count_tokens: As the embedding model counts.
        most_tokens: A passage is longer only where a single sentence is.
    """
    pieces = list(_pieces(document.text, count_tokens, most_tokens))
    found: list[Passage] = []
    open_piece: _Piece | None = None
    for piece in pieces:
        fits = (
            open_piece is not None
            and open_piece.heading == piece.heading
            and open_piece.tokens + piece.tokens <= most_tokens
        )
        if open_piece is not None and fits:
            open_piece = _Piece(piece.heading, open_piece.start, piece.end, open_piece.tokens + piece.tokens)
            continue
        if open_piece is not None:
            found.append(_passage(document, open_piece))
        open_piece = piece
    if open_piece is not None:
        found.append(_passage(document, open_piece))
    return found


def _passage(document: Document, piece: _Piece) -> Passage:
    return Passage(document.source, document.title, piece.heading, piece.start, piece.end)


def _pieces(text: str, count_tokens: Callable[[str], int], most_tokens: int) -> Iterator[_Piece]:
    """Yields whole blocks, or sentences of blocks that are too long alone."""
    heading, offset, blocks = "", 0, text.split("\n\n")
    lonely = all(block.startswith(HEADING) for block in blocks)
    for block in blocks:
        start, end = offset, offset + len(block)
        offset = end + 2
        if block.startswith(HEADING) and not lonely:
            heading = block.removeprefix(HEADING)
            continue
        tokens = count_tokens(block)
        if tokens <= most_tokens:
            yield _Piece(heading, start, end, tokens)
            continue
        for first, last in sentences(text, start, end):
            yield _Piece(heading, first, last, count_tokens(text[first:last]))
