"""FAISS and JSONL files as stores: one file each, read in the confined child from open files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bundler.capture.stores.rows import StoreFacts, facts_of
from bundler.confine import Confinement, run_confined
from bundler.format.errors import BadInput
from bundler.format.limits import GIB
from bundler.profile.vectors import FAISS

FILE_BYTES_MAX = 64 * GIB


@dataclass(frozen=True)
class StoreFile:
    """One file that is a collection, and the texts beside it where it holds none."""

    module: str
    inputs: Mapping[str, Path]
    request: Mapping[str, Any]
    confinement: Confinement

    def look(self) -> StoreFacts:
        found = run_confined(
            f"{self.module}:look",
            {**self.request, "vectors": True},
            inputs=self.inputs,
            confinement=self.confinement,
        )
        return facts_of(found)

    def read(self, rows: Path, vectors: Path, *, wants_vectors: bool) -> StoreFacts:
        """Writes every row; see `rows.RowWriter`."""
        found = run_confined(
            f"{self.module}:read",
            {**self.request, "vectors": wants_vectors},
            inputs=self.inputs,
            outputs={"rows": rows, "vectors": vectors},
            confinement=self.confinement,
        )
        return facts_of(found)

    def ask(self, _queries: Any, _k: int) -> None:
        """Returns None: such a file has no search of its own, and is defined by the exact one."""
        return


def open_file(kind: str, file: Path, texts: Path | None, *, metric: str, text_key: str) -> StoreFile:
    """Returns a FAISS or JSONL file as a store; it is not read yet.

    Raises:
        BadInput: A link, a folder, or too large.
    """
    inputs = {"index": file, "texts": texts} if kind == FAISS and texts is not None else {"rows": file}
    total = 0
    for path in inputs.values():
        if path.is_symlink() or not path.is_file():
            raise BadInput(f"{path} is a link or not a regular file")
        total += path.stat().st_size
    if total > FILE_BYTES_MAX:
        raise BadInput(f"{file} and its texts hold {total} bytes, at most {FILE_BYTES_MAX} are taken")
    # Ids and places of rows are held in memory, the rows themselves are not.
    limits = Confinement(memory_bytes=4 * GIB, cpu_s=3_600, wall_s=3_600, output_bytes=max(2 * GIB, 2 * total))
    module = f"bundler.capture.stores.{'faiss_flat' if kind == FAISS else 'lines'}"
    return StoreFile(module, inputs, {"metric": metric, "text_key": text_key}, limits)
