"""Plain text: paragraphs between empty lines; hard-wrapped lines are joined, lists keep their lines."""

from __future__ import annotations

import re

from bundler.ingest.formats.block import Block, Parsed, decoded

_TITLE_CHARS = 120
_WRAPPED_CHARS = 50
_ITEM = re.compile(r"\s*(?:[-*\u2022\u00b7]|\d{1,3}[.)]|[a-z][.)])\s+")
_ENDS = (".", "!", "?", ":", ";")


def parse(data: bytes) -> Parsed:
    paragraphs = re.split(r"\n\s*\n", decoded(data).replace("\r\n", "\n").replace("\r", "\n"))
    blocks = [Block(line) for paragraph in paragraphs for line in unwrapped(paragraph.split("\n"))]
    first = next((block.text for block in blocks if block.text.strip()), "")
    return Parsed(first if len(first) <= _TITLE_CHARS and not first.endswith(_ENDS) else "", blocks)


def unwrapped(lines: list[str]) -> list[str]:
    """Joins lines that an editor wrapped: long ones that end in the middle of a sentence."""
    found: list[str] = []
    last = ""
    for line in lines:
        text = line.strip()
        open_end = bool(found) and not last.endswith(_ENDS) and not _ITEM.match(line)
        if found and ((open_end and (len(last) > _WRAPPED_CHARS or text[:1].islower())) or _goes_on(last, line)):
            found[-1] = f"{found[-1]} {text}"
        else:
            found.append(text)
        last = text
    return found


def _goes_on(last: str, line: str) -> bool:
    """A line that ended with a sentence is joined too where it fills the page."""
    return last.endswith(_ENDS) and len(last) > _WRAPPED_CHARS and not _ITEM.match(line)
