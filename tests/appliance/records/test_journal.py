"""The journal on a real disk: nothing is lost, taken twice or readable there."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.records.cipher import Cipher
from appliance.records.entry import Bounds
from appliance.records.journal import Journal, NotKept, read_standing
from appliance.records.thread import CALLS_MAX, JournalThread
from bundler.format.errors import BadBundle

CIPHER = Cipher(b"s" * 32, "journal")
SECRET = b"the printer of Mr. Okonkwo is on fire"
_CHILD = """
import sys
from pathlib import Path
from appliance.records.cipher import Cipher
from appliance.records.journal import Journal
with Journal(Path(sys.argv[1]), Cipher(b"s" * 32, "journal")) as journal:
    for number in range(10**6):
        print(journal.accept("k", "t", str(number), b"%d" % number, new_id=lambda: f"id{number}", now_s=1), flush=True)
"""


def ids() -> Callable[[], str]:
    numbers = itertools.count(1)
    return lambda: f"id{next(numbers)}"


def put(journal: Journal, once: str = "a", payload: bytes = SECRET, tenant: str = "t") -> str:
    return journal.accept("k", tenant, once, payload, new_id=lambda: f"{tenant}-{once}", now_s=100)


def test_work_goes_from_waiting_to_its_outcome(tmp_path: Path) -> None:
    """Accepted, begun, put back, begun, done: each is on the disk when the call returns."""
    path = tmp_path / "journal.db"
    with Journal(path, CIPHER) as journal:
        put(journal)
        (entry,) = journal.waiting("k")
        assert journal.payload(entry) == SECRET
        journal.begin(entry)
        assert journal.waiting("k") == ()
        journal.put_back(entry, "no connection")
    with Journal(path, CIPHER) as journal:
        (entry,) = journal.waiting("k")
        assert (entry.tries, entry.words) == (1, "no connection")
        journal.begin(entry)
        journal.end(entry, "sent", now_s=200, done=True, outcome=b"what came of it")
        ended = journal.entry(entry.id)
        assert ended is not None
        assert (ended.state, ended.words, ended.ended_s, ended.tries) == ("done", "sent", 200, 2)
        assert journal.payload(ended) == b"what came of it"
        assert journal.standing("k").waiting == 0


def test_the_same_work_is_kept_once_and_tenants_do_not_meet(tmp_path: Path) -> None:
    """A second request with the same key gets the first one's id, also after its end; another tenant's is another."""
    with Journal(tmp_path / "journal.db", CIPHER) as journal:
        assert put(journal) == put(journal, payload=b"other words")
        (entry,) = journal.waiting("k")
        journal.end(entry, "sent", now_s=200, done=True)
        assert put(journal) == "t-a"
        assert put(journal, tenant="u") == "u-a"
        journal.forget("k", before_s=201)
        assert put(journal) == "t-a"
        assert journal.standing("k").waiting == 2


def test_nothing_of_a_payload_is_readable_on_the_disk(tmp_path: Path) -> None:
    """Neither the file, nor its log, nor what is left after the end holds the text or the idempotency key."""
    with Journal(tmp_path / "journal.db", CIPHER) as journal:
        journal.accept("k", "t", "key of Mr. Okonkwo", SECRET, new_id=lambda: "a", now_s=100)
        before = b"".join(path.read_bytes() for path in tmp_path.iterdir())
        (entry,) = journal.waiting("k")
        journal.end(entry, "sent", now_s=200, done=True, outcome=SECRET)
    after = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"Okonkwo" not in before + after
    assert (tmp_path / "journal.db").stat().st_mode & 0o777 == 0o600


def test_a_payload_of_another_place_or_box_does_not_open(tmp_path: Path) -> None:
    """Rows that were swapped or damaged on the disk are told, and so is a journal of another box."""
    path = tmp_path / "journal.db"
    with Journal(path, CIPHER) as journal:
        put(journal, "a"), put(journal, "b")
    with sqlite3.connect(path) as database:
        first, second = (row[0] for row in database.execute("SELECT payload FROM work ORDER BY id"))
        database.execute("UPDATE work SET payload = ? WHERE id = 't-a'", (second,))
        database.execute("UPDATE work SET payload = ? WHERE id = 't-b'", (first[:-1] + bytes([first[-1] ^ 1]),))
    database.close()
    with Journal(path, CIPHER) as journal:
        for entry in journal.waiting("k"):
            with pytest.raises(BadBundle):
                journal.payload(entry)
    with Journal(tmp_path / "other.db", CIPHER) as journal:
        put(journal)
    with Journal(tmp_path / "other.db", Cipher(b"x" * 32, "journal")) as journal, pytest.raises(BadBundle):
        journal.payload(journal.waiting("k")[0])


def test_more_than_its_bounds_is_refused_whole(tmp_path: Path) -> None:
    """Too many, too much or too long: the caller is told why, and nothing of it is kept."""
    with Journal(tmp_path / "journal.db", CIPHER, Bounds(entries=2, payload_bytes=120, one_bytes=100)) as journal:
        with pytest.raises(NotKept, match="too long"):
            put(journal, "a", b"x" * 101)
        put(journal, "a", b"x")
        with pytest.raises(NotKept, match="all the room"):
            put(journal, "b", b"x" * 100)
        assert journal.standing("k").waiting == 1
        put(journal, "c", b"x")
        with pytest.raises(NotKept, match="too many"):
            put(journal, "d", b"")
        assert put(journal, "a", b"x" * 1_000) == "t-a"


def test_a_full_file_refuses_and_keeps_what_it_has(tmp_path: Path) -> None:
    """Where the disk gives no more, the call says so and what was accepted before is whole."""
    with Journal(tmp_path / "journal.db", CIPHER, Bounds(file_bytes=64 * 2**10)) as journal:
        taken = 0

        def fill() -> None:
            nonlocal taken
            for taken in range(100):
                put(journal, str(taken), b"x" * 4_000)

        with pytest.raises(NotKept, match="full"):
            fill()
        assert 0 < taken == journal.standing("k").waiting
        for entry in journal.waiting("k"):
            assert journal.payload(entry) == b"x" * 4_000
            journal.end(entry, "sent", now_s=1, done=True)
        assert put(journal, "after") == "t-after"


@pytest.mark.parametrize("content", [b"not a database" * 1_000, b"SQLite format 3\0" + b"\xff" * 9_000])
def test_a_damaged_file_is_told_and_left_alone(tmp_path: Path, content: bytes) -> None:
    """What is there may be all that is left of somebody's tickets: it is not overwritten."""
    path = tmp_path / "journal.db"
    path.write_bytes(content)
    with pytest.raises(NotKept, match="damaged"), Journal(path, CIPHER):
        pass
    with pytest.raises(NotKept):
        read_standing(path, "k")
    assert path.read_bytes() == content


