"""Programs of a repository: put in place first, then listed by the release key; a reader sees neither half.

The newest KEPT programs stay listed, so that one which turns out bad can be withdrawn and the one before is there. A
copy for a site carries the newest alone. `install.sh` at the top is the one of the newest program; it is put in place
after the signature (`installer.settle`), by this command or by the next one that writes.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tuf.api.metadata import TargetFile as Signed

from bundler.capture.runtime import Runtime, RuntimeFile
from bundler.files import FileLayer, make_folder, open_regular, staged, write_atomic
from bundler.format.errors import BadInput
from bundler.format.limits import MIB
from bundler.format.software import INSTALLER, RUNTIME, in_order, programs, version_order
from bundler.format.trust.verify import TargetFile, TrustedRepository
from bundler.repository.installer import holds
from bundler.repository.keyring import Keyring
from bundler.repository.publish import Publisher
from bundler.repository.roots import Roots
from bundler.repository.rotation import Taken, take_targets

KEPT = 2


@dataclass(frozen=True)
class Shipped:
    """What became of a program: `taken` is None where it was listed already, `dropped` are listed no more."""

    version: str
    taken: Taken | None
    dropped: tuple[str, ...]


def add_runtime(
    publisher: Publisher, runtime: Runtime, keyring: Keyring, roots: Roots, request: Path | None, layer: FileLayer
) -> Shipped:
    """Puts a program into the repository and lists it; the caller holds the repository's lock.

    Args:
        publisher: Of the repository.
        runtime: What was checked.
        keyring: Its release keys sign.
        roots: The MSP's roots.
        request: Where to write what is to be signed, for keys that lie elsewhere.
        layer: Where faults can be put.

    Raises:
        BadInput: This version is listed with other files, or newer ones are and this one would not be kept.
        NotReady: Too few release keys are at hand and no request file is named.
    """
    trusted, version = publisher.trusted(), runtime.facts.version
    files = {file.name: TargetFile(file.length_bytes, file.sha256) for file in runtime.files}
    listed = programs(trusted.targets)
    if listed.get(version) == files:
        return Shipped(version, None, ())
    if version in listed:
        raise BadInput(
            f"program {version} is listed with other files: {_difference(listed[version], files)}",
            "give what changed a version of its own: boxes tell programs apart by it",
        )
    kept = in_order([*listed, version])[-KEPT:]
    if version not in kept:
        raise BadInput(f"programs {' and '.join(kept)} are newer than {version}", "withdraw one of them first")
    folder = publisher.folder / RUNTIME / version
    for file in runtime.files:
        _put(file, folder / file.name, layer)
    return _list(publisher, {**listed, version: files}, kept, keyring, roots, request)


def withdraw_runtime(
    publisher: Publisher, version: str, keyring: Keyring, roots: Roots, request: Path | None
) -> Shipped:
    """Lists a program no more; boxes that run it go on, and others are not given it.

    Raises:
        BadInput: It is not listed.
        NotReady: As `add_runtime`.
    """
    listed = programs(publisher.trusted().targets)
    if version not in listed:
        raise BadInput(f"the repository lists no program {version}", "see `lifeboat inspect`")
    return _list(publisher, listed, [other for other in listed if other != version], keyring, roots, request)


def _list(
    publisher: Publisher,
    found: Mapping[str, Mapping[str, TargetFile]],
    kept: list[str],
    keyring: Keyring,
    roots: Roots,
    request: Path | None,
) -> Shipped:
    trusted = publisher.trusted()
    software = {f"{RUNTIME}/{version}/{name}": file for version in kept for name, file in found[version].items()}
    if kept:
        software[INSTALLER] = found[max(kept, key=version_order)][INSTALLER]
    signed = {path: Signed(file.length, {"sha256": file.sha256}, path) for path, file in software.items()}
    number = trusted.remembered().targets_version + 1
    taken = take_targets(publisher, publisher.draft_targets(trusted.policy, signed, number), keyring, roots, request)
    dropped = tuple(sorted(programs(trusted.targets).keys() - set(kept), key=version_order))
    if taken.request is None:
        for version in dropped:
            shutil.rmtree(publisher.folder / RUNTIME / version)
    return Shipped(max(kept, key=version_order, default=""), taken, dropped)


def _put(file: RuntimeFile, target: Path, layer: FileLayer) -> None:
    """Copies one file; under its final name it has the digest that will be signed."""
    wanted = TargetFile(file.length_bytes, file.sha256)
    if target.is_file() and holds(target.parent, target.name, wanted):
        return
    make_folder(target.parent, layer)
    if file.path is None:
        write_atomic(target, file.data, layer=layer)
        return
    with open_regular(file.path) as source, staged(target, layer=layer) as out:
        shutil.copyfileobj(source, out, MIB)
    if not holds(target.parent, target.name, wanted):
        target.unlink()
        raise BadInput(f"{file.name} changed while it was read", "run the same command again")


def _difference(old: Mapping[str, TargetFile], new: Mapping[str, TargetFile]) -> str:
    names = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


@dataclass(frozen=True)
class Carried:
    """A program that a repository lists: its version, wheels and bytes."""

    version: str
    wheels: int
    length_bytes: int

    @property
    def line(self) -> str:
        return f"software {self.version}: {self.wheels} wheels, {self.length_bytes / 1e6:.1f} MB"


def carried(trusted: TrustedRepository) -> tuple[Carried, ...]:
    """Returns the programs that are listed, oldest first."""
    return tuple(
        Carried(version, len(files) - (INSTALLER in files), sum(file.length for file in files.values()))
        for version, files in programs(trusted.targets).items()
    )


def installer_sha256(trusted: TrustedRepository) -> str:
    """Returns the digest that stands on a delivery slip, or "" where the repository holds no software."""
    return trusted.targets[INSTALLER].sha256 if INSTALLER in trusted.targets else ""
