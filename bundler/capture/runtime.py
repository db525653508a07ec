"""Reads a wheelhouse (`scripts/make_runtime` makes one) and makes of it the files of a program, installer included."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from bundler.capture.install_script import Used, install_script
from bundler.capture.runtime_rules import RuntimeFacts
from bundler.confine import Confinement, run_confined
from bundler.format.errors import BadInput, BadInputs
from bundler.format.limits import GIB
from bundler.format.paths import check_all
from bundler.format.record import from_json
from bundler.format.software import INSTALLER, WHEEL

MOST_WHEELS = 500
# Hashing a few gigabytes of CUDA libraries stays far below this.
_CONFINEMENT = Confinement(memory_bytes=2 * GIB, cpu_s=1_200, wall_s=1_800, open_files=64)


@dataclass(frozen=True)
class RuntimeFile:
    """One file of a program: its name, length in bytes, SHA-256, and where it lies; `data` where it was made here."""

    name: str
    length_bytes: int
    sha256: str
    path: Path | None
    data: bytes = b""


@dataclass(frozen=True)
class Runtime:
    """A program that was checked: what it is for, and its files."""

    facts: RuntimeFacts
    files: tuple[RuntimeFile, ...]

    @property
    def length_bytes(self) -> int:
        return sum(file.length_bytes for file in self.files)


def read_wheelhouse(folder: Path) -> Runtime:
    """Checks every wheel of a folder, and that together they are one program.

    Raises:
        BadInput: It holds something else than wheels, or all that is wrong with them.
    """
    wheels = _wheels(folder)
    result = run_confined(
        "bundler.capture.runtime_rules:check",
        {"subject": f"the wheels in {folder}"},
        inputs={path.name: path for path in wheels},
        confinement=_CONFINEMENT,
    )
    facts = from_json(RuntimeFacts, result, "the facts of the wheels")
    files = [_hashed(path) for path in wheels]
    script = install_script(facts, [Used(file.name, file.length_bytes, file.sha256) for file in files])
    made = RuntimeFile(INSTALLER, len(script), hashlib.sha256(script).hexdigest(), None, script)
    return Runtime(facts, (*files, made))


def _hashed(path: Path) -> RuntimeFile:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return RuntimeFile(path.name, file.tell(), digest, path)


def _wheels(folder: Path) -> list[Path]:
    found = sorted(folder.iterdir())
    wrong = [path.name for path in found if path.is_symlink() or not path.is_file() or path.suffix != WHEEL]
    if wrong:
        raise BadInputs(str(folder), tuple(f"{name} is no wheel" for name in wrong), "name a folder of wheels alone")
    if not 0 < len(found) <= MOST_WHEELS:
        raise BadInput(f"{folder} holds {len(found)} wheels, expected 1 to {MOST_WHEELS}", "scripts/make_runtime")
    check_all(path.name for path in found)
    return found
