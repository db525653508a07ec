"""A collection goes out as a vector store that answers as the original did, and comes in again as it was."""

import json
from pathlib import Path
from typing import Any

import chromadb
import numpy as np
import pytest
from chromadb.config import Settings

from bundler.capture.stores.files import open_file
from bundler.capture.stores.rows import open_vectors, read_rows
from bundler.fit.snapshot import exact
from bundler.format.errors import BadInput, Busy
from bundler.restore import Collection, chroma_name, restore

faiss = pytest.importorskip("faiss", reason="faiss-cpu is not installed: run scripts/environment.py --set dev")
ROWS, SIZE = 60, 12
METRICS = ("cosine", "ip", "l2")


def collection(metric: str, *, numbers: bool = False) -> Collection:
    vectors = np.random.default_rng(9).normal(size=(ROWS, SIZE)).astype(np.float32) * np.float32(1.7)
    ids = [str(2 * n + 5) if numbers else f"row {n}" for n in range(ROWS)]
    texts = [f"The text of {n}\u2028 with a line." for n in range(ROWS)]
    return Collection("notes", metric, ids, texts, [{"n": n} if n else {} for n in range(ROWS)], vectors)


def expected(found: Collection) -> list[list[str]]:
    near = exact(found.vectors, found.metric, found.vectors[:8], 5)
    return [[found.ids[row] for row, _ in answer] for answer in near]


@pytest.mark.parametrize("metric", METRICS)
def test_chroma_answers_as_before(tmp_path: Path, metric: str) -> None:
    """The directory is Chroma's own, with texts, metadata and metric."""
    found = collection(metric)
    (path,) = restore(found, "chroma", tmp_path, "notes")
    client = chromadb.PersistentClient(str(path), Settings(anonymized_telemetry=False))
    made = client.get_collection("notes", embedding_function=None)
    assert made.configuration_json["hnsw"]["space"] == metric
    assert made.query(query_embeddings=list(found.vectors[:8]), n_results=5)["ids"] == expected(found)
    rows = made.get(include=["documents", "metadatas"])
    assert dict(zip(rows["ids"], rows["documents"], strict=True)) == dict(zip(found.ids, found.texts, strict=True))
    assert rows["metadatas"][3] == {"n": 3}
    client.close()
    assert [p for p in path.rglob("*") if p.stat().st_mode & 0o077] == []
    assert [p.name for p in tmp_path.iterdir()] == ["notes"]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("numbers", [False, True], ids=["names", "numbers"])
def test_faiss_answers_as_before(tmp_path: Path, metric: str, numbers: bool) -> None:
    """Numbers become an IndexIDMap; other ids stand in the lines beside the index."""
    found = collection(metric, numbers=numbers)
    path, texts = restore(found, "faiss", tmp_path, "notes")
    index = faiss.read_index(str(path))
    queries = found.vectors[:8]
    near = index.search(queries / np.linalg.norm(queries, axis=1)[:, None] if metric == "cosine" else queries, 5)[1]
    rows = [json.loads(line) for line in texts.read_bytes().splitlines()]
    names = near.astype(str).tolist() if numbers else [[rows[row]["id"] for row in answer] for answer in near]
    assert names == expected(found)


@pytest.mark.parametrize("form", ["faiss", "jsonl"])
def test_what_went_out_comes_in_as_it_was(tmp_path: Path, form: str) -> None:
    """Bit for bit, through our own reader."""
    found = collection("l2")
    path, *beside = restore(found, form, tmp_path, "notes")
    store = open_file(form, path, beside[0] if beside else None, metric="l2", text_key="")
    facts = store.read(tmp_path / "rows", tmp_path / "vectors", wants_vectors=True)
    assert np.array_equal(open_vectors(tmp_path / "vectors", facts), found.vectors)
    rows = list(read_rows(tmp_path / "rows"))
    assert [(row.id, row.text, row.metadata) for row in rows] == list(
        zip(found.ids, found.texts, found.metadatas, strict=True)
    )


def test_numpy_reads_the_vectors(tmp_path: Path) -> None:
    """Without any pickle."""
    found = collection("ip")
    path, texts = restore(found, "npy", tmp_path, "notes")
    assert np.array_equal(np.load(path, allow_pickle=False), found.vectors)
    assert len(texts.read_bytes().splitlines()) == ROWS
    assert path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("form", ["chroma", "faiss", "jsonl", "npy"])
def test_nothing_is_written_over(tmp_path: Path, form: str) -> None:
    """Not even a link that leads nowhere."""
    name = {"chroma": "notes", "faiss": "notes.jsonl", "jsonl": "notes.jsonl", "npy": "notes.npy"}[form]
    (tmp_path / name).symlink_to("nowhere")
    with pytest.raises(Busy, match="is there already"):
        restore(collection("ip"), form, tmp_path, "notes")
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    "metadata",
    [{"a": [1, "x"]}, {"a": []}, {"": 1}, {"chroma:document": "x"}, {"$and": 1}, {"a": 2**63}, {"a": [-(10**30)]}],
    ids=["mixed", "empty list", "no name", "its own name", "an operator", "too large", "too small"],
)
def test_what_chroma_would_refuse_or_round_is_told(tmp_path: Path, metadata: dict[str, Any]) -> None:
    """A collection of JSONL may hold metadata that Chroma has no place for: no traceback, and no rounded number."""
    made = Collection("notes", "cosine", ["a"], ["A text."], [metadata], np.ones((1, 4), np.float32))
    with pytest.raises(BadInput) as caught:
        restore(made, "chroma", tmp_path, "notes")
    assert "--as jsonl" in str(caught.value.hint)
    assert list(tmp_path.iterdir()) == []
    assert restore(made, "jsonl", tmp_path, "notes") == [tmp_path / "notes.jsonl"]


def test_a_directory_that_fails_leaves_nothing(tmp_path: Path) -> None:
    """An id twice is no collection to Chroma."""
    broken: Any = collection("ip")
    broken.ids[1] = broken.ids[0]
    with pytest.raises(Exception, match=r"duplicate|unique"):
        restore(broken, "chroma", tmp_path, "notes")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "taken"), [("notes", "notes"), ("a", "vectors-a"), ("notes.", "vectors-notes")])
def test_chroma_takes_the_name(name: str, taken: str) -> None:
    """Its rules are stricter than ours."""
    assert chroma_name(name) == taken
