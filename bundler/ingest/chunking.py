"""Cuts documents into passages on block and sentence borders; a passage knows the headings that it stands under."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from bundler.ingest.readers import Document
from bundler.knowledge.words import sentences

PASSAGE_TOKENS = 160
# A section that is a little longer stays whole: a rest of two sentences would stand without its context.
SECTION_TOKENS = 200
HEADING_JOIN = " > "
_WORD = re.compile(r"\S+\s*")


@dataclass(frozen=True)
class Passage:
    """Characters `start` to `end` of a document's text, and the headings above them ("" for none)."""

    source: str
    title: str
    heading: str
    start: int
    end: int


@dataclass(frozen=True)
class _Piece:
    start: int
    end: int
    tokens: int


@dataclass(frozen=True)
class _Section:
    heading: str
    blocks: tuple[tuple[int, int], ...]


def passages(document: Document, count_tokens: Callable[[str], int]) -> list[Passage]:
    """Returns the passages of a document, in order, without overlap.

    Args:
        document: Its text; headings are context and stand in no passage, unless nothing stands below them.
        count_tokens: As the embedding model counts.
    """
    found = []
    for section in _sections(document):
        pieces = [piece for block in section.blocks for piece in _pieces(document.text, block, count_tokens)]
        for start, end in _packed(pieces):
            found.append(Passage(document.source, document.title, section.heading, start, end))
    return found


def _sections(document: Document) -> Iterator[_Section]:
    """Yields each run of blocks under one heading, with the path of headings below the title."""
    levels = dict(document.headings)
    path: list[tuple[int, str]] = []
    blocks: list[tuple[int, int]] = []
    alone: tuple[int, int] | None = None
    for start, end in _blocks(document.text):
        level = levels.get(start, 0)
        if not level:
            blocks.append((start, end))
            alone = None
            continue
        if blocks:
            yield _Section(_named(path, document.title), tuple(blocks))
            blocks = []
        elif alone is not None and level <= path[-1][0]:
            yield _Section(_named(path[:-1], document.title), (alone,))
        path = [*(item for item in path if item[0] < level), (level, document.text[start:end])]
        alone = (start, end)
    if alone is not None:
        path, blocks = path[:-1], [alone]
    if blocks:
        yield _Section(_named(path, document.title), tuple(blocks))


def _named(path: Sequence[tuple[int, str]], title: str) -> str:
    return HEADING_JOIN.join(text for _, text in path if text != title)


def _blocks(text: str) -> Iterator[tuple[int, int]]:
    offset = 0
    for block in text.split("\n\n"):
        if block.strip():
            yield offset, offset + len(block)
        offset += len(block) + 2


def _pieces(text: str, block: tuple[int, int], count_tokens: Callable[[str], int]) -> Iterator[_Piece]:
    """Yields a block whole, or its sentences where it is long, or words where even a sentence is too long."""
    start, end = block
    tokens = count_tokens(text[start:end])
    if tokens <= SECTION_TOKENS and end - start < SECTION_TOKENS * 8:
        yield _Piece(start, end, tokens)
        return
    for first, last in sentences(text, start, end):
        for part in _cut(text, first, last):
            yield _Piece(*part, count_tokens(text[slice(*part)]))


def _cut(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yields parts of at most so many characters that no model cuts them off unseen."""
    most = PASSAGE_TOKENS * 5
    first = start
    for word in _WORD.finditer(text, start, end):
        if word.end() - first > most and word.start() > first:
            yield first, word.start()
            first = word.start()
    yield first, end


def _packed(pieces: Sequence[_Piece]) -> Iterator[tuple[int, int]]:
    """Yields runs of pieces of about equal length, none much over the size of a passage."""
    total = sum(piece.tokens for piece in pieces)
    share = total if total <= SECTION_TOKENS else total / math.ceil(total / PASSAGE_TOKENS)
    run: list[_Piece] = []
    for piece in pieces:
        length = sum(item.tokens for item in run)
        if run and (length + piece.tokens / 2 > share or length + piece.tokens > SECTION_TOKENS):
            yield run[0].start, run[-1].end
            run = []
        run.append(piece)
    if run:
        yield run[0].start, run[-1].end
