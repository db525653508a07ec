"""HTML by the parser of the standard library: scripts, menus and what is hidden are left out."""

from __future__ import annotations

from collections.abc import Iterator

from bs4 import BeautifulSoup, Comment, NavigableString, Tag
from bs4.element import PreformattedString

from bundler.ingest.formats.block import Block, Parsed, row_blocks

_DROPPED = ["script", "style", "noscript", "template", "nav", "svg", "iframe", "form", "button", "head"]
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_INLINE = frozenset(
    [
        "a",
        "abbr",
        "b",
        "bdi",
        "bdo",
        "big",
        "cite",
        "code",
        "data",
        "del",
        "dfn",
        "em",
        "font",
        "i",
        "img",
        "ins",
        "kbd",
        "label",
        "mark",
        "output",
        "q",
        "s",
        "samp",
        "small",
        "span",
        "strike",
        "strong",
        "sub",
        "sup",
        "time",
        "tt",
        "u",
        "var",
        "wbr",
    ]
)
DEPTH_MAX = 200


def parse(data: bytes) -> Parsed:
    soup = BeautifulSoup(data, "html.parser")
    title = soup.title.get_text() if soup.title else ""
    for tag in soup(_DROPPED):
        tag.decompose()
    for tag in soup.select("[hidden]"):
        tag.decompose()
    blocks = [Block(text, level) for text, level in _blocks(soup, 0, 0) if text.strip()]
    return Parsed(title or next((block.text for block in blocks if block.level), ""), blocks)


def _blocks(tag: Tag, level: int, depth: int) -> Iterator[Block]:
    """Yields the text between block tags; inline tags and line breaks stay inside it."""
    if depth > DEPTH_MAX:
        raise ValueError(f"it nests deeper than {DEPTH_MAX} tags")
    line = ""
    for child in tag.children:
        if isinstance(child, Tag) and _is_block(child):
            yield Block(line, level)
            line = ""
            yield from _block(child, depth)
        elif isinstance(child, Tag):
            line += "\n" if child.name == "br" else child.get_text()
        elif isinstance(child, NavigableString) and not isinstance(child, Comment | PreformattedString):
            line += str(child)
    yield Block(line, level)


def _block(tag: Tag, depth: int) -> Iterator[Block]:
    if tag.name == "table" and tag.find("table") is None:
        caption = tag.find("caption")
        yield Block(caption.get_text() if isinstance(caption, Tag) else "")
        rows = [[cell.get_text(" ", strip=True) for cell in row.find_all(["th", "td"])] for row in tag.find_all("tr")]
        yield from row_blocks([row for row in rows if row])
    else:
        yield from _blocks(tag, _HEADINGS.get(tag.name, 0), depth + 1)


def _is_block(tag: Tag) -> bool:
    if tag.name == "br":
        return False
    return tag.name not in _INLINE or any(child.name not in _INLINE and child.name != "br" for child in tag.select("*"))
