"""A file layer that fails on purpose: it counts the steps that durability rests on, and stops or forgets at one.

`Recorder` counts. `Failing` raises an OSError at step N. `Cut` ends the process before step N, and what was not synced
by then is gone, as after a power cut: files lose their bytes, and names in folders that were not synced go back.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import IO, BinaryIO

from bundler.files import FileLayer

EXIT_CUT = 77


class Recorder(FileLayer):
    """Counts steps; the base of all faults."""

    def __init__(self) -> None:
        self.steps = 0
        self.last: Path | None = None

    def open_new(self, path: Path, mode: int) -> BinaryIO:
        self.step(path)
        return super().open_new(path, mode)

    def sync(self, file: IO[bytes]) -> None:
        self.step(None)
        super().sync(file)

    def make(self, folder: Path) -> None:
        self.step(folder)
        super().make(folder)

    def rename(self, source: Path, target: Path) -> None:
        self.step(target)
        super().rename(source, target)

    def remove(self, path: Path) -> None:
        self.step(path)
        super().remove(path)

    def sync_data(self, descriptor: int) -> None:
        self.step(None)
        super().sync_data(descriptor)

    def sync_folder(self, folder: Path) -> None:
        self.step(folder)
        super().sync_folder(folder)

    def step(self, path: Path | None) -> None:
        """Called before each step, with the path that it is about where there is one."""
        self.steps += 1
        self.last = path


class Failing(Recorder):
    """Raises an OSError at one step, once; the program may clean up and report."""

    def __init__(self, at: int, errno: int) -> None:
        super().__init__()
        self._at, self._errno = at, errno

    def step(self, path: Path | None) -> None:
        super().step(path)
        if self.steps == self._at:
            raise OSError(self._errno, os.strerror(self._errno), None if path is None else str(path))


class Cut(Recorder):
    """Ends everything at one step, and forgets what was not synced.

    Args:
        at: The step before which the power goes.
    """

    def __init__(self, at: int) -> None:
        super().__init__()
        self._at = at
        self._synced: set[Path] = set()
        self._renamed: list[tuple[Path, Path | None, Path]] = []
        self._made: list[Path] = []
        self._fresh: set[Path] = set()

    def open_new(self, path: Path, mode: int) -> BinaryIO:
        file = super().open_new(path, mode)
        self._fresh.add(path)
        return file

    def sync(self, file: IO[bytes]) -> None:
        super().sync(file)
        self._synced.add(Path(f"/proc/self/fd/{file.fileno()}").readlink())

    def make(self, folder: Path) -> None:
        new = not folder.exists()
        super().make(folder)
        if new:
            self._made.append(folder)

    def rename(self, source: Path, target: Path) -> None:
        saved = None
        if target.is_symlink() or target.is_file():
            saved = target.with_name(f".saved-{len(self._renamed)}-{target.name}")
            os.link(target, saved, follow_symlinks=False)
        super().rename(source, target)
        self._renamed.append((target, saved, source))
        # A name that is durable says nothing of the bytes under it.
        self._fresh = {_moved(path, source, target) for path in self._fresh}
        self._synced = {_moved(path, source, target) for path in self._synced}

    def sync_folder(self, folder: Path) -> None:
        super().sync_folder(folder)
        for _, saved, _ in [item for item in self._renamed if item[0].parent == folder]:
            if saved is not None:
                saved.unlink()
        self._renamed = [item for item in self._renamed if item[0].parent != folder]
        self._made = [made for made in self._made if made.parent != folder]

    def step(self, path: Path | None) -> None:
        super().step(path)
        if self.steps == self._at:
            self.forget()
            os._exit(EXIT_CUT)  # no handler and no clean-up runs after a power cut

    def forget(self) -> None:
        """Empties files that were never synced, and undoes new names that no sync of their folder made durable."""
        for path in self._fresh - self._synced:
            if path.exists():
                path.write_bytes(b"")
        for target, saved, source in reversed(self._renamed):
            if target.is_symlink() or target.exists():
                target.rename(source)
            if saved is not None:
                saved.replace(target)
        for folder in reversed(self._made):
            shutil.rmtree(folder, ignore_errors=True)


def _moved(path: Path, source: Path, target: Path) -> Path:
    """Returns where a file lies after a rename of it or of a folder above it."""
    return target / path.relative_to(source) if path.is_relative_to(source) else path
