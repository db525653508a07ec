"""JSON Lines with vectors, and the texts beside a FAISS file; runs only in the confined child.

A line is `{"id", "text", "vector", "metadata"}`; beside a FAISS file it has no vector, and the id may be left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import IO, Any

import numpy as np

from bundler.capture.stores.rows import Row, RowWriter, split_metadata
from bundler.format import strict_json
from bundler.format.errors import BadInput
from bundler.format.limits import MIB
from bundler.knowledge.reading import Vectors
from bundler.profile.vectors import JSONL

LINE_BYTES_MAX = 4 * MIB
_FIELDS = {"id", "text", "vector", "metadata"}


def look(request: Mapping[str, Any], inputs: Mapping[str, IO[bytes]], _: Mapping[str, IO[bytes]]) -> Any:
    """Counts the rows and looks at the first; the whole file is checked when it is read."""
    first = next(objects(inputs["rows"]), None)
    if first is None:
        raise BadInput("the file holds no rows")
    dimensions = len(vector_of(first[2], 1)) if request["vectors"] else 0
    return _facts(request, 1 + sum(1 for _ in objects(inputs["rows"], parse=False)), dimensions)


def read(request: Mapping[str, Any], inputs: Mapping[str, IO[bytes]], outputs: Mapping[str, IO[bytes]]) -> Any:
    """Writes every row; returns the facts."""
    wanted = bool(request["vectors"])
    writer = RowWriter(outputs["rows"], outputs["vectors"] if wanted else None)
    for number, _, value in objects(inputs["rows"]):
        writer.put(row_of(value, number, str(request["text_key"])), vector_of(value, number) if wanted else None)
    if not writer.count:
        raise BadInput("the file holds no rows")
    return _facts(request, writer.count, writer.dimensions)


def _facts(request: Mapping[str, Any], rows: int, dimensions: int) -> dict[str, Any]:
    told = {"kind": JSONL, "version": "1", "collection": "", "metric": request["metric"], "details": {}}
    return {**told, "rows": rows, "dimensions": dimensions}


def objects(file: IO[bytes], *, parse: bool = True) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """Yields the number of each line, where it begins in the file, and its object ({} where it is not parsed)."""
    number, offset = 0, file.tell()
    while line := file.readline(LINE_BYTES_MAX + 1):
        number, start, offset = number + 1, offset, offset + len(line)
        if len(line) > LINE_BYTES_MAX:
            raise BadInput(f"line {number} is longer than {LINE_BYTES_MAX} bytes")
        if line.strip():
            yield number, start, strict_json.read_object(line, f"line {number}", BadInput) if parse else {}


def row_of(value: Mapping[str, Any], number: int, text_key: str, name: str | None = None) -> Row:
    """Returns the row of a line; `name` is its id where the line needs none."""
    if unknown := value.keys() - _FIELDS:
        raise BadInput(
            f"line {number}: {', '.join(sorted(unknown))[:200]} is not known", "metadata goes into `metadata`"
        )
    given = value.get("id", name)
    if type(given) is int:
        given = str(given)
    if not isinstance(given, str):
        raise BadInput(f"line {number} has no id")
    if not isinstance(value.get("metadata", {}), dict | None):
        raise BadInput(f"line {number}: metadata is not an object")
    text, metadata = split_metadata(value.get("metadata"), text_key, value.get("text"), given)
    return Row(given, text, metadata)


def vector_of(value: Mapping[str, Any], number: int) -> Vectors:
    """Returns the vector of a line."""
    found = value.get("vector")
    if not isinstance(found, list) or not all(type(item) in (int, float) for item in found):
        raise BadInput(f"line {number}: vector is not a list of numbers")
    return np.array(found, dtype=np.float64)  # narrowed, and checked, by RowWriter
