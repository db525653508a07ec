"""Reads a Chroma directory; runs only in the confined child, and only on a private copy of it.

Chroma writes to what it opens (migrations, SQLite's log), so it never gets the original. The embedding function that a
collection's configuration names is recorded and never made: `get_collection` is told that there is none.
"""

from __future__ import annotations

import json
import pickletools
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from bundler.capture.stores.rows import Row, RowWriter, split_metadata
from bundler.format.errors import BadInput
from bundler.profile.vectors import CHROMA

PAGE_ROWS = 1_000
PICKLE = "index_metadata.pickle"
# What makes a pickle more than data: each of these names or calls something.
_CALLS = {"GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "PERSID", "BINPERSID"}
_CALLS |= {"EXT1", "EXT2", "EXT4"}
# Chroma's own; a store of a later Chroma has later ones.
_MIGRATIONS_SHOWN = 10


def look(request: Mapping[str, Any], _: Mapping[str, IO[bytes]], __: Mapping[str, IO[bytes]]) -> Any:
    """Returns the facts of a collection, as `rows.facts_of` reads them."""
    return _facts(request, _collection(request))


def read(request: Mapping[str, Any], _: Mapping[str, IO[bytes]], outputs: Mapping[str, IO[bytes]]) -> Any:
    """Writes every row; returns the facts."""
    collection = _collection(request)
    writer = RowWriter(outputs["rows"], outputs["vectors"] if request["vectors"] else None)
    wanted = ["documents", "metadatas", *(["embeddings"] if request["vectors"] else [])]
    total = collection.count()
    for offset in range(0, total, PAGE_ROWS):
        page = collection.get(include=wanted, limit=PAGE_ROWS, offset=offset)
        for row, vector in _rows(page, str(request["text_key"])):
            writer.put(row, vector)
    if writer.count != total:
        raise BadInput(f"the collection counts {total} rows and gives {writer.count}")
    return {**_facts(request, collection), "rows": total}


def ask(request: Mapping[str, Any], inputs: Mapping[str, IO[bytes]], _: Mapping[str, IO[bytes]]) -> Any:
    """Returns the ids of the nearest rows for each query (float32 rows of `queries`), as Chroma finds them."""
    data = np.frombuffer(inputs["queries"].read(), dtype="<f4").reshape(-1, int(request["dimensions"]))
    collection = _collection(request)
    found = collection.query(query_embeddings=list(data), n_results=int(request["k"]), include=[])
    return found["ids"]


def _collection(request: Mapping[str, Any]) -> Any:
    folder = Path(request["folder"])
    for path in sorted(folder.glob(f"*/{PICKLE}")):
        refuse_calls(path)
    import chromadb
    from chromadb.config import Settings

    settings = Settings(
        anonymized_telemetry=False,
        # Not the older one in Python, which unpickles.
        chroma_api_impl="chromadb.api.rust.RustBindingsAPI",
        allow_reset=False,
    )
    try:
        client = chromadb.PersistentClient(str(folder), settings, request["tenant"], request["database"])
        names = sorted(item.name for item in client.list_collections())
    except BaseException as error:  # noqa: BLE001 - a panic of its Rust part is no Exception; all of them are told
        hint = _NAMED if type(error).__name__ == "NotFoundError" else _MEND
        raise BadInput(f"Chroma {chromadb.__version__} does not open it: {_told(error)}", hint) from None
    name = chosen(str(request["collection"]), names)
    return client.get_collection(name, embedding_function=None)


_NAMED = "see `tenant` and `database` of the profile's entry"
_MEND = "open it with the Chroma that wrote it, and copy it after that has ended"


def chosen(wanted: str, names: list[str]) -> str:
    """Returns the collection that is meant; the only one where none is named."""
    if wanted in names or (not wanted and len(names) == 1):
        return wanted or names[0]
    listed = ", ".join(names[:20]) or "none"
    raise BadInput(f"there is no collection {wanted!r}, only: {listed}" if wanted else f"its collections are: {listed}")


def refuse_calls(path: Path) -> None:
    """Refuses a pickle that is more than data, by reading its opcodes: nothing is unpickled.

    Chroma reads the file by a parser in Rust that knows no calls; one that older releases wrote names a class.
    """
    try:
        with path.open("rb") as file:
            names = {opcode.name for opcode, _, _ in pickletools.genops(file)}
    except ValueError as error:
        raise BadInput(f"{path.parent.name}/{PICKLE} is damaged: {error}") from None
    if calls := names & _CALLS:
        raise BadInput(
            f"{path.parent.name}/{PICKLE} names or calls code ({', '.join(sorted(calls))})",
            "an old Chroma wrote it, or somebody who means harm: export the collection with the Chroma that wrote it",
        )


def _rows(page: Mapping[str, Any], text_key: str) -> Iterator[tuple[Row, Any]]:
    ids, vectors = page["ids"], page.get("embeddings")
    for number, name in enumerate(ids):
        text, metadata = split_metadata(page["metadatas"][number], text_key, page["documents"][number], name)
        yield Row(name, text, metadata), None if vectors is None else vectors[number]


def _facts(request: Mapping[str, Any], collection: Any) -> dict[str, Any]:
    import chromadb

    configuration, metadata = collection.configuration_json or {}, collection.metadata or {}
    described = described_collection(configuration, metadata)
    # Read by ourselves and beside Chroma: which migrations the copy had before Chroma opened it was told to us.
    return {
        "kind": CHROMA,
        "version": f"read by {chromadb.__version__}",
        "collection": collection.name,
        "rows": collection.count(),
        "dimensions": _dimensions(collection),
        "metric": described.pop("metric"),
        "details": {**described, "schema": str(request["schema"])},
    }


def described_collection(configuration: Mapping[str, Any], metadata: Mapping[str, Any]) -> dict[str, str]:
    """Returns the metric of a collection, its index parameters and the name of its embedding function, as text."""
    index = configuration.get("hnsw") or configuration.get("spann") or {}
    space = index.get("space") or metadata.get("hnsw:space") or "l2"
    function = configuration.get("embedding_function") or {}
    name = function.get("name") if isinstance(function, Mapping) else None
    parameters = {key: value for key, value in index.items() if key != "space" and value is not None}
    told = {"metric": str(space), "index": json.dumps(parameters, sort_keys=True)}
    return {**told, **({"embedding function": f"{name} (not used)"} if name else {})}


def _dimensions(collection: Any) -> int:
    found = collection.get(include=["embeddings"], limit=1)["embeddings"]
    return len(found[0]) if len(found) else 0


def schema(request: Mapping[str, Any], _: Mapping[str, IO[bytes]], __: Mapping[str, IO[bytes]]) -> Any:
    """Returns the migrations of the copy as it came, before Chroma opens it and adds its own."""
    file = Path(request["folder"]) / "chroma.sqlite3"
    try:
        database = sqlite3.connect(file)
        try:
            database.execute("PRAGMA trusted_schema = OFF")
            _refuse_programs(database)
            damage = database.execute("PRAGMA quick_check(1)").fetchone()[0]
            found = database.execute("SELECT dir, max(version) FROM migrations GROUP BY dir ORDER BY dir").fetchall()
        finally:
            database.close()
    except sqlite3.Error as error:
        raise BadInput(f"chroma.sqlite3 is damaged or no database of Chroma: {error}") from None
    if damage != "ok":
        raise BadInput(f"chroma.sqlite3 is damaged: {damage}")
    told = ", ".join(f"{name} {version}" for name, version in found[:_MIGRATIONS_SHOWN])
    return f"{told}; SQLite {sqlite3.sqlite_version}"


def _refuse_programs(database: sqlite3.Connection) -> None:
    """Refuses views and triggers, of which Chroma makes none: one in the place of a table may compute for ever."""
    found = database.execute("SELECT type, name FROM sqlite_master WHERE type IN ('view', 'trigger')").fetchone()
    if found is not None:
        raise BadInput(
            f"chroma.sqlite3 holds the {found[0]} {found[1]!r:.80}, and Chroma makes none",
            "somebody changed the file: export the collection with the Chroma that wrote it",
        )


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:500]
