"""A file on its way from a hub: it grows at its end, its digests with it, and a killed run's part is taken up."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

from bundler.format.errors import BadInput, NoSpace, SourceFailed
from bundler.format.limits import MIB
from bundler.sources.hub_listing import Digests, Entry
from bundler.terminal import size


class PartFile:
    """The open file; what lies in it was hashed."""

    def __init__(self, file: FileIO, entry: Entry) -> None:
        self._file, self._entry, self.digests = file, entry, Digests(entry)
        for piece in pieces(file):
            self.digests.update(piece)
        if self.digests.length_bytes > entry.length_bytes:
            self.restart()

    def write(self, data: bytes) -> None:
        """Adds to the end; raises SourceFailed, and keeps nothing, where the file grows longer than it is listed."""
        if self.digests.length_bytes + len(data) > self._entry.length_bytes:
            self.restart()
            raise SourceFailed(
                f"{self._entry.path}: more came than the {self._entry.length_bytes} bytes that are listed"
            )
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]
        self.digests.update(data)

    def restart(self) -> None:
        self._file.seek(0)
        self._file.truncate()
        self.digests.restart()

    def sync(self) -> None:
        os.fsync(self._file.fileno())


@contextmanager
def part_file(path: Path, entry: Entry) -> Iterator[PartFile]:
    """Opens the part of an entry, or begins one; what came of it stays where the block fails, for the next run.

    Raises:
        BadInput: Something else lies there: a link, a pipe, a folder.
    """
    with open_private(path, os.O_RDWR | os.O_CREAT) as file:
        part = PartFile(file, entry)
        try:
            yield part
        except BaseException:
            if not part.digests.length_bytes:
                path.unlink()
            raise


@contextmanager
def open_private(path: Path, flags: int) -> Iterator[FileIO]:
    """Opens a file of the cache, unbuffered; raises BadInput where it is not a regular file, as a planted link."""
    try:
        descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW, 0o600)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise BadInput(f"{path} cannot be opened: {error.strerror}", "remove it and try again") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise BadInput(f"{path} is not a regular file", "remove it and try again")
    with FileIO(descriptor, "r+b" if flags & os.O_RDWR else "rb") as file:
        yield file


def pieces(file: FileIO) -> Iterator[memoryview]:
    """Yields the file from where it stands to its end; a piece is valid until the next one is asked for."""
    room = memoryview(bytearray(MIB))
    while count := file.readinto(room):
        yield room[:count]


def check_space(folder: Path, need_bytes: int) -> None:
    """Raises NoSpace where a file of so many bytes does not fit any more."""
    free = shutil.disk_usage(folder).free
    if need_bytes > free:
        raise NoSpace(f"{folder} has {size(free)} free, the file needs {size(need_bytes)}", "free some space")
