"""A Chroma directory is read from a private copy in the confined child, and refused where it is not just that."""

import json
import os
import pickle
import shutil
import sqlite3
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import chromadb
import numpy as np
import pytest
from chromadb.config import Settings

from bundler.capture.stores import chroma_folder
from bundler.capture.stores.chroma_child import chosen, described_collection
from bundler.capture.stores.rows import open_vectors, read_rows
from bundler.format.errors import BadInput, BadInputs, SourceFailed
from bundler.repository.survey import Stamp

ROWS, SIZE = 1_500, 16


@pytest.fixture(scope="module")
def vectors() -> Any:
    found = np.random.default_rng(7).normal(size=(ROWS, SIZE)).astype(np.float32)
    return found * np.linspace(0.5, 3, ROWS, dtype=np.float32)[:, None]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, vectors: Any) -> Path:
    """A directory with one collection for each metric, beyond the size at which Chroma writes its index out."""
    path = tmp_path_factory.mktemp("made") / "chroma"
    client = chromadb.PersistentClient(str(path), Settings(anonymized_telemetry=False))
    for metric in ("cosine", "ip", "l2"):
        space = {"hnsw:space": metric, "hnsw:search_ef": 400, "hnsw:construction_ef": 400}
        collection = client.create_collection(f"rows-{metric}", embedding_function=None, metadata=space)
        collection.add(
            ids=[f"row {number}" for number in range(ROWS)],
            documents=[f"The text of {number} \u2028 and \x85 more." for number in range(ROWS)],
            metadatas=[{"source": f"s{number % 7}", "page": number, "tags": ["a", "b"]} for number in range(ROWS)],
            embeddings=list(vectors),
        )
    client.close()
    return path


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "chroma")


def opened(folder: Path, collection: str = "rows-l2", **options: str) -> chroma_folder.ChromaFolder:
    names = {"tenant": "default_tenant", "database": "default_database", "text_key": "", **options}
    return chroma_folder.open_folder(folder, folder.parent / "work" / "copy", collection=collection, **names)


def listing(folder: Path) -> dict[str, Any]:
    return {str(path): Stamp.of(path.stat()) for path in sorted(folder.rglob("*"))}


@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
def test_every_row_comes_as_it_was(folder: Path, vectors: Any, metric: str) -> None:
    """Ids, texts, metadata and vectors, with the metric; and the original is not touched: Chroma never sees it."""
    before = listing(folder)
    store = opened(folder, f"rows-{metric}")
    facts = store.read(folder.parent / "rows", folder.parent / "vectors", wants_vectors=True)
    assert (facts.rows, facts.dimensions, facts.metric, facts.kind) == (ROWS, SIZE, metric, "chroma")
    assert facts == store.look()
    rows = list(read_rows(folder.parent / "rows"))
    assert [row.id for row in rows] == [f"row {number}" for number in range(ROWS)]
    assert rows[8].text == "The text of 8 \u2028 and \x85 more."
    assert rows[8].metadata == {"source": "s1", "page": 8, "tags": ["a", "b"]}
    np.testing.assert_allclose(open_vectors(folder.parent / "vectors", facts), vectors, rtol=1e-5)
    assert listing(folder) == before
    assert (folder.parent / "work" / "copy").stat().st_mode & 0o077 == 0


def test_what_it_is_is_recorded(folder: Path) -> None:
    """Versions of Chroma, of its schema and of SQLite, and the parameters of the index."""
    facts = opened(folder).look()
    assert facts.version == f"read by {chromadb.__version__}"
    assert "sysdb" in facts.details["schema"]
    assert "SQLite" in facts.details["schema"]
    assert json.loads(facts.details["index"])["ef_search"] == 400
    assert "1500 rows of 16 dimensions, l2" in facts.line


def test_chroma_itself_is_asked(folder: Path, vectors: Any) -> None:
    """The nearest to a stored vector is its own row, and the rest is what an exact scan finds."""
    found = opened(folder).ask(vectors[:20], 5)
    distances = ((vectors[:20, None] - vectors[None]) ** 2).sum(axis=2)
    expected = np.argsort(distances, axis=1)[:, :5]
    same = sum(len(set(ids) & {f"row {number}" for number in rows}) for ids, rows in zip(found, expected, strict=True))
    assert same >= 95
    assert [ids[0] for ids in found] == [f"row {number}" for number in range(20)]


def test_a_collection_must_be_named_where_there_are_several(folder: Path) -> None:
    """The message lists them."""
    with pytest.raises(BadInput, match="rows-cosine, rows-ip, rows-l2"):
        opened(folder, "").look()
    with pytest.raises(BadInput, match="no collection 'other'"):
        opened(folder, "other").look()
    assert chosen("", ["one"]) == "one"


