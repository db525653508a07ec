"""What every parser returns: the blocks of a document in reading order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Block(NamedTuple):
    """A paragraph, list item, table row or heading; `level` is 1 to 6 for a heading and 0 for the rest."""

    text: str
    level: int = 0


class Parsed(NamedTuple):
    """A document: its title ("" where it has none) and its blocks."""

    title: str
    blocks: Sequence[Block]


def decoded(data: bytes) -> str:
    """Returns text in UTF-8 (with or without a mark), marked UTF-16, or else Windows-1252, as editors save it.

    Raises:
        UnicodeDecodeError: None of them.
    """
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        # Other single-byte encodings decode to the wrong letters; this one has holes where binary files have bytes.
        return data.decode("cp1252")


def row_blocks(rows: Sequence[Sequence[str]]) -> list[Block]:
    """Returns a block a row below the first one, each cell under its name: a row is understood alone."""
    if len(rows) < 2:
        return [Block("; ".join(cell for cell in row if cell)) for row in rows]
    header = rows[0]
    return [Block(_labelled(header, row)) for row in rows[1:]]


def _labelled(header: Sequence[str], row: Sequence[str]) -> str:
    names = [*header, *[""] * len(row)]
    return "; ".join(f"{name}: {cell}" if name else cell for name, cell in zip(names, row, strict=False) if cell)
