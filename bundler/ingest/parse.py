"""Turns the bytes of a document into title, text and headings. Runs only inside the confined child."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable, Mapping
from typing import IO, Any

from bundler.ingest.formats.block import Block, Parsed

TEXT_CHARS_MAX = 20_000_000
TITLE_CHARS_MAX = 300
FORMATS = {
    ".txt": "text",
    ".md": "markdown",
    ".html": "html",
    ".htm": "html",
    ".pdf": "pdf",
    ".docx": "docx",
    ".csv": "table",
}
_SPACE = re.compile(r"[^\S\n]+")


def parse_files(request: Mapping[str, Any], inputs: Mapping[str, IO[bytes]], _: Mapping[str, IO[bytes]]) -> Any:
    """Parses each input by the format that `request` names for it.

    Returns:
        By name: `{"title", "text", "headings"}`, or `{"error"}` where this one file cannot be read.
    """
    return {name: _parse(str(request[name]), file.read()) for name, file in inputs.items()}


def _parse(suffix: str, data: bytes) -> dict[str, Any]:
    # Only the library that this format needs is loaded into the child.
    module = importlib.import_module(f"bundler.ingest.formats.{FORMATS[suffix]}")
    try:
        parsed: Parsed = module.parse(data)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - a parser of foreign bytes fails in any way; the caller names the file
        return {"error": f"{type(error).__name__}: {error}"[:300]}
    text, headings = assembled(parsed.blocks)
    if len(text) > TEXT_CHARS_MAX:
        return {"error": f"more than {TEXT_CHARS_MAX} characters of text"}
    if not text:
        return {"error": "it holds no text"}
    return {"title": " ".join(_tidy(parsed.title).split())[:TITLE_CHARS_MAX], "text": text, "headings": headings}


def assembled(blocks: Iterable[Block]) -> tuple[str, list[tuple[int, int]]]:
    """Returns the text, blocks with an empty line between them, and `(start, level)` of each heading."""
    parts: list[str] = []
    headings: list[tuple[int, int]] = []
    offset = 0
    for block in blocks:
        text = _tidy(block.text)
        if not text:
            continue
        if block.level:
            text = text.replace("\n", " ")
            headings.append((offset, block.level))
        parts.append(text)
        offset += len(text) + 2
    return "\n\n".join(parts), headings


def _tidy(text: str) -> str:
    """White space inside a line is typography; a lone surrogate or NUL could not be written as UTF-8 text."""
    clean = text.replace("\x00", " ").encode("utf-8", "replace").decode()
    lines = (_SPACE.sub(" ", line).strip() for line in clean.splitlines())
    return "\n".join(line for line in lines if line)
