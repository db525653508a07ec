"""Opens the SQLite files of the state: made closed to others, never through a link, in WAL mode.

POSIX locks belong to a process and an inode: closing any descriptor of a file drops every lock that SQLite holds on it
in this process (https://www.sqlite.org/howtocorrupt.html, 2.2). So nothing here, and nothing else in a serving process,
opens a database but SQLite itself; a new one is made by `mknod`, which opens nothing.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from bundler.files import FileLayer

PAGE_BYTES = 4096
BUSY_S = 10.0  # the other process of a switch commits in milliseconds
_AGAIN_S = 0.02
_WAL_KEPT_BYTES = 4 * 2**20


def opened(path: Path, *, synchronous: str, file_bytes: int, layer: FileLayer) -> sqlite3.Connection:
    """Opens a database in autocommit mode, and makes it where there is none.

    Args:
        path: Its file.
        synchronous: "FULL" where a commit is to be on the disk when it returns, "NORMAL" where a power cut may take it.
        file_bytes: The longest that the file grows.
        layer: Where faults can be put.

    Raises:
        sqlite3.Error: It cannot be opened.
        OSError: It cannot be made, or is no ordinary file.
    """
    _make(path, layer)
    database = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
    try:
        for pragma in _pragmas(synchronous, file_bytes):
            _set(database, pragma)
    except BaseException:
        database.close()
        raise
    return database


def is_whole(database: sqlite3.Connection) -> bool:
    """Says whether SQLite finds the file in order; not what an attacker changed of the content, which is sealed."""
    return bool(database.execute("PRAGMA quick_check(1)").fetchone() == ("ok",))


def version_of(database: sqlite3.Connection) -> int:
    """Returns the format that whoever made the tables noted; 0 where there are none."""
    return int(database.execute("PRAGMA user_version").fetchone()[0])


def words_of(error: sqlite3.Error) -> str:
    """Returns our words for a failure of a database, whose own may quote a path."""
    known = {
        "SQLITE_FULL": "the disk is full, or the file has its longest size",
        "SQLITE_BUSY": "another process writes to it",
        "SQLITE_READONLY": "its file is read-only",
        "SQLITE_CANTOPEN": "its file cannot be opened",
        "SQLITE_CORRUPT": "its file is damaged",
        "SQLITE_NOTADB": "its file is damaged",
    }
    name = getattr(error, "sqlite_errorname", "") or ""
    return next((words for code, words in known.items() if name.startswith(code)), "its file cannot be written")


def _make(path: Path, layer: FileLayer) -> None:
    with suppress(FileExistsError):
        os.mknod(path, stat.S_IFREG | 0o600)
    if not stat.S_ISREG(path.lstat().st_mode):
        raise OSError(0, "it is a link or no ordinary file")
    layer.sync_folder(path.parent)


def _pragmas(synchronous: str, file_bytes: int) -> Sequence[str]:
    return (
        f"page_size = {PAGE_BYTES}",
        "journal_mode = WAL",
        f"synchronous = {synchronous}",
        f"max_page_count = {file_bytes // PAGE_BYTES}",
        f"journal_size_limit = {_WAL_KEPT_BYTES}",
        "secure_delete = ON",
        "trusted_schema = OFF",
        "cell_size_check = ON",
    )


def _set(database: sqlite3.Connection, pragma: str) -> None:
    """Sets a pragma; of two that open a fresh file at once SQLite lets neither wait for the write-ahead log."""
    end_s = time.monotonic() + BUSY_S
    while True:
        try:
            database.execute(f"PRAGMA {pragma}")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > end_s:
                raise
            time.sleep(_AGAIN_S)
        else:
            return
