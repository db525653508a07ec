"""Reads the pages that a Chroma server sent; runs only in the confined child."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import IO, Any

from bundler.capture.stores.lines import vector_of
from bundler.capture.stores.rows import Row, RowWriter, split_metadata
from bundler.format import strict_json
from bundler.format.errors import BadInput, SourceFailed


def read(request: Mapping[str, Any], inputs: Mapping[str, IO[bytes]], outputs: Mapping[str, IO[bytes]]) -> Any:
    """Writes every row of every page; returns the facts with the number of rows that came."""
    wanted = bool(request["vectors"])
    writer = RowWriter(outputs["rows"], outputs["vectors"] if wanted else None)
    for number, data in enumerate(_pages(inputs["pages"]), 1):
        page = strict_json.read_object(data, f"page {number} of the server", BadInput)
        ids = _column(page, "ids", number, None)
        texts, metadatas = (_column(page, key, number, len(ids)) for key in ("documents", "metadatas"))
        vectors = _column(page, "embeddings", number, len(ids)) if wanted else [None] * len(ids)
        for name, text, metadata, vector in zip(ids, texts, metadatas, vectors, strict=True):
            if not isinstance(name, str):
                raise SourceFailed(f"page {number} of the server has an id that is no text")
            row = Row(name, *split_metadata(metadata, str(request["text_key"]), text, name))
            writer.put(row, vector_of({"vector": vector}, number) if wanted else None)
    told: dict[str, Any] = dict(request["facts"])
    return {**told, "rows": writer.count, "dimensions": writer.dimensions or told["dimensions"]}


def _pages(file: IO[bytes]) -> Iterator[bytes]:
    while head := file.read(8):
        yield file.read(int.from_bytes(head, "little"))


def _column(page: Mapping[str, Any], key: str, number: int, rows: int | None) -> list[Any]:
    found = page.get(key)
    if not isinstance(found, list) or (rows is not None and len(found) != rows):
        raise SourceFailed(f"page {number} of the server has no {key}, or not one for each id")
    return found
