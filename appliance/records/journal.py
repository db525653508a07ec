"""The journal, `STATE/journal.db`: accepted work is on the disk before anybody is told so, and its outcome after.

One SQLite file in WAL mode with `synchronous=FULL`: a commit is on the disk when it returns. Several processes may
accept (a switch has two for a moment); only the one that holds `journal.lock` works, and the kernel lets go of a lock
when a process dies, so no clock decides whose work it is. Payloads are sealed; the columns in clear text are random
ids, times, counts and our own words.

Blocking: `appliance.records.thread` keeps it off the event loop.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from appliance.records.cipher import Cipher
from appliance.records.database import BUSY_S, is_whole, opened, version_of, words_of
from appliance.records.entry import (
    BEGUN,
    DONE,
    FAILED,
    WAITING,
    Bounds,
    Entry,
    Full,
    Restart,
    Standing,
    restarted,
    room,
)
from bundler.files import DISK, FileLayer
from bundler.format.errors import NotReady

T = TypeVar("T")
FORMAT = 1
_COLUMNS = "id, kind, tenant, state, made_s, ended_s, tries, words"
_TABLE = """
CREATE TABLE IF NOT EXISTS work (
  id TEXT PRIMARY KEY, kind TEXT NOT NULL, tenant TEXT NOT NULL, state TEXT NOT NULL, made_s INTEGER NOT NULL,
  ended_s INTEGER NOT NULL, tries INTEGER NOT NULL, words TEXT NOT NULL, once TEXT NOT NULL, payload BLOB NOT NULL
) WITHOUT ROWID;
CREATE UNIQUE INDEX IF NOT EXISTS work_once ON work (kind, once);
CREATE INDEX IF NOT EXISTS work_state ON work (kind, state, made_s);
"""


class NotKept(NotReady):
    """The journal did not take it, and nothing of it is kept: there is no room, or its file cannot be used.

    Attributes:
        full: Which bound was met, None where it was none.
    """

    full: Full | None = None


class Journal:
    """Reads and writes the journal; `with` it, in one thread.

    Args:
        path: Its file; made where there is none.
        cipher: Seals payloads.
        bounds: How much it takes.
        layer: Where faults can be put.
    """

    def __init__(self, path: Path, cipher: Cipher, bounds: Bounds | None = None, layer: FileLayer = DISK) -> None:
        self._path, self._cipher, self._bounds, self._layer = path, cipher, bounds or Bounds(), layer
        self._database: sqlite3.Connection | None = None

    def __enter__(self) -> Journal:
        self._guarded(self._open)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None

    def accept(
        self, kind: str, tenant: str, once: str, payload: bytes, *, new_id: Callable[[], str], now_s: int
    ) -> str:
        """Keeps a piece of work and returns its id; it is on the disk then.

        Args:
            kind: What kind of work.
            tenant: Whose.
            once: What makes it the same work: a second one is not kept, and the id of the first is returned.
            payload: What it holds.
            new_id: Makes an id.
            now_s: Unix seconds.

        Raises:
            NotKept: There is no room, or the file cannot be used.
        """
        return self._guarded(lambda: self._accept(kind, tenant, once, payload, new_id, now_s))

    def waiting(self, kind: str) -> tuple[Entry, ...]:
        """Returns the work that waits, oldest first."""
        where = "WHERE kind = ? AND state = ? ORDER BY made_s, id"
        return self._guarded(lambda: self._select(where, (kind, WAITING)))

    def entry(self, entry_id: str) -> Entry | None:
        """Returns one piece of work, whatever its state."""
        found = self._guarded(lambda: self._select("WHERE id = ?", (entry_id,)))
        return found[0] if found else None

    def payload(self, entry: Entry) -> bytes:
        """Returns what a piece of work holds, or what came of it.

        Raises:
            BadBundle: It was changed on this disk, or is another box's.
        """
        row = self._guarded(lambda: self._db.execute("SELECT payload FROM work WHERE id = ?", (entry.id,)).fetchone())
        sealed = row[0] if row is not None and isinstance(row[0], bytes) else b""
        return self._cipher.open(entry.tenant, f"{entry.kind} {entry.id}", sealed)

    def begin(self, entry: Entry) -> None:
        """Notes that the work is begun once more, before it is."""
        self._change("UPDATE work SET state = ?, tries = tries + 1 WHERE id = ?", (BEGUN, entry.id))

    def put_back(self, entry: Entry, words: str, *, counts: bool = True) -> None:
        """Notes that a try failed, and that the work waits; `counts` says whether that was one of its tries."""
        change = "UPDATE work SET state = ?, words = ?, tries = max(0, tries - ?) WHERE id = ?"
        self._change(change, (WAITING, words, int(not counts), entry.id))

    def remove(self, entry: Entry) -> None:
        """Forgets a piece of work, whatever its state."""
        self._change("DELETE FROM work WHERE id = ?", (entry.id,))

    def ended(self, kind: str) -> tuple[Entry, ...]:
        """Returns the work whose outcome is known."""
        return self._guarded(lambda: self._select("WHERE kind = ? AND state IN (?, ?)", (kind, DONE, FAILED)))

    def end(self, entry: Entry, words: str, *, now_s: int, done: bool, outcome: bytes = b"") -> None:
        """Notes the outcome; what the work held is gone, `outcome` is kept in its place."""
        state = DONE if done else FAILED
        sealed = self._cipher.seal(entry.tenant, f"{entry.kind} {entry.id}", outcome) if outcome else b""
        change = "UPDATE work SET state = ?, words = ?, ended_s = ?, payload = ? WHERE id = ?"
        self._change(change, (state, words, now_s, sealed, entry.id))

    def recover(self, kind: str, tries_most: int, now_s: int) -> Restart:
        """Puts work back that nobody works on any more; only who holds the lock may do so."""
        begun = self._guarded(lambda: self._select("WHERE kind = ? AND state = ?", (kind, BEGUN)))
        found = restarted(begun, tries_most)
        by_id = {entry.id: entry for entry in begun}
        for entry_id in found.again:
            self.put_back(by_id[entry_id], by_id[entry_id].words or "the box stopped in the middle of it")
        for entry_id in found.given_up:
            self.end(by_id[entry_id], "the box stopped in the middle of it, each time", now_s=now_s, done=False)
        return found

    def forget(self, kind: str, before_s: int) -> None:
        """Removes outcomes from before a time, and the oldest where there are too many."""
        ended, values = "kind = ? AND state IN (?, ?)", (kind, DONE, FAILED)
        self._change(f"DELETE FROM work WHERE {ended} AND ended_s < ?", (*values, before_s))  # noqa: S608 - no input
        oldest = f"SELECT id FROM work WHERE {ended} ORDER BY ended_s DESC LIMIT -1 OFFSET ?"  # noqa: S608 - no input
        self._change(f"DELETE FROM work WHERE id IN ({oldest})", (*values, self._bounds.ended))  # noqa: S608 - no input

    def standing(self, kind: str) -> Standing:
        """Returns how much waits."""
        return self._guarded(lambda: _standing(self._db, kind))

    @property
    def _db(self) -> sqlite3.Connection:
        if self._database is None:
            raise RuntimeError("the journal is used outside its block")
        return self._database

    def _open(self) -> None:
        file_bytes = self._bounds.file_bytes
        database = opened(self._path, synchronous="FULL", file_bytes=file_bytes, layer=self._layer)
        try:
            _check(database, self._path)
            database.executescript(f"BEGIN IMMEDIATE; {_TABLE} PRAGMA user_version = {FORMAT}; COMMIT;")
        except BaseException:
            database.close()
            raise
        self._database = database

    def _accept(self, kind: str, tenant: str, once: str, payload: bytes, new_id: Callable[[], str], now_s: int) -> str:
        name = self._cipher.name(tenant, once.encode("utf-8", "surrogatepass"))
        self._db.execute("BEGIN IMMEDIATE")
        try:
            found = self._db.execute("SELECT id FROM work WHERE kind = ? AND once = ?", (kind, name)).fetchone()
            if found is None:
                self._check_room(tenant, len(payload))
                found = (new_id(),)
                sealed = self._cipher.seal(tenant, f"{kind} {found[0]}", payload)
                row = (found[0], kind, tenant, WAITING, now_s, 0, 0, "", name, sealed)
                self._db.execute("INSERT INTO work VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
        return str(found[0])

    def _check_room(self, tenant: str, new_bytes: int) -> None:
        counted = "1" if self._bounds.outcomes_count else f"state IN ('{WAITING}', '{BEGUN}')"
        sums = f"SELECT count(*), coalesce(sum(length(payload)), 0), coalesce(sum(tenant = ?), 0) FROM work WHERE {counted}"  # noqa: S608, E501 - no input
        entries, payload_bytes, own = self._db.execute(sums, (tenant,)).fetchone()
        full = room(self._bounds, entries=entries, payload_bytes=payload_bytes, new_bytes=new_bytes, tenant_entries=own)
        if full is not None:
            refused = NotKept(full.value)
            refused.full = full
            raise refused

    def _select(self, where: str, values: Sequence[str]) -> tuple[Entry, ...]:
        rows = self._db.execute(f"SELECT {_COLUMNS} FROM work {where}", values)  # noqa: S608 - no input
        return tuple(Entry(*row) for row in rows)

    def _change(self, statement: str, values: Sequence[str | int | bytes]) -> None:
        self._guarded(lambda: self._db.execute(statement, values))

    def _guarded(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except sqlite3.Error as error:
            raise NotKept(words_of(error)) from error
        except OSError as error:
            raise NotKept(f"its file cannot be used: {error.strerror}") from error


def read_standing(path: Path, kind: str) -> Standing:
    """Returns how much waits, for who only looks and has no key; where there is no journal, nothing does.

    Raises:
        NotKept: The file cannot be read.
    """
    if not path.exists():
        return Standing(0, 0)
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", timeout=BUSY_S, uri=True)) as database:
            return _standing(database, kind)
    except sqlite3.Error as error:
        raise NotKept(words_of(error)) from error


def _check(database: sqlite3.Connection, path: Path) -> None:
    if not is_whole(database):
        raise NotKept("the journal of this box is damaged", f"move {path} away; it is made anew")
    if version_of(database) not in (0, FORMAT):
        raise NotKept("the journal is of a newer program", "activate the version that wrote it")


def _standing(database: sqlite3.Connection, kind: str) -> Standing:
    unsent = "FROM work WHERE kind = ? AND state IN (?, ?)"
    values = (kind, WAITING, BEGUN)
    count, oldest = database.execute(f"SELECT count(*), coalesce(min(made_s), 0) {unsent}", values).fetchone()
    last = f"SELECT words {unsent} AND words <> '' ORDER BY made_s LIMIT 1"
    words = database.execute(last, values).fetchone()
    return Standing(count, oldest, words[0] if words is not None else "")
