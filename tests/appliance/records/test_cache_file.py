"""The answer cache's file on a real disk: bounded, sealed, and gone without harm."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.records.cache import CacheFile, Room, read_tally
from appliance.records.cipher import Cipher
from appliance.records.journal import NotKept

CIPHER = Cipher(b"s" * 32, "cache")
SECRET = b"Mr. Okonkwo is to be let go"
_CHILD = """
import sys
from pathlib import Path
from appliance.records.cache import CacheFile
from appliance.records.cipher import Cipher
with CacheFile(Path(sys.argv[1]), Cipher(b"s" * 32, "cache")) as cache:
    for number in range(10**6):
        cache.put("t", b"%d" % number, b"answer %d" % number, now_s=100, keep_s=100)
        print(number, flush=True)
"""


SWAP = """
CREATE TEMP TABLE o AS SELECT * FROM answers;
UPDATE answers SET sealed = (SELECT sealed FROM o WHERE o.name <> answers.name);
"""


def _refusal(work: Callable[[int], object]) -> str:
    """Returns why the first of many calls was refused."""
    for number in range(400):
        try:
            work(number)
        except NotKept as error:
            return error.fact
    return ""


def put(cache: CacheFile, request: bytes = b"q", answer: bytes = SECRET, tenant: str = "t", now_s: int = 100) -> None:
    cache.put(tenant, request, answer, now_s=now_s, keep_s=50)


def test_an_answer_is_found_by_its_request_and_tenant_alone(tmp_path: Path) -> None:
    """Also after the file was opened again; a newer answer takes the place of an older one."""
    path = tmp_path / "cache.db"
    with CacheFile(path, CIPHER) as cache:
        put(cache)
        assert cache.get("t", b"q", 100) == (SECRET, 100)
        assert cache.get("u", b"q", 100) is None
        assert cache.get("t", b"r", 100) is None
        put(cache, answer=b"newer", now_s=110)
    with CacheFile(path, CIPHER) as cache:
        assert cache.get("t", b"q", 120) == (b"newer", 110)
        assert (cache.tally.answers, read_tally(path)[0]) == (1, 1)
    with CacheFile(path, Cipher(b"o" * 32, "cache")) as other_box:
        assert other_box.get("t", b"q", 120) is None


def test_nothing_is_readable_or_can_be_guessed_on_the_disk(tmp_path: Path) -> None:
    """Neither request, answer nor tenant is there, nor a hash that one who guesses a request could make."""
    path = tmp_path / "cache.db"
    with CacheFile(path, CIPHER) as cache:
        put(cache, SECRET, SECRET, "tenant-of-finch")
        raw = b"".join(file.read_bytes() for file in tmp_path.iterdir())
        assert b"Okonkwo" not in raw
        assert b"finch" not in raw
        assert Cipher(b"x" * 32, "cache").name("tenant-of-finch", SECRET).encode() not in raw
        assert CIPHER.name("tenant-of-finch", SECRET).encode() in raw


def test_an_answer_is_gone_with_its_time(tmp_path: Path) -> None:
    """It is not given after it, and is removed from the disk when somebody tidies."""
    with CacheFile(tmp_path / "cache.db", CIPHER) as cache:
        put(cache)
        assert cache.get("t", b"q", 149.9) is not None
        assert cache.get("t", b"q", 150) is None
        assert cache.tally.answers == 1
        cache.tidy(150)
        assert (cache.tally.answers, cache.tally.sealed_bytes, cache.tally.expired) == (0, 0, 1)
        assert read_tally(tmp_path / "cache.db") == (0, 0)


@pytest.mark.parametrize("room", [Room(answers=40), Room(sealed_bytes=40 * 128)])
def test_the_oldest_give_way(tmp_path: Path, room: Room) -> None:
    """Whatever comes, the file holds no more than its bounds, and the newest."""
    with CacheFile(tmp_path / "cache.db", CIPHER, room) as cache:
        for number in range(200):
            put(cache, b"%d" % number, b"x" * 100, now_s=100 + number // 10)
            assert cache.tally.answers <= 40
        assert cache.get("t", b"199", 120) is not None
        assert cache.get("t", b"0", 120) is None
        assert cache.tally.answers >= 36
        assert cache.tally.answers + cache.tally.evicted + cache.tally.expired == 200
        assert (cache.tally.answers, cache.tally.sealed_bytes) == read_tally(tmp_path / "cache.db")


def test_one_that_is_too_long_is_refused_alone(tmp_path: Path) -> None:
    """It is not kept, and nothing goes for it."""
    with CacheFile(tmp_path / "cache.db", CIPHER, Room(one_bytes=200)) as cache:
        put(cache)
        with pytest.raises(NotKept, match="too long"):
            put(cache, b"r", b"x" * 200)
        assert cache.get("t", b"q", 100) is not None


def test_a_full_file_refuses_and_gives_what_it_has(tmp_path: Path) -> None:
    """As a full disk does: nothing is torn, and there is room again once something is gone."""
    with CacheFile(tmp_path / "cache.db", CIPHER, Room(file_bytes=64 * 4096)) as cache:
        assert "full" in _refusal(lambda number: put(cache, b"%d" % number, b"x" * 4_000))
        assert cache.get("t", b"0", 100) is not None
        assert (cache.tally.answers, cache.tally.sealed_bytes) == read_tally(tmp_path / "cache.db")
        cache.tidy(150)
        put(cache, b"new", b"x" * 4_000, now_s=150)
        assert cache.get("t", b"new", 150) is not None


@pytest.mark.parametrize("content", [b"not a database " * 500, b"SQLite format 3\0" + b"\xff" * 8_000])
def test_a_damaged_file_is_made_anew(tmp_path: Path, content: bytes) -> None:
    """Nothing in it is needed; that it happened is counted."""
    path = tmp_path / "cache.db"
    path.write_bytes(content)
    with CacheFile(path, CIPHER) as cache:
        put(cache)
        assert cache.get("t", b"q", 100) == (SECRET, 100)
        assert cache.tally.damaged == 1


def test_damage_while_it_is_open_ends_in_a_new_file(tmp_path: Path) -> None:
    """The call that meets it fails, and the next one works."""
    path = tmp_path / "cache.db"
    with CacheFile(path, CIPHER) as cache:
        for number in range(400):  # more than SQLite keeps in memory
            put(cache, b"%d" % number, b"x" * 20_000)
    size_bytes = path.stat().st_size
    with CacheFile(path, CIPHER) as cache:
        with path.open("r+b") as file:
            file.seek(4096)
            file.write(b"\xff" * (size_bytes - 4096))
        assert "damaged" in _refusal(lambda number: cache.get("t", b"%d" % number, 100))
        put(cache)
        assert cache.get("t", b"q", 100) == (SECRET, 100)


@pytest.mark.parametrize(
    "change",
    [
        SWAP,
        "UPDATE answers SET made_s = made_s + 10",
        "UPDATE answers SET until_s = until_s + 10",
        "UPDATE answers SET sealed = substr(sealed, 2)",
        "UPDATE answers SET sealed = 'text'",
        "UPDATE answers SET sealed = 7",
        "UPDATE answers SET made_s = 'x', until_s = 'y'",
    ],
)
def test_what_somebody_changed_is_no_answer(tmp_path: Path, change: str) -> None:
    """An answer put in another's stead, made younger, cut or replaced is a miss, and goes."""
    path = tmp_path / "cache.db"
    with CacheFile(path, CIPHER) as cache:
        put(cache, b"q", b"one")
        put(cache, b"r", b"two", "u")
    with sqlite3.connect(path) as database:
        database.executescript(change)
    database.close()
    with CacheFile(path, CIPHER) as cache:
        assert cache.get("t", b"q", 100) is None
        assert cache.get("u", b"r", 100) is None
        assert (cache.tally.damaged, cache.tally.answers) == (2, 0)


