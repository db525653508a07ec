"""Parsers of document formats: bytes to title and plain text. Runs only inside the confined child."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from typing import IO, Any

TEXT_CHARS_MAX = 20_000_000
_BLOCKS = ("h1", "h2", "h3", "h4", "h5", "h6", "p", "li", "td", "th", "pre", "blockquote", "dt", "dd", "caption")


def parse_files(request: Mapping[str, Any], inputs: Mapping[str, IO[bytes]], _: Mapping[str, IO[bytes]]) -> Any:
    """Parses each input by the format that `request` names for it.

    Returns:
        By name: `{"title", "text"}`, or `{"error"}` where this one file cannot be read.
    """
    return {name: _parse(str(request[name]), file.read()) for name, file in inputs.items()}


def _parse(suffix: str, data: bytes) -> dict[str, str]:
    try:
        title, blocks = PARSERS[suffix](data)
    except Exception as error:  # noqa: BLE001 - a parser of foreign bytes fails in any way; the file is named above
        return {"error": f"{type(error).__name__}: {error}"[:300]}
    text = "\n\n".join(block for block in (_tidy(block) for block in blocks) if block)
    if len(text) > TEXT_CHARS_MAX:
        return {"error": f"more than {TEXT_CHARS_MAX} characters of text"}
    return {"title": _tidy(title), "text": text} if text else {"error": "it holds no text"}


def _tidy(block: str) -> str:
    """One line a block: lines inside a paragraph are typography, not meaning."""
    return " ".join(block.replace("\x00", " ").split())


def _txt(data: bytes) -> tuple[str, list[str]]:
    blocks = data.decode("utf-8-sig").replace("\r\n", "\n").split("\n\n")
    return blocks[0].strip().split("\n")[0], blocks


def _md(data: bytes) -> tuple[str, list[str]]:
    from markdown_it import MarkdownIt

    tokens = MarkdownIt("commonmark").enable("table").parse(data.decode("utf-8-sig"))
    blocks, title, heading = [], "", False
    for token in tokens:
        heading = token.type == "heading_open" or (heading and token.type != "heading_close")
        if token.type == "inline":
            text = "".join(_inline(child) for child in token.children or [])
            blocks.append(f"# {text}" if heading else text)
            title = title or (text if heading else "")
        elif token.type in ("fence", "code_block"):
            blocks.append(token.content)
    return title, blocks


def _inline(child: Any) -> str:
    if child.type in ("softbreak", "hardbreak"):
        return " "
    return child.content if child.type in ("text", "code_inline", "image") else ""


def _html(data: bytes) -> tuple[str, list[str]]:
    from bs4 import BeautifulSoup

    soup = BeautifulSoup(data, "html.parser")
    for tag in soup(["script", "style", "noscript", "template", "nav"]):
        tag.decompose()
    blocks = []
    for tag in soup.find_all(_BLOCKS):
        if tag.find(_BLOCKS) is None:
            text = tag.get_text(" ", strip=True)
            blocks.append(f"# {text}" if tag.name.startswith("h") else text)
    heading = soup.find("h1")
    title = soup.title.get_text() if soup.title else heading.get_text() if heading else ""
    return title, blocks or [soup.get_text("\n\n")]


def _pdf(data: bytes) -> tuple[str, list[str]]:
    from pypdf import PdfReader

    reader = PdfReader(io.BytesIO(data))
    title = str(reader.metadata.title or "") if reader.metadata else ""
    return title, [block for page in reader.pages for block in page.extract_text().split("\n\n")]


def _docx(data: bytes) -> tuple[str, list[str]]:
    from docx import Document

    document = Document(io.BytesIO(data))
    blocks = [
        f"# {item.text}" if str(item.style.name).startswith(("Heading", "Title")) else item.text
        for item in document.paragraphs
    ]
    blocks += [cell.text for table in document.tables for row in table.rows for cell in row.cells]
    return document.core_properties.title or (document.paragraphs[0].text if document.paragraphs else ""), blocks


def _csv(data: bytes) -> tuple[str, list[str]]:
    rows = list(csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True))
    header = rows[0] if rows else []
    return "", [
        "; ".join(f"{name}: {value}" for name, value in zip(header, row, strict=False) if value) for row in rows[1:]
    ]


PARSERS: Mapping[str, Callable[[bytes], tuple[str, list[str]]]] = {
    ".txt": _txt,
    ".md": _md,
    ".html": _html,
    ".htm": _html,
    ".pdf": _pdf,
    ".docx": _docx,
    ".csv": _csv,
}
