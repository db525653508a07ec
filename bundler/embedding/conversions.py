"""The build cache: embedding models that an earlier build converted, so that a rebuild does not do it again.

A conversion is known by what went in, by the code that made it, and by the runtime that the precision was chosen with;
its own digest is held against it each time, since disks fail.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

import bundler.capture
from bundler.capture.bert_to_onnx import BertFacts
from bundler.files import read_limited, staged, write_atomic
from bundler.format.errors import BadBundle, FileMissing
from bundler.format.record import from_json

MOST = 4
_RECORD_BYTES = 64 * 2**10


class Conversions:
    """A folder of converted graphs.

    Args:
        folder: Made at the first conversion; of the newest, MOST are kept.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def take(self, name: str, target: Path) -> BertFacts | None:
        """Copies the graph of this name (`name_of`) to `target`; None where there is none, or none that is whole."""
        try:
            record = json.loads(read_limited(self._folder / f"{name}.json", _RECORD_BYTES))
            facts, sha256 = from_json(BertFacts, record["facts"], "a kept conversion"), record["sha256"]
            with staged(target) as out, (self._folder / f"{name}.onnx").open("rb") as graph:
                shutil.copyfileobj(graph, out)
        except (FileMissing, FileNotFoundError, BadBundle, ValueError, KeyError, TypeError):
            return None
        if _digest(target) != sha256:
            target.unlink()
            return None
        return facts

    def keep(self, name: str, graph: Path, facts: BertFacts) -> None:
        """Keeps a graph under its name; the record comes last, since it is what makes it count."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with staged(self._folder / f"{name}.onnx") as out, graph.open("rb") as made:
            shutil.copyfileobj(made, out)
        record = {"facts": asdict(facts), "sha256": _digest(graph)}
        write_atomic(self._folder / f"{name}.json", json.dumps(record).encode())
        by_age = sorted(self._folder.glob("*.json"), key=lambda path: path.stat().st_mtime)
        for old in by_age[:-MOST]:
            old.unlink(missing_ok=True)  # another build may be clearing up, too
            old.with_suffix(".onnx").unlink(missing_ok=True)


def name_of(digests: Mapping[str, str], precision: str) -> str:
    """Returns the name of a conversion: what goes in, the code, and the libraries that do the arithmetic.

    Args:
        digests: SHA-256 of each file of the model, by name.
        precision: As the profile asks for it.
    """
    code = Path(bundler.capture.__file__).parent
    sources = {path.name: _digest(path) for path in sorted(code.glob("*.py"))}
    known = [dict(digests), precision, sources, np.__version__, runtime_version()]
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()


def runtime_version() -> str:
    """Returns the version of ONNX Runtime, told by what is installed: this process does not load it."""
    for name in ("onnxruntime", "onnxruntime-gpu"):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return ""


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
