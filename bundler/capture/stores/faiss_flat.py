"""FAISS flat index files: read strictly in the confined child, and written for an export.

The layout is that of faiss/impl/index_write.cpp (`write_index_header`, `write_xb_vector`), little-endian: four letters,
then `d` (int32), `ntotal` (int64), two unused int64, `is_trained` (one byte), the metric (int32); the vectors as a
count (uint64) of float32 and those. An IndexIDMap is that header, the inner index, and the ids as a count and int64.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any

import numpy as np

from bundler.capture.stores.lines import objects, row_of
from bundler.capture.stores.rows import DIMENSIONS_MAX, ROWS_MAX, RowWriter, parts
from bundler.format import strict_json
from bundler.format.errors import BadInput
from bundler.format.store import IP, L2
from bundler.knowledge.reading import Vectors
from bundler.profile.vectors import FAISS

_HEADER = struct.Struct("<iqqqBi")
_UNUSED = 1 << 20
_METRICS = {0: IP, 1: L2}
_FLAT = {b"IxFI": IP, b"IxF2": L2, b"IxFl": ""}
_MAPPED = (b"IxMp", b"IxM2")
_OTHERS = {
    b"IwFl": "IndexIVFFlat", b"IwPQ": "IndexIVFPQ", b"IvPQ": "IndexIVFPQ", b"IwSq": "IndexIVFScalarQuantizer",
    b"IxPq": "IndexPQ", b"IxSQ": "IndexScalarQuantizer", b"IxPT": "IndexPreTransform", b"IxHe": "IndexLSH",
    b"IHNf": "IndexHNSWFlat", b"IHNp": "IndexHNSWPQ", b"IHNs": "IndexHNSWSQ", b"IxRF": "IndexRefine",
    b"INSf": "IndexNSGFlat", b"IBxF": "IndexBinaryFlat", b"IBwF": "IndexBinaryIVF", b"IBMp": "IndexBinaryIDMap",
}  # fmt: skip
_WAY_OUT = "write faiss.IndexFlat(index.d, index.metric_type) with index.reconstruct_n(0, index.ntotal) added to it"


@dataclass(frozen=True)
class FlatIndex:
    """Where in the file the vectors stand, and their ids where it is an IndexIDMap."""

    name: str
    metric: str
    dimensions: int
    rows: int
    offset: int
    ids: Sequence[int] | None


def look(_request: Mapping[str, Any], inputs: Mapping[str, IO[bytes]], _: Mapping[str, IO[bytes]]) -> Any:
    """Returns the facts of an index."""
    return _facts(parse(inputs["index"]))


def read(request: Mapping[str, Any], inputs: Mapping[str, IO[bytes]], outputs: Mapping[str, IO[bytes]]) -> Any:
    """Writes every row, each with its text from the lines beside it; returns the facts."""
    index, file = parse(inputs["index"]), inputs["index"]
    writer = RowWriter(outputs["rows"], outputs["vectors"])
    lines = _texts(inputs["texts"], index)
    file.seek(index.offset)
    for number in range(index.rows):
        found = next(lines, None)
        if found is None:
            raise BadInput(f"there are {number} texts for {index.rows} vectors")
        name, line, value = found
        vector = np.frombuffer(_exactly(file, index.dimensions * 4), dtype="<f4")
        row = row_of({key: item for key, item in value.items() if key != "id"}, line, str(request["text_key"]), name)
        if "vector" in value:
            raise BadInput(f"line {number + 1} of the texts has a vector, which the index holds")
        writer.put(row, vector)
    if next(lines, None) is not None:
        raise BadInput(f"there are more texts than the {index.rows} vectors")
    return {**_facts(index), "rows": writer.count}


def parse(file: IO[bytes]) -> FlatIndex:
    """Reads an index but for its vectors.

    Raises:
        BadInput: Another kind of index, or a file whose counts do not add up.
    """
    size = file.seek(0, 2)
    file.seek(0)
    letters, header = _header(file)
    if letters not in _MAPPED:
        index = _flat(file, letters, header, size)
        end = index.offset + index.rows * index.dimensions * 4
    else:
        inner = _flat(file, *_header(file), size)
        if (inner.dimensions, inner.rows, inner.metric) != (header[0], header[1], _METRICS.get(header[5])):
            raise BadInput("the index in an IndexIDMap is of another size or metric than that says")
        file.seek(inner.offset + inner.rows * inner.dimensions * 4)
        count = struct.unpack("<Q", _exactly(file, 8))[0]
        if count != inner.rows or file.tell() + 8 * count > size:
            raise BadInput(f"an IndexIDMap of {inner.rows} rows lists {count} ids")
        ids = np.frombuffer(_exactly(file, 8 * count), dtype="<i8").tolist()
        index = FlatIndex(f"IndexIDMap of {inner.name}", inner.metric, inner.dimensions, inner.rows, inner.offset, ids)
        end = file.tell()
    if end != size:
        raise BadInput(f"the file has {size} bytes, its index takes {end}")
    return index


def _header(file: IO[bytes]) -> tuple[bytes, tuple[int, ...]]:
    letters = _exactly(file, 4)
    if letters not in _FLAT and letters not in _MAPPED:
        named = _OTHERS.get(letters)
        what = f"an {named}" if named else f"no index that is known ({letters!r})"
        raise BadInput(f"it is {what}, and only IndexFlat and IndexIDMap of it hold the vectors as they were", _WAY_OUT)
    header = _HEADER.unpack(_exactly(file, _HEADER.size))
    if header[5] > 1:
        raise BadInput(f"it ranks by FAISS's metric {header[5]}, and only inner product (0) and L2 (1) are taken")
    return letters, header


def _flat(file: IO[bytes], letters: bytes, header: tuple[int, ...], size: int) -> FlatIndex:
    dimensions, rows, _, _, trained, metric = header
    if letters in _MAPPED:
        raise BadInput("it is an IndexIDMap in an IndexIDMap", _WAY_OUT)
    if not 0 < dimensions <= DIMENSIONS_MAX or not 0 < rows <= ROWS_MAX or trained != 1 or metric not in _METRICS:
        raise BadInput(f"its header cannot be: {rows} rows of {dimensions} dimensions, metric {metric}")
    if _FLAT[letters] not in ("", _METRICS[metric]):
        raise BadInput(f"it is {letters.decode()} and says metric {metric}")
    count = struct.unpack("<Q", _exactly(file, 8))[0]
    if count != rows * dimensions:
        raise BadInput(f"{rows} rows of {dimensions} dimensions are {rows * dimensions} numbers; the file says {count}")
    if file.tell() + 4 * count > size:
        raise BadInput(f"its {rows} rows of {dimensions} dimensions take {4 * count} bytes, the file has {size}")
    return FlatIndex(letters.decode(), _METRICS[metric], dimensions, rows, file.tell(), None)


def _texts(file: IO[bytes], index: FlatIndex) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """Yields the id, line number and object of each row's text, in the order of the vectors."""
    if index.ids is None:
        for row, (line, _, value) in enumerate(objects(file)):
            yield _id(value, str(row), line), line, value
        return
    places: dict[str, tuple[int, int]] = {}
    for line, start, value in objects(file):
        if places.setdefault(_id(value, "", line), (line, start)) != (line, start):
            raise BadInput(f"line {line} of the texts has an id that stands twice, or none")
    if lost := [name for name in index.ids if str(name) not in places]:
        raise BadInput(f"the texts have no line with the id {lost[0]}, which the index has")
    if len(places) != len(index.ids):
        raise BadInput(f"the texts have {len(places)} ids, the index has {len(index.ids)}")
    for name in index.ids:
        line, start = places[str(name)]
        file.seek(start)
        yield str(name), line, strict_json.read_object(file.readline(), f"line {line}", BadInput)


