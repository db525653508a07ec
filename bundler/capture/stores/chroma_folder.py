"""A Chroma directory: copied as it is, then opened by Chroma in the confined child, on the copy alone."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bundler.capture.stores.rows import StoreFacts, facts_of
from bundler.confine import Confinement, run_confined
from bundler.files import open_regular
from bundler.format.errors import BadBundle, BadInput, BadInputs, SourceFailed
from bundler.format.limits import GIB, MIB
from bundler.knowledge.reading import Vectors
from bundler.repository.survey import Stamp

FOLDER_BYTES_MAX, FILES_MAX = 64 * GIB, 10_000
_CHILD = "bundler.capture.stores.chroma_child"
_DATABASE = "chroma.sqlite3"
_OWN = re.compile(
    r"chroma\.sqlite3(-wal|-shm|-journal)?"
    r"|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/(header|data_level0|length|link_lists)\.bin"
    r"|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/index_metadata\.pickle"
)
_OLD = "chroma-collections.parquet"
_ATTEMPTS = 3
_BASE_BYTES = 4 * GIB  # its threads reserve stacks and pools, which the limit counts, and touch little of them
_SHM = "-shm"


@dataclass(frozen=True)
class ChromaFolder:
    """A private copy of a directory, and which collection of it is meant."""

    copy: Path
    request: Mapping[str, Any]
    confinement: Confinement

    def look(self) -> StoreFacts:
        return facts_of(self._run("look", self.request))

    def read(self, rows: Path, vectors: Path, *, wants_vectors: bool) -> StoreFacts:
        """Writes every row; see `rows.RowWriter`."""
        request = {**self.request, "vectors": wants_vectors}
        outputs = {"rows": rows, "vectors": vectors}
        return facts_of(self._run("read", request, outputs=outputs))

    def ask(self, queries: Vectors, k: int) -> list[list[str]]:
        """Returns what Chroma itself finds for vectors: ids, nearest first."""
        file = self.copy.with_name(f"{self.copy.name}-queries")
        file.write_bytes(np.ascontiguousarray(queries, dtype="<f4").tobytes())
        request = {**self.request, "k": k, "dimensions": queries.shape[1]}
        return answers_of(self._run("ask", request, inputs={"queries": file}), len(queries))

    def _run(self, what: str, request: Mapping[str, Any], **files: Mapping[str, Path]) -> Any:
        """Chroma writes beside what it reads, so the copy is the one folder that the child reaches by path."""
        return run_confined(f"{_CHILD}:{what}", request, folders=[self.copy], confinement=self.confinement, **files)


def answers_of(value: object, queries: int) -> list[list[str]]:
    """Returns lists of ids, one a query, strictly."""
    lists = value if isinstance(value, list) else []
    if len(lists) != queries or not all(
        isinstance(ids, list) and all(isinstance(i, str) for i in ids) for ids in lists
    ):
        raise BadInput("the store's answers are not lists of ids, one a query")
    return lists


def open_folder(
    folder: Path, copy: Path, *, collection: str, tenant: str, database: str, text_key: str
) -> ChromaFolder:
    """Copies a directory and looks at what it is; nothing but Chroma's own files may be in it.

    Args:
        folder: The operator's; it is read and never opened by Chroma.
        copy: Where the private copy goes; in the work folder.
        collection: Which one; "" where there is only one.
        tenant: Chroma's own word for whose databases these are.
        database: The name of one of them.
        text_key: The metadata that holds the text, or "" for Chroma's documents.

    Raises:
        BadInput: It is no Chroma directory, or one that is refused; BadInputs with each file that is.
        SourceFailed: Something writes to it.
    """
    size_bytes = _copied(folder, copy)
    limits = Confinement(
        memory_bytes=_BASE_BYTES + 4 * size_bytes + (os.cpu_count() or 1) * 256 * MIB,
        cpu_s=3_600,
        wall_s=3_600,
        output_bytes=max(2 * GIB, 4 * size_bytes),
        open_files=1_024,
        starts_threads=True,
    )
    request = {"folder": str(copy), "collection": collection, "tenant": tenant, "database": database}
    request |= {"text_key": text_key}
    found = run_confined(f"{_CHILD}:schema", request, folders=[copy], confinement=replace(limits, starts_threads=False))
    return ChromaFolder(copy, {**request, "schema": str(found)}, limits)


def _copied(folder: Path, copy: Path) -> int:
    """Copies the files; where one changes meanwhile, all of them again. Returns their size."""
    for _ in range(_ATTEMPTS):
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir(mode=0o700, parents=True)
        before = _listed(folder)
        for path, stamp in before.items():
            _copy(path, copy / path.relative_to(folder), stamp)
        if _listed(folder) == before:
            return sum(stamp.length_bytes for stamp in before.values())
    raise SourceFailed(
        f"{folder} changed while it was copied, {_ATTEMPTS} times",
        "stop the program that writes to it, or name its server as chroma:http://HOST:PORT",
    )


def _listed(folder: Path) -> dict[Path, Stamp]:
    if folder.is_symlink() or not folder.is_dir():
        raise BadInput(f"{folder} is no folder", "name the folder that holds chroma.sqlite3")
    if (folder / _OLD).exists():
        raise BadInput(
            f"{folder} was written by a Chroma before 0.4", "`pip install chroma-migrate` brings it to the present form"
        )
    if not (folder / _DATABASE).is_file():
        raise BadInput(f"{folder} holds no {_DATABASE}", "name the folder that Chroma was given as its path")
    entries = _walked(folder)
    issues = [f"{name} {problem}" for name, path in sorted(entries.items()) if (problem := _problem(name, path))]
    if issues:
        raise BadInputs(str(folder), tuple(issues), "leave Chroma's own files in it, and nothing else")
    # SQLite's shared memory is made anew by whoever opens the copy.
    stamps = {p: Stamp.of(p.lstat()) for n, p in entries.items() if not p.is_dir() and not n.endswith(_SHM)}
    if (total := sum(stamp.length_bytes for stamp in stamps.values())) > FOLDER_BYTES_MAX:
        raise BadInput(f"{folder} holds {total} bytes, at most {FOLDER_BYTES_MAX} are taken")
    return stamps


def _walked(folder: Path) -> dict[str, Path]:
    found = {}
    for path in folder.rglob("*"):
        found[path.relative_to(folder).as_posix()] = path
        if len(found) > FILES_MAX:
            raise BadInput(f"{folder} holds more than {FILES_MAX} files")
    return found


def _problem(name: str, path: Path) -> str:
    if path.is_symlink():
        return "is a link"
    if path.is_dir():
        return "" if re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", name) else "is no folder of Chroma's"
    if not path.is_file():
        return "is not a regular file"
    return "" if _OWN.fullmatch(name) else "is no file of Chroma's"


def _copy(path: Path, target: Path, stamp: Stamp) -> None:
    target.parent.mkdir(mode=0o700, exist_ok=True)
    try:
        with open_regular(path) as source, target.open("xb") as out:
            left = stamp.length_bytes
            while left > 0 and (data := source.read(min(left, MIB))):
                out.write(data)
                left -= len(data)
    except BadBundle as error:  # the file layer's word for a link or what vanished
        raise SourceFailed(error.fact, "stop the program that writes to the folder") from error