def test_a_tenant_that_is_not_there(folder: Path) -> None:
    """It is the profile that is to be mended, and not the directory."""
    with pytest.raises(BadInput, match=r"Tenant \[acme\] not found") as refused:
        opened(folder, tenant="acme").look()
    assert "`tenant`" in refused.value.hint


def test_an_embedding_function_is_named_and_never_made(folder: Path) -> None:
    """A collection whose configuration names one that would dial out, or nobody knows, is read like any other."""
    with sqlite3.connect(folder / "chroma.sqlite3") as database:
        (schema,) = database.execute("SELECT schema_str FROM collections WHERE name = 'rows-l2'").fetchone()
        value = json.loads(schema)
        for index in (value["defaults"]["float_list"], value["keys"]["#embedding"]["float_list"]):
            function = {"type": "known", "name": "evil_module", "config": {"url": "http://192.0.2.1/"}}
            index["vector_index"]["config"]["embedding_function"] = function
        database.execute("UPDATE collections SET schema_str = ? WHERE name = 'rows-l2'", (json.dumps(value),))
    database.close()
    facts = opened(folder).look()
    assert facts.rows == ROWS
    assert facts.details["embedding function"] == "evil_module (not used)"


def test_a_function_is_described_without_being_built() -> None:
    """Only its name is taken out of a configuration."""
    told = described_collection({"hnsw": {"space": "ip"}, "embedding_function": {"name": "x", "config": {}}}, {})
    assert told == {"metric": "ip", "index": "{}", "embedding function": "x (not used)"}


class Trap:
    """A pickle that runs a command where it is loaded."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.proof}",)


def test_a_pickle_that_calls_is_refused_and_runs_nothing(folder: Path, tmp_path: Path) -> None:
    """What an old Chroma wrote names a class; a trap names a function: neither is unpickled."""
    path = next(folder.glob("*/index_metadata.pickle"))
    path.write_bytes(pickle.dumps(Trap(tmp_path / "ran")))
    with pytest.raises(BadInput, match=r"names or calls code \(REDUCE, STACK_GLOBAL\)"):
        opened(folder).look()
    assert not (tmp_path / "ran").exists()


def test_chroma_s_own_reader_of_the_pickle_runs_nothing(folder: Path, tmp_path: Path) -> None:
    """Even without our look at it: its parser is in Rust and knows no calls."""
    for path in folder.glob("*/index_metadata.pickle"):
        path.write_bytes(pickle.dumps(Trap(tmp_path / "ran"), protocol=2))
    client = chromadb.PersistentClient(str(folder), Settings(anonymized_telemetry=False))
    with pytest.raises(chromadb.errors.ChromaError):
        client.get_collection("rows-l2", embedding_function=None).query(query_embeddings=[[0.0] * SIZE])
    client.close()
    assert not (tmp_path / "ran").exists()


def _flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place : place + 64] = b"\xff" * 64
    path.write_bytes(bytes(data))


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (lambda folder: (folder / "chroma.sqlite3").write_bytes(b"SQLite format 3\0" + b"x" * 9_000), "damaged or no"),
        (lambda folder: _flip(folder / "chroma.sqlite3", 4_096 * 3), "damaged|does not open|no such table"),
        (lambda folder: (folder / "chroma.sqlite3").unlink(), "holds no chroma.sqlite3"),
        (lambda folder: (folder / "chroma-collections.parquet").write_bytes(b"PAR1"), "before 0.4"),
        (lambda folder: sqlite3.connect(folder / "chroma.sqlite3").execute("DROP TABLE migrations"), "no such table"),
        (lambda folder: next(folder.glob("*/index_metadata.pickle")).write_bytes(b"\x80\x04garbage"), "is damaged"),
    ],
    ids=["no database", "flipped", "none", "older than 0.4", "without migrations", "pickle"],
)
def test_a_damaged_directory_is_refused(folder: Path, spoil: Callable[[Path], Any], match: str) -> None:
    """Each with what is wrong; nothing is half-read."""
    spoil(folder)
    with pytest.raises(BadInput, match=match):
        opened(folder).read(folder.parent / "rows", folder.parent / "vectors", wants_vectors=True)
    assert not (folder.parent / "rows").exists()


@pytest.mark.parametrize(
    "doctor",
    [
        "CREATE VIEW extra AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n",
        "DROP TABLE migrations; CREATE VIEW migrations AS SELECT 'sysdb' AS dir, 9 AS version",
        "CREATE TRIGGER extra AFTER INSERT ON migrations BEGIN DELETE FROM collections; END",
    ],
    ids=["view", "view for a table", "trigger"],
)
def test_a_database_that_holds_programs_is_refused(folder: Path, doctor: str) -> None:
    """A view that never ends would hold the build for the hour that the child has."""
    database = sqlite3.connect(folder / "chroma.sqlite3")
    database.executescript(doctor)
    database.close()
    with pytest.raises(BadInput, match=r"holds the (view|trigger) .* and Chroma makes none"):
        opened(folder)


def test_a_damaged_index_does_not_pass_for_a_whole_one(folder: Path) -> None:
    """Vectors that were cut off are missed."""
    for path in folder.glob("*/data_level0.bin"):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(BadInput):
        opened(folder).read(folder.parent / "rows", folder.parent / "vectors", wants_vectors=True)


def test_links_and_foreign_files_are_refused_all_at_once(folder: Path, tmp_path: Path) -> None:
    """A link could lead anywhere, and what is no file of Chroma's has no reason to be there."""
    (tmp_path / "secret").write_text("secret")
    (folder / "notes.txt").write_text("x")
    (folder / "code").mkdir()
    next(folder.glob("*/header.bin")).rename(folder / "elsewhere.bin")
    index = next(path for path in folder.glob("*-*") if path.is_dir() and not (path / "header.bin").exists())
    (index / "header.bin").symlink_to(tmp_path / "secret")
    os.mkfifo(folder / "chroma.sqlite3-wal")
    with pytest.raises(BadInputs) as refused:
        opened(folder)
    told = "\n".join(refused.value.issues)
    for name in ("notes.txt is no file", "code is no folder", "header.bin is a link", "wal is not a regular file"):
        assert name in told


