"""The rows of a vector store as a snapshot keeps them: ids, texts and metadata as JSONL, vectors as float32 beside it.

A row is checked by one rule wherever it comes from, and again when it is read back: what a confined child wrote is
foreign, too.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from bundler.format import strict_json
from bundler.format.errors import BadInput
from bundler.format.store import METRICS
from bundler.knowledge.reading import Vectors
from bundler.profile.vectors import KINDS

ROWS_MAX, DIMENSIONS_MAX = 2_000_000, 8_192
ID_CHARS_MAX, TEXT_CHARS_MAX, METADATA_CHARS_MAX = 1_024, 1_000_000, 65_536
_LINE_BYTES_MAX = 16 * (ID_CHARS_MAX + TEXT_CHARS_MAX + METADATA_CHARS_MAX)
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_SCALAR = str | int | float | bool
Metadata = Mapping[str, Any]  # of texts, numbers, truth values, and lists of them


@dataclass(frozen=True)
class StoreFacts:
    """What is recorded of a store beside its rows.

    Attributes:
        kind: One of `profile.vectors.KINDS`.
        version: Of the store or of its format, as it says of itself.
        collection: Its name in the store; "" where a file is one collection.
        metric: One of METRICS: how the store ranks.
        dimensions: Of a vector; 0 where it has no rows, or a server does not tell before they are read.
        rows: How many.
        details: What else the store says of itself: index parameters, migrations, its embedding function by name.
    """

    kind: str
    version: str
    collection: str
    metric: str
    dimensions: int
    rows: int
    details: Mapping[str, str]

    @property
    def line(self) -> str:
        named = f" {self.collection!r}" if self.collection else ""
        told = "".join(f"; {key} {value}" for key, value in sorted(self.details.items()))
        return (
            f"{self.kind} {self.version}{named}: {self.rows} rows of {self.dimensions} dimensions, {self.metric}{told}"
        )


@dataclass(frozen=True)
class Row:
    """One row: its id, its text, and what the store says of it."""

    id: str
    text: str
    metadata: Metadata


def facts_of(value: Mapping[str, Any]) -> StoreFacts:
    """Returns the facts that a confined child reports, strictly."""
    texts = {key: value.get(key) for key in ("kind", "version", "collection", "metric")}
    numbers = {key: value.get(key) for key in ("dimensions", "rows")}
    details = value.get("details")
    sound = isinstance(details, dict) and all(isinstance(item, str) for item in details.values())
    sound = sound and all(isinstance(text, str) for text in texts.values())
    sound = sound and all(type(number) is int and number >= 0 for number in numbers.values())
    if not sound or texts["metric"] not in METRICS or texts["kind"] not in KINDS:
        raise BadInput(f"the store reports no sound facts: {texts}, {numbers}")
    told = {printable(key): printable(text)[:2_000] for key, text in value["details"].items()}
    named = {key: printable(text)[:2_000] for key, text in texts.items() if isinstance(text, str)}
    return StoreFacts(**named, **numbers, details=told)  # type: ignore[arg-type]  # each was looked at above


def printable(text: str) -> str:
    """Returns foreign text without control characters, which could steer a terminal, and without what none can show."""
    return _UNPRINTABLE.sub("?", text)


class RowWriter:
    """Takes rows one by one, checks them, and writes them to two open files."""

    def __init__(self, rows: IO[bytes], vectors: IO[bytes] | None) -> None:
        self._rows, self._vectors = rows, vectors
        self._known: set[str] = set()
        self.dimensions = 0

    @property
    def count(self) -> int:
        return len(self._known)

    def put(self, row: Row, vector: Vectors | None) -> None:
        """Writes one row; `vector` is None only where none are wanted.

        Raises:
            BadInput: It is not acceptable; the fact names it by its id.
        """
        _check(row, self.count)
        if row.id in self._known:
            raise BadInput(f"the id {printable(row.id)[:80]!r} stands twice")
        self._known.add(row.id)
        if self._vectors is not None:
            self._vectors.write(self._sound(row, vector).tobytes())
        line = {"id": row.id, "text": row.text, "metadata": dict(row.metadata)}
        self._rows.write(json.dumps(line, ensure_ascii=False, sort_keys=True, allow_nan=False).encode() + b"\n")

    def _sound(self, row: Row, vector: Vectors | None) -> Vectors:
        if vector is None or vector.ndim != 1 or not 0 < len(vector) <= DIMENSIONS_MAX:
            raise BadInput(f"the row {row.id[:80]!r} has no vector of 1 to {DIMENSIONS_MAX} numbers")
        self.dimensions = self.dimensions or len(vector)
        if len(vector) != self.dimensions:
            raise BadInput(f"the row {row.id[:80]!r} has {len(vector)} dimensions, those before it {self.dimensions}")
        with np.errstate(over="ignore"):
            found = np.ascontiguousarray(vector, dtype=np.float32)
        if not np.isfinite(found).all():
            raise BadInput(
                f"the vector of {row.id[:80]!r} holds a number that is none: NaN, infinity, or beyond float32"
            )
        return found


def _check(row: Row, count: int) -> None:
    shown = printable(row.id)[:80]
    if count >= ROWS_MAX:
        raise BadInput(f"more than {ROWS_MAX} rows")
    if not 0 < len(row.id) <= ID_CHARS_MAX or not row.id.isprintable():
        raise BadInput(f"row {count + 1} has the id {shown!r}, expected 1 to {ID_CHARS_MAX} printable characters")
    if not row.text.strip():
        raise BadInput(
            f"the row {shown!r} has no text: nothing of it could be quoted", "name the metadata with `text_key`"
        )
    if len(row.text) > TEXT_CHARS_MAX:
        raise BadInput(f"the text of {shown!r} is longer than {TEXT_CHARS_MAX} characters")
    if _SURROGATE.search(row.id) or _SURROGATE.search(row.text):
        raise BadInput(f"the row {shown!r} holds a lone surrogate, which is no text")
    _check_metadata(row, shown)


def _check_metadata(row: Row, shown: str) -> None:
    for key, value in row.metadata.items():
        items = value if isinstance(value, list) else [value]
        if not isinstance(key, str) or not all(isinstance(item, _SCALAR) for item in items):
            raise BadInput(f"the metadata {key!r} of {shown!r} is no text, number or truth value, nor a list of them")
        if not all(math.isfinite(item) for item in items if isinstance(item, float)):
            raise BadInput(f"the metadata {key!r} of {shown!r} is {value}")
    written = json.dumps(dict(row.metadata))
    if "\\ud" in written and _SURROGATE.search(json.dumps(dict(row.metadata), ensure_ascii=False)):
        raise BadInput(f"the metadata of {shown!r} holds a lone surrogate, which is no text")
    if len(written) > METADATA_CHARS_MAX:
        raise BadInput(f"the metadata of {shown!r} is longer than {METADATA_CHARS_MAX} characters")


def read_rows(path: Path) -> Iterator[Row]:
    """Reads the rows that a `RowWriter` wrote, one by one, as strictly as it took them."""
    count = 0
    with path.open("rb") as file:
        while line := file.readline(_LINE_BYTES_MAX):
            value = _object(line)
            if value is None or value.keys() != {"id", "text", "metadata"}:
                raise BadInput(f"row {count + 1} of the snapshot is not as it was written")
            if not (isinstance(value["id"], str) and isinstance(value["text"], str)):
                raise BadInput(f"row {count + 1} of the snapshot has no id and text")
            if not isinstance(value["metadata"], dict):
                raise BadInput(f"row {count + 1} of the snapshot has no metadata")
            row = Row(value["id"], value["text"], value["metadata"])
            _check(row, count)
            count += 1
            yield row


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        value = strict_json.parse(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def open_vectors(path: Path, facts: StoreFacts) -> Vectors:
    """Maps the vectors that a `RowWriter` wrote; pages come in as they are touched.

    Raises:
        BadInput: They are not as many as the facts say, or hold what is no number.
    """
    expected = facts.rows * facts.dimensions * 4
    if path.stat().st_size != expected or not expected:
        raise BadInput(f"the vectors take {path.stat().st_size} bytes, {facts.rows} rows take {expected}")
    found = np.memmap(path, dtype="<f4", mode="r", shape=(facts.rows, facts.dimensions))
    for part in parts(found):
        if not np.isfinite(part).all():
            raise BadInput("the vectors hold NaN or infinity")
    return found


def parts(vectors: Vectors, rows: int = 8_192) -> Iterator[Vectors]:
    """Yields stretches of rows, so that nothing works on all of a large store at once."""
    for start in range(0, len(vectors), rows):
        yield vectors[start : start + rows]


def split_metadata(value: object, text_key: str, text: object, name: str) -> tuple[str, dict[str, Any]]:
    """Returns a row's text and metadata; the text stands where a store keeps it, or under `text_key` in that."""
    found = dict(value) if isinstance(value, Mapping) else {}
    if text_key:
        text = found.pop(text_key, None)
    if text is not None and not isinstance(text, str):
        raise BadInput(f"the text of {printable(name)[:80]!r} is {type(text).__name__}")
    return text or "", {key: item for key, item in found.items() if item is not None}


def batches(items: Iterable[Any], size: int) -> Iterator[Sequence[Any]]:
    """Yields lists of at most `size` items."""
    batch: list[Any] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
