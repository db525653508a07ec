"""The SQLite files of the state: their locks stay, their mode is closed, and no link leads elsewhere."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from appliance.records.cipher import Cipher
from appliance.records.database import opened, words_of
from appliance.records.journal import Journal, NotKept
from bundler.files import DISK

CIPHER = Cipher(b"s" * 32, "journal")
# The bytes of a file on which SQLite holds its shared lock (https://www.sqlite.org/src/file/src/os.h).
_TAKES = """
import fcntl, sys
with open(sys.argv[1], "r+b") as file:
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 510, 0x40000002)
    except BlockingIOError:
        print("held")
"""


def _held(path: Path) -> bool:
    done = subprocess.run([sys.executable, "-c", _TAKES, str(path)], capture_output=True, text=True, check=True)
    return done.stdout == "held\n"


def test_a_second_journal_of_a_process_drops_no_lock_of_the_first(tmp_path: Path) -> None:
    """Whoever opens and closes a descriptor of the file would take this process's locks with it."""
    path = tmp_path / "journal.db"
    with Journal(path, CIPHER) as first:
        first.accept("k", "t", "1", b"x", new_id=lambda: "1", now_s=1)
        assert _held(path)
        with Journal(path, CIPHER) as second:
            assert second.entry("1") is not None
            assert _held(path)
        assert _held(path)
    assert not _held(path)


def test_a_new_file_is_its_owners_alone(tmp_path: Path) -> None:
    """Whatever the umask is, nobody else reads it."""
    before = os.umask(0)
    try:
        opened(tmp_path / "a.db", synchronous="FULL", file_bytes=2**20, layer=DISK).close()
    finally:
        os.umask(before)
    assert (tmp_path / "a.db").stat().st_mode & 0o777 == 0o600


def test_a_link_is_refused(tmp_path: Path) -> None:
    """A link in the place of the journal leads to nothing that is made or written."""
    (tmp_path / "journal.db").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(NotKept, match="a link"), Journal(tmp_path / "journal.db", CIPHER):
        pass
    assert not (tmp_path / "elsewhere").exists()


def test_a_fault_of_sqlite_has_words_of_ours(tmp_path: Path) -> None:
    """What SQLite says may quote a path; what is told does not."""
    (tmp_path / "a.db").write_bytes(b"not a database, and longer than a header of one is" * 10)
    with pytest.raises(sqlite3.DatabaseError) as caught:
        opened(tmp_path / "a.db", synchronous="FULL", file_bytes=2**20, layer=DISK)
    assert words_of(caught.value) == "its file is damaged"
    assert words_of(sqlite3.OperationalError("no such table: x")) == "its file cannot be written"
