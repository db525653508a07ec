"""FAISS flat files, as the real FAISS writes and reads them, and JSON Lines with vectors."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bundler.capture.stores.faiss_flat import write_flat
from bundler.capture.stores.files import open_file
from bundler.capture.stores.rows import open_vectors, read_rows
from bundler.fit.snapshot import exact
from bundler.format.errors import BadInput

faiss = pytest.importorskip("faiss", reason="faiss-cpu is not installed: run scripts/environment.py --set dev")
ROWS, SIZE = 40, 8
IDS = np.arange(1_000, 1_000 + ROWS)[::-1]


@pytest.fixture(scope="module")
def vectors() -> Any:
    return np.random.default_rng(3).normal(size=(ROWS, SIZE)).astype(np.float32)


def flat(kind: str, vectors: Any) -> Any:
    index = {"l2": faiss.IndexFlatL2, "ip": faiss.IndexFlatIP}[kind.split()[0]](SIZE)
    if kind.endswith("mapped"):
        mapped = faiss.IndexIDMap(index)
        mapped.add_with_ids(vectors, IDS)
        return mapped
    index.add(vectors)
    return index


def lines(rows: Any) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def taken(folder: Path, index: Any, texts: str) -> tuple[Any, list[Any], Any]:
    faiss.write_index(index, str(folder / "x.faiss"))
    (folder / "texts.jsonl").write_text(texts)
    return read(folder, "faiss")


def read(folder: Path, kind: str, *, metric: str = "cosine") -> tuple[Any, list[Any], Any]:
    file = folder / ("x.faiss" if kind == "faiss" else "x.jsonl")
    store = open_file(kind, file, folder / "texts.jsonl" if kind == "faiss" else None, metric=metric, text_key="")
    facts = store.read(folder / "rows", folder / "vectors", wants_vectors=True)
    looked = store.look()
    assert (looked.rows, looked.dimensions, looked.metric) == (facts.rows, facts.dimensions, facts.metric)
    return facts, list(read_rows(folder / "rows")), open_vectors(folder / "vectors", facts)


@pytest.mark.parametrize("kind", ["l2", "ip", "l2 mapped", "ip mapped"])
def test_what_faiss_wrote_is_read_as_it_was(tmp_path: Path, vectors: Any, kind: str) -> None:
    """Vectors bit for bit, the metric, ids where it has them, and the same nearest rows as FAISS finds."""
    index, mapped = flat(kind, vectors), kind.endswith("mapped")
    names = [int(name) for name in (IDS if mapped else range(ROWS))]
    rows: list[dict[str, Any]] = [{"text": f"text {n}", "metadata": {"source": "s"}} for n in names]
    for name, row in zip(names, rows, strict=True):
        row |= {"id": name} if mapped else {}
    facts, found, held = taken(tmp_path, index, lines(sorted(rows, key=lambda row: row["text"]) if mapped else rows))
    assert np.array_equal(held, vectors)
    assert [(row.id, row.text) for row in found] == [(str(name), f"text {name}") for name in names]
    assert facts.metric == kind.split()[0]
    assert facts.version.startswith("IndexIDMap of IxF" if mapped else "IxF")
    _, near = index.search(vectors[:10], 5)
    ours = [[int(found[row].id) for row, _ in answer] for answer in exact(held, facts.metric, vectors[:10], 5)]
    assert ours == near.tolist()


@pytest.mark.parametrize("metric", ["l2", "ip"])
@pytest.mark.parametrize("ids", [None, IDS.tolist()], ids=["plain", "mapped"])
def test_faiss_reads_what_we_write(tmp_path: Path, vectors: Any, metric: str, ids: Any) -> None:
    """The same index, to FAISS: rows, metric, ids and answers."""
    with (tmp_path / "x.faiss").open("wb") as file:
        write_flat(file, vectors, metric, ids)
    ours = faiss.read_index(str(tmp_path / "x.faiss"))
    theirs = flat(f"{metric} mapped" if ids else metric, vectors)
    assert faiss.serialize_index(ours).tobytes() == faiss.serialize_index(theirs).tobytes()
    assert ours.search(vectors[:5], 4)[1].tolist() == theirs.search(vectors[:5], 4)[1].tolist()


@pytest.mark.parametrize(
    ("factory", "named"),
    [("IVF4,Flat", "IndexIVFFlat"), ("HNSW8", "IndexHNSWFlat"), ("PQ4x4", "IndexPQ"), ("SQ8", "IndexScalarQuantizer"),
     ("L2norm,Flat", "IndexPreTransform")],
)  # fmt: skip
def test_other_indexes_are_refused_by_name(tmp_path: Path, vectors: Any, factory: str, named: str) -> None:
    """With the line that makes a flat one of them."""
    index = faiss.index_factory(SIZE, factory)
    index.train(np.random.default_rng(1).normal(size=(2_000, SIZE)).astype(np.float32))
    index.add(vectors)
    with pytest.raises(BadInput, match=f"it is an {named}") as refused:
        taken(tmp_path, index, lines({"text": "x"} for _ in range(ROWS)))
    assert "reconstruct_n" in refused.value.hint


def test_another_metric_is_refused(tmp_path: Path, vectors: Any) -> None:
    """L1 is no metric that the box ranks by."""
    index = faiss.IndexFlat(SIZE, faiss.METRIC_L1)
    index.add(vectors)
    with pytest.raises(BadInput, match="metric 2"):
        taken(tmp_path, index, lines({"text": "x"} for _ in range(ROWS)))


@pytest.mark.parametrize("damage", range(9))
def test_a_file_that_does_not_add_up_is_refused(tmp_path: Path, vectors: Any, damage: int) -> None:
    """Cut, longer, or counts that lie: never read beyond, and never a buffer of the size that it says."""
    whole = bytearray(faiss.serialize_index(flat("l2", vectors)).tobytes())
    spoilt = [
        whole[:-1],
        whole + b"x",
        whole[:20],
        whole[:4] + struct.pack("<i", 2**31 - 1) + whole[8:],
        whole[:8] + struct.pack("<q", 2**62) + whole[16:],
        whole[:37] + struct.pack("<Q", 2**63) + whole[45:],
        whole[:33] + struct.pack("<i", 0) + whole[37:],
        b"IxMp" + whole[4:37] + b"IxMp" + whole[4:],
        b"IxMp" + whole[4:33] + struct.pack("<i", 0) + whole + struct.pack(f"<Q{ROWS}q", ROWS, *range(ROWS)),
    ][damage]
    (tmp_path / "x.faiss").write_bytes(bytes(spoilt))
    (tmp_path / "texts.jsonl").write_text(lines({"text": "x"} for _ in range(ROWS)))
    with pytest.raises(BadInput):
        read(tmp_path, "faiss")


@pytest.mark.parametrize(
    ("texts", "match"),
    [
        ([{"text": "x"}] * (ROWS - 1), "there are 39 texts for 40 vectors"),
        ([{"text": "x"}] * (ROWS + 1), "more texts than the 40 vectors"),
        ([{"text": "x", "vector": [1]}] * ROWS, "has a vector"),
        ([{"text": ""}] * ROWS, "has no text"),
        ([{"text": "x", "page": 1}] * ROWS, "page is not known"),
        ([{"text": "x", "id": None}] * ROWS, "line 1 of the texts has an id that is neither"),
        ([{"text": "x", "id": {"a": 1}}] * ROWS, "line 1 of the texts has an id that is neither"),
    ],
    ids=["fewer", "more", "vector", "empty", "unknown", "null", "object"],
)
def test_texts_that_do_not_fit_are_refused(tmp_path: Path, vectors: Any, texts: Any, match: str) -> None:
    """A text a vector, no more and no less."""
    with pytest.raises(BadInput, match=match):
        taken(tmp_path, flat("l2", vectors), lines(texts))


@pytest.mark.parametrize("change", ["lost", "twice", "foreign"])
def test_ids_that_do_not_fit_are_refused(tmp_path: Path, vectors: Any, change: str) -> None:
    """Of an IndexIDMap, each id has one text."""
    rows = [{"id": int(name), "text": f"text {name}"} for name in IDS]
    changed = {"lost": rows[1:], "twice": [*rows, rows[0]], "foreign": [*rows, {"id": 5, "text": "x"}]}[change]
    with pytest.raises(BadInput, match="id"):
        taken(tmp_path, flat("l2 mapped", vectors), lines(changed))


def test_json_lines_are_read_as_they_are(tmp_path: Path) -> None:
    """Ids may be numbers, metadata may lack, empty lines do not count."""
    rows: list[dict[str, Any]] = [{"id": 1, "text": "one", "vector": [1, 0.5]}]
    rows.append({"id": "b", "text": "two", "vector": [0, 1e-3], "metadata": {"page": 3, "x": None}})
    (tmp_path / "x.jsonl").write_text(lines(rows[:1]) + "\n" + lines(rows[1:]))
    facts, found, held = read(tmp_path, "jsonl", metric="ip")
    assert (facts.kind, facts.metric, facts.rows, facts.dimensions) == ("jsonl", "ip", 2, 2)
    assert [(row.id, row.text, row.metadata) for row in found] == [("1", "one", {}), ("b", "two", {"page": 3})]
    np.testing.assert_array_equal(held, np.array([[1, 0.5], [0, 1e-3]], np.float32))


def good(**changes: Any) -> str:
    return json.dumps({"id": "a", "text": "x", "vector": [1.0, 2.0], **changes})


@pytest.mark.parametrize(
    ("line", "match"),
    [
        ('{"id": "a", "text": "x", "vector": [NaN, 1]}', "NaN"),
        ('{"id": "a", "text": "x", "vector": [Infinity, 1]}', "Infinity"),
        ('{"id": "a", "text": "x", "vector": [1e39, 1]}', "beyond float32"),
        ('{"id": "a", "text": "x", "vector": [1e999, 1]}', "beyond all bounds"),
        (f'{{"id": "a", "text": "x", "vector": [{10**400}, 1]}}', "more than 20 digits"),
        (good() + "\n" + good(id="b", vector=[1.0]), "has 1 dimensions, those before it 2"),
        (good() + "\n" + good(), "stands twice"),
        (good(vector=[]), "no vector"),
        (good(vector=[True, 1]), "not a list of numbers"),
        (good(vector="1,2"), "not a list of numbers"),
        (good(vector=None), "not a list of numbers"),
        (good(text=5), "is int"),
        (good(text="   "), "has no text"),
        (good(id=""), "has the id"),
        (good(id="a\x1b[2J"), "printable"),
        (good(id=None), "has no id"),
        (good(metadata={"a": {"b": 1}}), "no text, number or truth value"),
        (good().replace('"vector"', '"metadata": {"n": 1e999}, "vector"'), "beyond all bounds"),
        (good(metadata=[1]), "not an object"),
        (good(extra=1), "extra is not known"),
        ('{"id": "a", "id": "b", "text": "x", "vector": [1]}', "the key 'id' appears twice"),
        ("[1]", "not a JSON object"),
        ("{", "is not strict JSON"),
        ("[" * 100_000, "nests deeper"),
        (good(text="\ud800"), "surrogate"),
        ("", "holds no rows"),
    ],
)  # fmt: skip
def test_lines_that_are_no_rows_are_refused(tmp_path: Path, line: str, match: str) -> None:
    """Each with the reason; nothing is half-read."""
    (tmp_path / "x.jsonl").write_text(line)
    with pytest.raises(BadInput, match=match):
        read(tmp_path, "jsonl")
    assert not (tmp_path / "rows").exists()


def test_a_line_is_bounded(tmp_path: Path) -> None:
    """A line of many megabytes is not taken into memory to be looked at."""
    (tmp_path / "x.jsonl").write_text('{"id": "' + "a" * 5_000_000)
    with pytest.raises(BadInput, match="line 1 is longer than"):
        read(tmp_path, "jsonl")


@pytest.mark.parametrize("make", [lambda path: path.symlink_to("elsewhere"), Path.mkdir], ids=["link", "folder"])
def test_only_a_regular_file_is_taken(tmp_path: Path, make: Callable[[Path], None]) -> None:
    """A link could lead anywhere."""
    (tmp_path / "elsewhere").write_text(good())
    make(tmp_path / "x.jsonl")
    with pytest.raises(BadInput, match="a link or not a regular file"):
        open_file("jsonl", tmp_path / "x.jsonl", None, metric="cosine", text_key="")
