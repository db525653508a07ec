"""Word documents: paragraphs and tables in the order in which they stand."""

from __future__ import annotations

import io
import re

from docx import Document
from docx.table import Table

from bundler.ingest.formats.block import Block, Parsed, row_blocks

_HEADING = re.compile(r"(?:Heading|heading) ([1-6])")


def parse(data: bytes) -> Parsed:
    document = Document(io.BytesIO(data))
    blocks: list[Block] = []
    for item in document.iter_inner_content():
        if isinstance(item, Table):
            blocks += row_blocks([_cells(row) for row in item.rows])
        else:
            blocks.append(Block(item.text, _level(str(item.style.name if item.style else ""))))
    title = document.core_properties.title or next((block.text for block in blocks if block.level), "")
    return Parsed(title, blocks)


def _level(style: str) -> int:
    found = _HEADING.match(style)
    return int(found[1]) if found else int(style == "Title")


def _cells(row: object) -> list[str]:
    """Returns the cells of a row; one that is merged over columns stands there once a column and is said once."""
    cells, seen = [], set()
    for cell in row.cells:  # type: ignore[attr-defined]  # python-docx ships no types
        if cell._tc not in seen:
            seen.add(cell._tc)
            cells.append(cell.text)
    return cells