def _id(value: Mapping[str, Any], without: str, line: int) -> str:
    """Returns the id of a line of texts as text; `null` is none, and not the text `None`."""
    found = value.get("id", without)
    if type(found) not in (str, int):
        raise BadInput(f"line {line} of the texts has an id that is neither text nor a whole number")
    return str(found)


def _facts(index: FlatIndex) -> dict[str, Any]:
    told = {"kind": FAISS, "version": index.name, "collection": "", "metric": index.metric, "details": {}}
    return {**told, "rows": index.rows, "dimensions": index.dimensions}


def _exactly(file: IO[bytes], count: int) -> bytes:
    data = file.read(count)
    if len(data) != count:
        raise BadInput("the file ends before its index does")
    return data


def write_flat(file: IO[bytes], vectors: Vectors, metric: str, ids: Sequence[int] | None) -> None:
    """Writes an index that FAISS reads: an IndexFlatIP (of rows at length 1, for cosine) or IndexFlatL2, mapped to ids.

    Args:
        file: Open to write.
        vectors: Its rows; at length 1 where the metric is cosine.
        metric: One of `format.store.METRICS`.
        ids: A number each for an IndexIDMap, or None.
    """
    number = 1 if metric == L2 else 0
    header = _HEADER.pack(vectors.shape[1], len(vectors), _UNUSED, _UNUSED, 1, number)
    if ids is not None:
        file.write(b"IxMp" + header)
    file.write((b"IxF2" if metric == L2 else b"IxFI") + header + struct.pack("<Q", vectors.size))
    for part in parts(vectors):
        file.write(np.ascontiguousarray(part, dtype="<f4").tobytes())
    if ids is not None:
        file.write(struct.pack("<Q", len(ids)) + np.asarray(ids, dtype="<i8").tobytes())
