"""The process of `scripts/bench_vectors` that reads one store, and tells what that took of it and of its children."""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bundler.capture.stores import chroma_folder, files
from bundler.capture.stores.chroma_server import ChromaServer
from bundler.capture.stores.rows import open_vectors, read_rows
from bundler.fit.snapshot import exact, spread
from bundler.profile.table import Table
from bundler.profile.vectors import read_vectors


def main() -> None:
    """Reads the store of argv as a build does, asks it 32 questions, and prints JSON."""
    name, folder = sys.argv[1], Path(sys.argv[2])
    store = _store(name, folder, sys.argv[3])
    store.look()
    began = time.monotonic()
    facts = store.read(folder / "rows", folder / "vectors", wants_vectors=True)
    read_s = time.monotonic() - began
    assert sum(1 for _ in read_rows(folder / "rows")) == facts.rows
    vectors = open_vectors(folder / "vectors", facts)
    queries = vectors[spread(len(vectors), 32)]
    store.ask(queries, 10)
    exact(vectors, facts.metric, queries, 10)
    own, child = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    told = {"rows": facts.rows, "dimensions": facts.dimensions, "read_s": read_s, "own_kb": own, "child_kb": child}
    print(json.dumps(told))


def _store(name: str, folder: Path, url: str) -> chroma_folder.ChromaFolder | ChromaServer | files.StoreFile:
    if name == "chroma":
        names = {"collection": "rows", "tenant": "default_tenant", "database": "default_database", "text_key": ""}
        return chroma_folder.open_folder(folder / "chroma", folder / "copy", **names)
    if name == "server":
        (entry,) = read_vectors([Table({"name": "x", "source": f"chroma:{url}", "embedding": "x"}, "", [])])
        return ChromaServer.of(entry, "", folder)
    texts = folder / "t.jsonl" if name == "faiss" else None
    return files.open_file(name, folder / f"x.{name}", texts, metric="cosine", text_key="")


if __name__ == "__main__":
    main()
