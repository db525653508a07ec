"""The answer cache's file, `STATE/cache.db`: sealed answers under keyed names, bounded, and gone without harm.

One SQLite file in WAL mode with `synchronous=NORMAL`: kill -9 loses nothing, a power cut the last few answers at most.
A name is a keyed hash of the request and its tenant, an answer is sealed for its name and tenant, so the file tells how
many answers there are, when they came and about how long they are, and nothing else. A file that is damaged or of
another program is made anew: nothing in it is needed.

Blocking: `appliance.records.thread` keeps it off the event loop.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from appliance.records.cipher import Cipher
from appliance.records.database import BUSY_S, is_whole, opened, version_of, words_of
from appliance.records.journal import NotKept
from bundler.files import DISK, FileLayer
from bundler.format.errors import BadBundle

T = TypeVar("T")
FORMAT = 1
_DAMAGED = ("SQLITE_CORRUPT", "SQLITE_NOTADB")
# What goes when there is no room goes in lots, so that not every answer has to look for the oldest.
_LOT = 20
_RECOUNT_PUTS = 512
_TABLE = """
CREATE TABLE IF NOT EXISTS answers (
  name TEXT PRIMARY KEY, made_s INTEGER NOT NULL, until_s INTEGER NOT NULL, size_bytes INTEGER NOT NULL,
  sealed BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS answers_made ON answers (made_s, size_bytes);
CREATE INDEX IF NOT EXISTS answers_until ON answers (until_s);
"""


@dataclass(frozen=True)
class Room:
    """How much the cache takes: answers, bytes of them together and of one, and bytes of its file."""

    answers: int = 10_000
    sealed_bytes: int = 64 * 2**20
    one_bytes: int = 2**20
    file_bytes: int = 128 * 2**20


@dataclass
class Tally:
    """What the file holds, and what went since it was opened: for want of room, by age, because it was damaged."""

    answers: int = 0
    sealed_bytes: int = 0
    evicted: int = 0
    expired: int = 0
    damaged: int = 0


class _Unusable(OSError):
    """SQLite finds the file damaged, or another program made it."""


class CacheFile:
    """Reads and writes the cache; `with` it, in one thread.

    Args:
        path: Its file; made where there is none.
        cipher: Seals answers and makes names.
        room: How much it takes.
        layer: Where faults can be put.
        tally: What is counted on; a cache that is opened again goes on with it.
    """

    def __init__(
        self, path: Path, cipher: Cipher, room: Room | None = None, layer: FileLayer = DISK, tally: Tally | None = None
    ) -> None:
        self._path, self._cipher, self._room, self._layer = path, cipher, room or Room(), layer
        self.tally = tally or Tally()
        self._database: sqlite3.Connection | None = None
        self._puts = 0

    def __enter__(self) -> CacheFile:
        self._guarded(self._count)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._close()

    def get(self, tenant: str, request: bytes, now_s: float) -> tuple[bytes, int] | None:
        """Returns the answer to a request of a tenant and when it was kept, in Unix seconds.

        Raises:
            NotKept: The file cannot be used.
        """
        name = self._cipher.name(tenant, request)
        select = "SELECT sealed, made_s, until_s FROM answers WHERE name = ?"
        row = self._guarded(lambda: self._db.execute(select, (name,)).fetchone())
        if row is None:
            return None
        sealed, made_s, until_s = row
        try:
            whole = tuple(map(type, row)) == (bytes, int, int)
            answer = self._cipher.open(tenant, _place(name, made_s, until_s), sealed) if whole else None
        except BadBundle:
            answer = None
        if answer is None:  # changed on this disk: it is no answer of anybody's
            self._guarded(lambda: self._remove("name = ?", (name,)))
            self.tally.damaged += 1
            return None
        return (answer, made_s) if now_s < until_s else None

    def put(self, tenant: str, request: bytes, answer: bytes, *, now_s: int, keep_s: int) -> None:
        """Keeps an answer in place of an older one; the oldest of all give way.

        Raises:
            NotKept: It is too long, or the file cannot be used.
        """
        name = self._cipher.name(tenant, request)
        sealed = self._cipher.seal(tenant, _place(name, now_s, now_s + keep_s), answer)
        if len(sealed) > self._room.one_bytes:
            raise NotKept("it is too long to be kept")
        row = (name, now_s, now_s + keep_s, len(sealed), sealed)
        self._guarded(lambda: self._put(row))

    def tidy(self, now_s: int) -> None:
        """Removes what is over by age.

        Raises:
            NotKept: The file cannot be used.
        """
        self.tally.expired += self._guarded(lambda: self._remove("until_s <= ?", (now_s,)))

    def _put(self, row: tuple[str, int, int, int, bytes]) -> None:
        self._puts += 1
        if self._puts % _RECOUNT_PUTS == 0:  # another process of a switch writes here too
            self._count()
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._remove("name = ?", (row[0],))
            self._db.execute("INSERT INTO answers VALUES (?, ?, ?, ?, ?)", row)
            self.tally.answers += 1
            self.tally.sealed_bytes += row[3]
            if self._is_over():
                self._make_room(row[1])
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
                self._count()
            raise

    def _is_over(self) -> bool:
        return self.tally.answers > self._room.answers or self.tally.sealed_bytes > self._room.sealed_bytes

    def _make_room(self, now_s: int) -> None:
        """Removes what is over by age, then the oldest; the newest stays, since it fits by itself."""
        self.tally.expired += self._remove("until_s <= ?", (now_s,))
        while self._is_over() and self.tally.answers > 1:
            lot = min(max(1, self._room.answers // _LOT), self.tally.answers - 1)
            oldest = "rowid IN (SELECT rowid FROM answers ORDER BY made_s, rowid LIMIT ?)"
            gone = self._remove(oldest, (lot,))
            self.tally.evicted += gone
            if not gone:
                self._count()

    def _remove(self, where: str, values: tuple[str | int, ...]) -> int:
        sizes = self._db.execute(f"DELETE FROM answers WHERE {where} RETURNING size_bytes", values).fetchall()  # noqa: S608 - no input
        self.tally.answers -= len(sizes)
        self.tally.sealed_bytes -= sum(size for (size,) in sizes)
        return len(sizes)

    def _count(self) -> None:
        counted = _counted(self._db)
        self.tally.answers, self.tally.sealed_bytes = counted

    @property
    def _db(self) -> sqlite3.Connection:
        if self._database is None:
            self._database = self._open()
        return self._database

    def _open(self) -> sqlite3.Connection:
        try:
            return self._opened()
        except sqlite3.DatabaseError as error:
            if not _is_damage(error):
                raise
        except _Unusable:
            pass
        self._discard()
        return self._opened()

    def _opened(self) -> sqlite3.Connection:
        file_bytes = self._room.file_bytes
        database = opened(self._path, synchronous="NORMAL", file_bytes=file_bytes, layer=self._layer)
        try:
            _check(database)
            database.executescript(f"BEGIN IMMEDIATE; {_TABLE} PRAGMA user_version = {FORMAT}; COMMIT;")
        except BaseException:
            database.close()
            raise
        return database

    def _discard(self) -> None:
        self.tally.damaged += 1
        with suppress(OSError):  # what cannot be removed cannot be opened either, and that is told
            for end in ("", "-wal", "-shm"):
                Path(f"{self._path}{end}").unlink(missing_ok=True)

    def _close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None

    def _guarded(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except sqlite3.Error as error:
            if _is_damage(error):
                self._close()
                self._discard()
            raise NotKept(words_of(error)) from error
        except OSError as error:
            raise NotKept(f"its file cannot be used: {error.strerror}") from error


def read_tally(path: Path) -> tuple[int, int]:
    """Returns how many answers are kept and their bytes, for who only looks; none where there is no file.

    Raises:
        NotKept: The file cannot be read.
    """
    if not path.exists():
        return 0, 0
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", timeout=BUSY_S, uri=True)) as database:
            return _counted(database)
    except sqlite3.Error as error:
        raise NotKept(words_of(error)) from error


def _counted(database: sqlite3.Connection) -> tuple[int, int]:
    count, size_bytes = database.execute("SELECT count(*), coalesce(sum(size_bytes), 0) FROM answers").fetchone()
    return int(count), int(size_bytes)


def _check(database: sqlite3.Connection) -> None:
    if not (is_whole(database) and version_of(database) in (0, FORMAT)):
        raise _Unusable


def _place(name: str, made_s: int, until_s: int) -> str:
    """Returns what an answer is sealed for: nobody can make an old one young."""
    return f"answer {name} {made_s} {until_s}"


def _is_damage(error: sqlite3.Error) -> bool:
    return (getattr(error, "sqlite_errorname", "") or "").startswith(_DAMAGED)