def test_outcomes_are_forgotten_by_age_and_number(tmp_path: Path) -> None:
    """The oldest outcomes go first; what waits stays however old it is."""
    with Journal(tmp_path / "journal.db", CIPHER, Bounds(ended=2)) as journal:
        for number in range(5):
            put(journal, str(number))
        for number, entry in enumerate(journal.waiting("k")[:4]):
            journal.end(entry, "sent", now_s=1_000 + number, done=True)
        journal.forget("k", before_s=0)
        assert [journal.entry(f"t-{number}") is None for number in range(5)] == [True, True, False, False, False]
        journal.forget("k", before_s=10_000)
        assert journal.standing("k").waiting == 1


def test_work_begun_by_a_dead_process_is_done_once_more(tmp_path: Path) -> None:
    """After a crash begun work waits again; where it crashed twice it is given up, with words."""
    with Journal(tmp_path / "journal.db", CIPHER) as journal:
        put(journal)
        for _ in range(2):
            (entry,) = journal.waiting("k")
            journal.begin(entry)
            found = journal.recover("k", tries_most=2, now_s=300)
        assert found.given_up == ("t-a",)
        ended = journal.entry("t-a")
        assert ended is not None
        assert (ended.state, ended.ended_s) == ("failed", 300)


def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    """Every id that a killed process had told is in the journal, with its payload, and nothing is half there."""
    path = tmp_path / "journal.db"
    with subprocess.Popen([sys.executable, "-c", _CHILD, str(path)], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        told = [child.stdout.readline().strip() for _ in range(50)]
        os.kill(child.pid, signal.SIGKILL)
        told += [line.strip() for line in child.stdout if line.endswith("\n")]
    with Journal(path, CIPHER) as journal:
        kept = {entry.id: journal.payload(entry) for entry in journal.waiting("k")}
    assert set(told) <= kept.keys()
    assert len(kept) <= len(told) + 1
    assert all(payload == name.removeprefix("id").encode() for name, payload in kept.items())


def test_who_only_looks_needs_no_key(tmp_path: Path) -> None:
    """`status` reads how many wait and since when, also where there is no journal yet."""
    path = tmp_path / "journal.db"
    assert read_standing(path, "k").waiting == 0
    assert not path.exists()
    with Journal(path, CIPHER) as journal:
        put(journal)
        journal.put_back(journal.waiting("k")[0], "no connection")
        found = read_standing(path, "k")
    assert (found.waiting, found.oldest_s, found.words) == (1, 100, "no connection")


def test_two_accept_and_one_works(tmp_path: Path) -> None:
    """Of two that serve for a moment both accept, one works, and the other takes over when the first is gone."""

    async def body() -> None:
        def thread() -> JournalThread:
            return JournalThread(lambda: Journal(tmp_path / "journal.db", CIPHER), tmp_path / "journal.lock")

        async with thread() as new:
            async with thread() as old:
                assert await old.works_here()
                assert not await new.works_here()
                await asyncio.gather(*(one.run(lambda journal: put(journal, "a")) for one in (old, new)))
                assert (await new.run(lambda journal: journal.standing("k"))).waiting == 1
            assert await new.works_here()

    asyncio.run(body())


def test_a_journal_that_cannot_be_used_is_tried_again(tmp_path: Path) -> None:
    """A box serves while its journal is unusable, and keeps work again once the cause is gone."""

    async def body() -> None:
        path = tmp_path / "journal.db"
        path.mkdir()
        async with JournalThread(lambda: Journal(path, CIPHER), tmp_path / "lock") as thread:
            with pytest.raises(NotKept):
                await thread.run(put)
            path.rmdir()
            assert await thread.run(put) == "t-a"

    asyncio.run(body())


def test_more_callers_than_wait_for_the_disk_are_refused(tmp_path: Path) -> None:
    """A disk that hangs does not collect requests without end."""

    async def body() -> None:
        async with JournalThread(lambda: Journal(tmp_path / "journal.db", CIPHER), tmp_path / "lock") as thread:
            calls = [thread.run(lambda journal: put(journal)) for _ in range(CALLS_MAX + 1)]
            found = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(one) for one in found].count(NotKept) == 1

    asyncio.run(body())


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=200), st.text(max_size=10), st.text(max_size=10))
def test_a_sealed_record_opens_in_its_place_alone(data: bytes, tenant: str, place: str) -> None:
    """What is sealed opens as it was for its tenant and place, and for no other."""
    sealed = CIPHER.seal(tenant, place, data)
    assert CIPHER.open(tenant, place, sealed) == data
    for other in (Cipher(b"s" * 32, "cache").open, lambda who, where, what: CIPHER.open(who + "x", where, what)):
        with pytest.raises(BadBundle):
            other(tenant, place, sealed)
    with pytest.raises(BadBundle):
        CIPHER.open(tenant, place + "x", sealed)
    with pytest.raises(BadBundle):
        CIPHER.open(tenant, place, sealed[:11])
