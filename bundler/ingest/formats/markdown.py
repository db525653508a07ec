"""Markdown (CommonMark with tables)."""

from __future__ import annotations

from collections.abc import Sequence

from markdown_it import MarkdownIt
from markdown_it.token import Token

from bundler.ingest.formats.block import Block, Parsed, decoded, row_blocks


def parse(data: bytes) -> Parsed:
    tokens = MarkdownIt("commonmark").enable("table").parse(_without_front_matter(decoded(data)))
    blocks: list[Block] = []
    rows: list[list[str]] | None = None
    level = 0
    for token in tokens:
        if token.type == "table_open":
            rows = []
        elif token.type == "table_close" and rows is not None:
            blocks, rows = blocks + row_blocks(rows), None
        elif token.type == "tr_open" and rows is not None:
            rows.append([])
        elif token.type == "heading_open":
            level = int(token.tag[1:])
        elif token.type == "inline":
            text = _inline(token.children or [])
            if rows:
                rows[-1].append(text)
            else:
                blocks.append(Block(text, level))
            level = 0
        elif token.type in ("fence", "code_block"):
            blocks.append(Block(token.content))
    return Parsed(next((block.text for block in blocks if block.level), ""), blocks)


def _inline(children: Sequence[Token]) -> str:
    breaks = ("softbreak", "hardbreak")
    shown = ("text", "code_inline", "image")
    return "".join(" " if child.type in breaks else child.content for child in children if child.type in breaks + shown)


def _without_front_matter(text: str) -> str:
    """Front matter between two lines of `---` belongs to site generators, not to the reader."""
    if not text.startswith("---\n"):
        return text
    head, mark, rest = text[4:].partition("\n---\n")
    return rest if mark and ":" in head else text
