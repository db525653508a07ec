"""PDF: the text layer page by page. Scanned pages have none, which is an error and not an empty document."""

from __future__ import annotations

import io
import re

from pypdf import PdfReader

from bundler.ingest.formats.block import Block, Parsed
from bundler.ingest.formats.text import unwrapped

PAGES_MAX = 5_000
# pypdf inserts this where a word is broken at the end of a line.
_BROKEN_WORD = re.compile(r"(?<=[a-z])-\n(?=[a-z])")


def parse(data: bytes) -> Parsed:
    reader = PdfReader(io.BytesIO(data))
    if reader.is_encrypted:
        raise ValueError("it is encrypted; save it without a password")
    if len(reader.pages) > PAGES_MAX:
        raise ValueError(f"it has {len(reader.pages)} pages, at most {PAGES_MAX}")
    blocks = [Block(text) for page in reader.pages for text in _paragraphs(page.extract_text())]
    if not any(block.text.strip() for block in blocks):
        raise ValueError("it has no text layer: scanned pages must be made searchable first")
    return Parsed(str(reader.metadata.title or "") if reader.metadata else "", blocks)


def _paragraphs(text: str) -> list[str]:
    parts = re.split(r"\n\s*\n", _BROKEN_WORD.sub("", text))
    return [line for part in parts for line in unwrapped(_split_at_short_lines(part.split("\n")))]


def _split_at_short_lines(lines: list[str]) -> list[str]:
    return [line for line in lines if line.strip()]
