"""Word documents: paragraphs and tables in the order in which they stand."""

from __future__ import annotations

import io
import re
import zipfile

from docx import Document
from docx.table import Table

from bundler.ingest.formats.block import Block, Parsed, row_blocks

MEMBERS_MAX = 20_000
# Text of a word processor packs to a tenth at best, pictures hardly; a small one may be mostly markup.
RATIO_MAX, INFLATED_LEAST = 50, 20_000_000
_HEADING = re.compile(r"(?:Heading|heading) ([1-6])")


def parse(data: bytes) -> Parsed:
    _refuse_bomb(data)
    document = Document(io.BytesIO(data))
    blocks: list[Block] = []
    for item in document.iter_inner_content():
        if isinstance(item, Table):
            blocks += row_blocks([_cells(row) for row in item.rows])
        else:
            blocks.append(Block(item.text, _level(str(item.style.name if item.style else ""))))
    title = document.core_properties.title or next((block.text for block in blocks if block.level), "")
    return Parsed(title, blocks)


def _refuse_bomb(data: bytes) -> None:
    """The library inflates every part, also those that no text is in."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = archive.infolist()
    total = sum(member.file_size for member in members)
    if len(members) > MEMBERS_MAX or total > max(INFLATED_LEAST, RATIO_MAX * len(data)):
        raise ValueError(f"it would unpack to {len(members)} parts of {total} bytes, from {len(data)}")


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
