"""The programs of this box, one folder a version, and how one comes off a medium: listed, copied, checked, unpacked.

A folder without its marker is no program. Wheels are copied into a folder that only the writer of programs may open:
were they to lie in the state, whose owner faces the network, that user could change them between check and use.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from appliance.store.medium import ReadAhead, wrong_content
from appliance.store.space import check_space
from appliance.store.unpacking import LOCK, STAGED, discard, is_unfinished, is_whole, misfit, unpack
from bundler.files import DISK, FileLayer, exclusive, make_folder, staged
from bundler.format import paths
from bundler.format.errors import BadInput, NotReady, PartMissing
from bundler.format.manifest import FileDigest
from bundler.format.software import RUNTIME, in_order, is_version, programs, version_order, wheels
from bundler.format.trust.verify import TargetFile
from bundler.terminal import Terminal, size

CURRENT = "current"
# Wheels of 131 MB became a program of 458 MB.
_GROWTH = 4


@dataclass(frozen=True)
class Programs:
    """The programs under one folder.

    Attributes:
        folder: Such as /opt/lifeboat.
        layer: Where faults can be put.
        unpack: Makes a program of a folder of wheels.
    """

    folder: Path
    layer: FileLayer = DISK
    unpack: Callable[[Path, Path, FileLayer], bool] = unpack

    def own(self, prefix: Path | None = None) -> str:
        """Returns the version of the program that runs, or "" where it is none of these (a checkout, an image)."""
        place = (Path(sys.prefix) if prefix is None else prefix).resolve()
        return place.name if place.parent == self.folder.resolve() and self.has(place.name) else ""

    def has(self, version: str) -> bool:
        return is_version(version) and is_whole(self.folder / version)

    def installed(self) -> list[str]:
        """Returns the versions of the programs that are here, oldest first."""
        names = [path.name for path in self.folder.iterdir()] if self.folder.is_dir() else []
        return in_order(name for name in names if self.has(name))

    def python(self, version: str) -> Path:
        """Returns the interpreter of a program; raises NotReady where it is not here, or not whole."""
        if not self.has(version):
            raise NotReady(
                f"program {version} is not installed in {self.folder}", "install the medium that brought it again"
            )
        return self.folder / version / "bin" / "python"

    def writable(self) -> bool:
        """Whether this user may install programs."""
        place = self.folder
        while not place.exists():
            place = place.parent
        return os.access(place, os.W_OK)

    def add(self, medium: Path, version: str, files: Mapping[str, TargetFile], terminal: Terminal) -> None:
        """Installs a program that the medium's trusted targets list; one that is whole already is left.

        Args:
            medium: The repository's folder.
            version: Of the program.
            files: Its signed files by name.
            terminal: Progress.

        Raises:
            PartMissing: It is for another Python or machine, or does not start here.
            FileMissing, BadBundle: A wheel is not on the medium, or not what was signed.
            NoSpace: It does not fit.
        """
        if self.has(version):
            return
        if wrong := misfit(wheels(files)):
            raise PartMissing(f"program {version} does not run here: {wrong}", "ask the builder for one for this box")
        self._make_folder()
        staging = self.folder / f"{STAGED}{version}"
        make_folder(staging, self.layer)
        staging.chmod(0o700)
        wanted = [
            FileDigest(f"{RUNTIME}/{version}/{name}", file.length, file.sha256) for name, file in wheels(files).items()
        ]
        lacking = [file for file in wanted if not _holds(staging, file)]
        # What is unpacked lies beside its wheels.
        check_space(staging, [file.length_bytes for file in [*lacking, *wanted * _GROWTH]])
        total = sum(file.length_bytes for file in lacking)
        with terminal.progress(f"copying program {version}, {size(total)}", total) as progress:
            self._copy(medium, staging, lacking, progress.advance)
        terminal.note(f"installing program {version}")
        place = staging / RUNTIME / version
        self._drop_others(place, {Path(file.path).name for file in wanted})
        self.unpack(place, self.folder / version, self.layer)
        shutil.rmtree(staging)

    def collect(self, kept: Collection[str]) -> tuple[str, ...]:
        """Removes the programs that are not in `kept`, and what unfinished installs left; returns their versions.

        Kept anyway: the one that runs, the one that is started at boot, and the newest.

        Raises:
            Busy: Another run is installing a program.
        """
        with exclusive(self.folder / LOCK, f"another run is installing a program into {self.folder}"):
            here = self.installed()
            wanted = {*kept, self.own(), self.at_boot(), *here[-1:]}
            gone = tuple(version for version in here if version not in wanted)
            for version in gone:
                discard(self.folder / version, self.layer)
            for left in self.folder.iterdir():
                if left.name.startswith(STAGED):
                    shutil.rmtree(left)
                elif is_version(left.name) and is_unfinished(left):
                    discard(left, self.layer)
            return gone

    def at_boot(self) -> str:
        """Returns the version that the service starts with, or "" where none was chosen."""
        link = self.folder / CURRENT
        return link.readlink().name if link.is_symlink() else ""

    def start_with(self, version: str) -> None:
        """Lets the service start with a program, by one rename."""
        self.python(version)
        self.layer.replace_link(self.folder / CURRENT, version)

    def _copy(self, medium: Path, staging: Path, files: Sequence[FileDigest], on_bytes: Callable[[int], None]) -> None:
        with ReadAhead(medium, files) as ahead:
            for file in files:
                digest, length = hashlib.sha256(), 0
                with staged(staging / file.path, mode=0o600, layer=self.layer) as out:
                    for block in ahead.blocks():
                        length += len(block)
                        if length > file.length_bytes:
                            raise wrong_content(file, length)
                        digest.update(block)
                        out.write(block)
                        on_bytes(len(block))
                    if (length, digest.hexdigest()) != (file.length_bytes, file.sha256):
                        raise wrong_content(file, length)

    def _make_folder(self) -> None:
        if not self.writable():
            raise BadInput(f"programs cannot be installed in {self.folder} by this user", "run it as root")
        if not self.folder.exists():
            make_folder(self.folder, self.layer)
            self.folder.chmod(0o755)

    def _drop_others(self, place: Path, names: Collection[str]) -> None:
        """Whatever lies beside the wheels that were just checked is not installed with them."""
        for path in place.iterdir():
            if path.name not in names:
                path.unlink()


def _holds(folder: Path, file: FileDigest) -> bool:
    """Whether a wheel that an earlier run copied is whole: this disk may have damaged it."""
    path = paths.inside(folder, file.path)
    if not path.is_file() or path.stat().st_size != file.length_bytes:
        return False
    with path.open("rb") as found:
        return hashlib.file_digest(found, "sha256").hexdigest() == file.sha256


def newest(targets: Mapping[str, TargetFile]) -> tuple[str, Mapping[str, TargetFile]] | None:
    """Returns version and files of the newest program that trusted targets list, or None."""
    found = programs(targets)
    return next(reversed(found.items()), None)


def is_newer(version: str, running: str) -> bool:
    """Whether a program is newer than the one that runs."""
    return version_order(version) > version_order(running)