def test_a_folder_that_is_a_link_is_refused(folder: Path, tmp_path: Path) -> None:
    """Nobody leads the builder elsewhere."""
    (tmp_path / "link").symlink_to(folder)
    with pytest.raises(BadInput, match="is no folder"):
        opened(tmp_path / "link")


def test_a_directory_that_changes_all_the_time_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of a moving store is a copy of nothing."""
    plain = chroma_folder._copy

    def moving(path: Path, target: Path, stamp: Any) -> None:
        plain(path, target, stamp)
        os.utime(folder / "chroma.sqlite3", ns=(1, threading.get_native_id() + len(listing(target.parent))))
        with (folder / "chroma.sqlite3").open("ab") as file:
            file.write(b"\0")

    monkeypatch.setattr(chroma_folder, "_copy", moving)
    with pytest.raises(SourceFailed, match="changed while it was copied, 3 times"):
        opened(folder)


def test_a_store_too_large_is_refused_before_it_is_copied(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sparse file costs nothing to make."""
    os.truncate(next(folder.glob("*/link_lists.bin")), chroma_folder.FOLDER_BYTES_MAX + 1)
    with pytest.raises(BadInput, match="at most"):
        opened(folder)
    assert not (folder.parent / "work" / "copy").exists() or not any((folder.parent / "work" / "copy").iterdir())


def test_what_chroma_has_not_merged_yet_comes_along(tmp_path: Path) -> None:
    """A few rows stay in its log, and are rows all the same."""
    client = chromadb.PersistentClient(str(tmp_path / "chroma"), Settings(anonymized_telemetry=False))
    client.create_collection("few", embedding_function=None).add(ids=["a"], documents=["x"], embeddings=[[1.0, 2.0]])
    store = opened(tmp_path / "chroma", "few")
    facts = store.read(tmp_path / "rows", tmp_path / "vectors", wants_vectors=True)
    client.close()
    assert open_vectors(tmp_path / "vectors", facts).tolist() == [[1.0, 2.0]]


@pytest.mark.parametrize(
    ("documents", "metadatas", "key", "texts"),
    [(None, [{"page_content": "x", "n": 1}], "page_content", ["x"]), (["d"], [{"other": "x"}], "other", ["x"])],
)
def test_a_text_in_the_metadata_is_taken(
    tmp_path: Path, documents: Sequence[str] | None, metadatas: Any, key: str, texts: list[str]
) -> None:
    """Some programs keep it there."""
    client = chromadb.PersistentClient(str(tmp_path / "chroma"), Settings(anonymized_telemetry=False))
    made = client.create_collection("few", embedding_function=None)
    made.add(ids=["a"], documents=documents, metadatas=metadatas, embeddings=[[1.0, 2.0]])
    client.close()
    opened(tmp_path / "chroma", "few", text_key=key).read(tmp_path / "rows", tmp_path / "v", wants_vectors=True)
    assert [row.text for row in read_rows(tmp_path / "rows")] == texts


def test_a_row_without_text_is_refused(tmp_path: Path) -> None:
    """Nothing of it could be quoted."""
    client = chromadb.PersistentClient(str(tmp_path / "chroma"), Settings(anonymized_telemetry=False))
    client.create_collection("few", embedding_function=None).add(ids=["a"], embeddings=[[1.0, 2.0]])
    client.close()
    with pytest.raises(BadInput, match="'a' has no text") as refused:
        opened(tmp_path / "chroma", "few").read(tmp_path / "rows", tmp_path / "v", wants_vectors=True)
    assert "text_key" in refused.value.hint