def test_what_was_kept_survives_kill_9(tmp_path: Path) -> None:
    """The file of a killed process opens, with whole answers."""
    path = tmp_path / "cache.db"
    with subprocess.Popen([sys.executable, "-c", _CHILD, str(path)], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        told = [int(child.stdout.readline()) for _ in range(100)]
        os.kill(child.pid, signal.SIGKILL)
    with CacheFile(path, CIPHER) as cache:
        assert all(cache.get("t", b"%d" % number, 100) == (b"answer %d" % number, 100) for number in told)
        assert cache.tally.damaged == 0


def test_two_processes_of_a_switch_share_the_file(tmp_path: Path) -> None:
    """Both keep and find, and each learns in time what the other added."""
    with CacheFile(tmp_path / "cache.db", CIPHER) as old, CacheFile(tmp_path / "cache.db", CIPHER) as new:
        put(old, b"1")
        put(new, b"2")
        assert new.get("t", b"1", 100) == old.get("t", b"2", 100) == (SECRET, 100)


def test_a_link_in_its_place_is_told(tmp_path: Path) -> None:
    """Nothing is made or written where it leads."""
    (tmp_path / "cache.db").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(NotKept, match="a link"), CacheFile(tmp_path / "cache.db", CIPHER):
        pass
    assert not (tmp_path / "elsewhere").exists()


def test_who_only_looks_needs_no_key(tmp_path: Path) -> None:
    """`doctor` counts, also where there is nothing yet, and says where it cannot."""
    path = tmp_path / "cache.db"
    assert read_tally(path) == (0, 0)
    with CacheFile(path, CIPHER) as cache:
        put(cache)
        assert read_tally(path) == (1, cache.tally.sealed_bytes)
    path.write_bytes(b"not a database " * 500)
    with pytest.raises(NotKept, match="damaged"):
        read_tally(path)
