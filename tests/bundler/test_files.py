import fcntl
import os
import posix
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO, cast

import pytest

from bundler.files import (
    FileLayer,
    exclusive,
    is_held,
    read_limited,
    remove_staged,
    scratch_folder,
    staged,
    write_atomic,
)
from bundler.format.errors import BadBundle, Busy, FileMissing


@pytest.fixture(autouse=True)
def waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here the disk is waited for."""
    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, name, getattr(posix, name))


class Failing(FileLayer):
    """Fails at one named operation."""

    def __init__(self, operation: str) -> None:
        self.operation = operation

    def sync(self, file: IO[bytes]) -> None:
        self._maybe("sync")
        super().sync(file)

    def rename(self, source: Path, target: Path) -> None:
        self._maybe("rename")
        super().rename(source, target)

    def _maybe(self, operation: str) -> None:
        if operation == self.operation:
            raise OSError(28, "No space left on device")


@pytest.mark.parametrize("operation", ["sync", "rename"])
def test_a_failed_write_leaves_the_old_file_alone(tmp_path: Path, operation: str) -> None:
    """Neither a half file under the final name nor a leftover beside it."""
    target = tmp_path / "it"
    write_atomic(target, b"old")
    with pytest.raises(OSError, match="No space"):
        write_atomic(target, b"new", layer=Failing(operation))
    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["it"]


def test_an_exception_in_the_block_writes_nothing(tmp_path: Path) -> None:
    """A staged file appears only if its block ends well."""
    with pytest.raises(TypeError), staged(tmp_path / "it") as file:
        file.write(b"half" + cast("bytes", "text"))
    assert list(tmp_path.iterdir()) == []


def test_reading_is_bounded(tmp_path: Path) -> None:
    """A longer file is refused, not cut."""
    (tmp_path / "it").write_bytes(b"12345")
    assert read_limited(tmp_path / "it", 5) == b"12345"
    with pytest.raises(BadBundle, match="longer than 4"):
        read_limited(tmp_path / "it", 4)


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    """A FIFO does not hang the reader, a link is not followed, an absent file says so."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to(tmp_path / "fifo")
    for name in ("fifo", "link"):
        with pytest.raises(BadBundle):
            read_limited(tmp_path / name, 10)
    with pytest.raises(FileMissing):
        read_limited(tmp_path / "absent", 10)


def test_a_link_is_replaced_by_one_rename(tmp_path: Path) -> None:
    """The link points at the new target, and nothing is left beside it."""
    layer, link = FileLayer(), tmp_path / "current"
    layer.replace_link(link, "1")
    layer.replace_link(link, "2")
    assert str(link.readlink()) == "2"
    assert [path.name for path in tmp_path.iterdir()] == ["current"]


def test_a_lock_keeps_others_out_until_its_holder_ends(tmp_path: Path) -> None:
    """Also a holder that was killed frees it."""
    program = (
        "import sys, time; from pathlib import Path; from bundler.files import exclusive\n"
        "with exclusive(Path(sys.argv[1]), 'x'): print('held', flush=True); time.sleep(60)"
    )
    lock = tmp_path / "lock"
    with subprocess.Popen([sys.executable, "-c", program, str(lock)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(Busy, match="at work"), exclusive(lock, "another is at work"):
            pass
        holder.kill()
    with exclusive(lock, "another is at work"):
        assert lock.exists()


def test_who_looks_at_a_lock_is_no_holder(tmp_path: Path) -> None:
    """Nothing is made where there is none; and whoever wants it waits for one that looks, or that ends soon."""
    lock = tmp_path / "lock"
    assert not is_held(lock)
    assert not lock.exists()
    with exclusive(lock, "another is at work"):
        assert is_held(lock)
    with lock.open() as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        assert not is_held(lock)
        ending = threading.Timer(0.1, fcntl.flock, (looking, fcntl.LOCK_UN))
        ending.start()
        with exclusive(lock, "another is at work", wait_s=60):
            assert is_held(lock)
        ending.join()


def test_scratch_folders_of_killed_processes_are_swept(tmp_path: Path) -> None:
    """A folder whose holder lives stays; one that was left goes, and so does our own at the end."""
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "build-left").mkdir()
    (tmp_path / "work" / "build-left" / "plain").write_text("customer data")
    with scratch_folder(tmp_path / "work", "build-") as one:
        (one / "file").write_text("x")
        with scratch_folder(tmp_path / "work", "build-") as two:
            assert sorted((tmp_path / "work").iterdir()) == sorted([one, two])
    assert list((tmp_path / "work").iterdir()) == []


def test_staged_leftovers_are_removed(tmp_path: Path) -> None:
    """Files and folders of killed writers go; everything else stays."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / ".b.0123.part").write_text("half")
    (tmp_path / ".bundle.part").mkdir()
    (tmp_path / ".bundle.part" / "vol").write_text("half")
    (tmp_path / "keep.part").write_text("mine")
    remove_staged(tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "keep.part"]
