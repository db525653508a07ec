"""The file layer: whole files or nothing under a final name, with every step replaceable by a fault.

Code that writes takes a `FileLayer`; tests pass one that fails, stops or forgets at the step they choose.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader, RawIOBase
from pathlib import Path
from typing import IO, BinaryIO, cast

from bundler.format.errors import BadBundle, Busy, FileMissing

_STAGED = ".*.part"
_LOOK_S = 0.05


class FileLayer:
    """The operations that durability rests on, one method each, so that a fault can be put at any of them."""

    def open_new(self, path: Path, mode: int) -> BinaryIO:
        # Readable too: what is written can be checked before it gets its name.
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        _give_to_owner(descriptor, path.parent)
        return os.fdopen(descriptor, "wb")

    def sync(self, file: IO[bytes]) -> None:
        file.flush()
        os.fsync(file.fileno())

    def make(self, folder: Path) -> None:
        if not folder.is_dir():
            folder.mkdir(exist_ok=True)
            with _open_folder(folder) as descriptor:
                _give_to_owner(descriptor, folder.parent)

    def rename(self, source: Path, target: Path) -> None:
        source.rename(target)

    def remove(self, path: Path) -> None:
        path.unlink()

    def replace_link(self, link: Path, target: str) -> None:
        """Points a symbolic link at `target` by one rename."""
        fresh = _beside(link)
        fresh.symlink_to(target)
        self.rename(fresh, link)
        self.sync_folder(link.parent)

    def sync_data(self, descriptor: int) -> None:
        """Starts early what `sync` will wait for; an error shows once for a file, so the caller must hear it."""
        os.fdatasync(descriptor)

    def sync_folder(self, folder: Path) -> None:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


DISK = FileLayer()


def make_folder(folder: Path, layer: FileLayer = DISK) -> None:
    """Makes a folder and those above it, each durable by a sync of the one above."""
    if folder.is_dir():
        return
    make_folder(folder.parent, layer)
    layer.make(folder)
    layer.sync_folder(folder.parent)


@contextmanager
def staged(path: Path, *, mode: int = 0o644, layer: FileLayer = DISK) -> Iterator[BinaryIO]:
    """Opens a new file that appears under `path` only if the block ends well; folders are made.

    Args:
        path: The final name; a file there is replaced.
        mode: Permission bits of the file.
        layer: Where faults can be put.
    """
    make_folder(path.parent, layer)
    fresh = _beside(path)
    try:
        with layer.open_new(fresh, mode) as file:
            yield file
            layer.sync(file)
        layer.rename(fresh, path)
        layer.sync_folder(path.parent)
    except BaseException as error:
        fresh.unlink(missing_ok=True)
        # The system says only of an open where it failed; no read can fail by these.
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT) and error.filename is None:
            error.filename = str(path)
        raise


def write_atomic(path: Path, data: bytes, *, mode: int = 0o644, layer: FileLayer = DISK) -> None:
    """Writes a whole small file: the old content or the new under `path`, never a part."""
    with staged(path, mode=mode, layer=layer) as file:
        file.write(data)


def open_regular(path: Path) -> BinaryIO:
    """Opens a regular file to read, unbuffered.

    Raises:
        FileMissing: There is no such file.
        BadBundle: It is a link, a folder, a FIFO or anything else, or cannot be read.
    """
    try:
        # O_NONBLOCK: a FIFO on a medium must not hang the reader; O_NOFOLLOW: no links from a medium.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    except FileNotFoundError:
        raise FileMissing(f"{path} is missing") from None
    except OSError as error:
        raise BadBundle(f"{path} cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise BadBundle(f"{path} is not a regular file")
    return cast("BinaryIO", os.fdopen(descriptor, "rb", buffering=0))


def read_limited(path: Path, limit_bytes: int) -> bytes:
    """Reads a whole regular file of at most `limit_bytes`.

    Raises:
        FileMissing: There is no such file.
        BadBundle: It is longer, or not a regular file.
    """
    with open_regular(path) as file, BufferedReader(cast("RawIOBase", file)) as whole:
        data = whole.read(limit_bytes + 1)
    if len(data) > limit_bytes:
        raise BadBundle(f"{path} is longer than {limit_bytes} bytes")
    return data


@contextmanager
def exclusive(path: Path, busy: str, wait_s: float = 0.0) -> Iterator[None]:
    """Holds a lock file for the length of the block; the lock ends with the process, however that ends.

    Args:
        path: The file; it is made.
        busy: What is said where another process holds it.
        wait_s: How long to wait for that one to end.

    Raises:
        Busy: Another process holds it.
    """
    until = time.monotonic() + wait_s
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        _give_to_owner(descriptor, path.parent)
        while not _try_lock(descriptor):
            if time.monotonic() >= until:
                raise Busy(busy, "wait until it has ended")
            time.sleep(_LOOK_S)
        yield
    finally:
        os.close(descriptor)


def is_held(path: Path) -> bool:
    """Whether a process holds a lock file now; two that look at the same time do not see each other."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        return not _try_lock(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


@contextmanager
def scratch_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """Yields a fresh folder that only this user may open; it is removed whatever happens.

    What a killed process left is removed by the next one: each holds a lock on its own folder.
    """
    parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Under the parent's lock, so that nobody sweeps a folder that is made but not locked yet.
    with _open_folder(parent) as whole:
        os.fchmod(whole, 0o700)
        fcntl.flock(whole, fcntl.LOCK_EX)
        for left in parent.glob(f"{prefix}*"):
            _remove_if_left(left)
        folder = parent / f"{prefix}{secrets.token_hex(4)}"
        folder.mkdir(0o700)
        held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(held, fcntl.LOCK_EX)
    try:
        yield folder
    finally:
        with _open_folder(parent) as whole:
            fcntl.flock(whole, fcntl.LOCK_EX)
            shutil.rmtree(folder)
        os.close(held)


@contextmanager
def no_scratch(parent: Path, prefix: str, busy: str) -> Iterator[None]:
    """Makes whoever wants a scratch folder of a parent wait for the length of the block.

    Raises:
        Busy: One is in use; `busy` says what that means.
    """
    parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _open_folder(parent) as whole:
        fcntl.flock(whole, fcntl.LOCK_EX)
        if any(is_held(folder) for folder in parent.glob(f"{prefix}*")):
            raise Busy(busy, "wait until it has ended")
        yield


def remove_staged(folder: Path) -> None:
    """Removes what killed writers left under a folder; the caller holds the lock under which all writers run."""
    for path in list(folder.rglob(_STAGED)):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


@contextmanager
def _open_folder(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _remove_if_left(folder: Path) -> None:
    # Its own process may be removing it at this moment.
    with suppress(FileNotFoundError), _open_folder(folder) as descriptor:
        if _try_lock(descriptor):
            shutil.rmtree(folder)


def _try_lock(descriptor: int, kind: int = fcntl.LOCK_EX) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _give_to_owner(descriptor: int, folder: Path) -> None:
    """Lets what root writes into another user's folder belong to that user, whose service could not read it else."""
    if os.geteuid() == 0 and (owner := folder.stat()).st_uid != 0:
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
