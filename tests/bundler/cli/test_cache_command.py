"""`lifeboat cache`: what builds keep, shown and removed, but not under a build that is at work."""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import Result

from bundler import cache
from bundler.format.errors import BadInput, Busy
from bundler.terminal import EXIT_INTERRUPTED
from bundler.work import work_folder


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """A home with a wheel, a folder of the hub, and what is no part of the cache."""
    for name, length in {
        "wheels/a.whl": 700,
        "hub/files/b": 900,
        "hub/listings/c": 100,
        "templates/d": 30,
        "own/notes": 50,
    }.items():
        path = tmp_path / "home" / "cache" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(length))
    return tmp_path / "home"


def test_each_part_is_listed_with_its_bytes(lifeboat: Callable[..., Result], filled: Path) -> None:
    """Empty parts too, in a home that never built anything as well."""
    found = json.loads(lifeboat("cache", "list", "--json").stdout)
    assert {part["name"]: part["length_bytes"] for part in found["parts"] if part["files"]} == {
        "wheels": 700,
        "hub": 1000,
        "templates": 30,
    }
    assert found["total_bytes"] == 1730
    assert "model hubs" in lifeboat("cache", "list").stdout
    assert lifeboat("cache", "list", "--home", filled / "none").stdout.endswith("total 0 B\n")


def test_a_part_is_removed_after_a_yes(lifeboat: Callable[..., Result], filled: Path) -> None:
    """Only what was named, whole; what a killed call left goes along."""
    (filled / "cache" / ".hub.0123abcd.part").mkdir()
    assert lifeboat("cache", "clear", "hub", answers="n\n").exit_code == EXIT_INTERRUPTED
    assert (filled / "cache" / "hub" / "files" / "b").exists()
    assert "1.0 kB freed" in lifeboat("cache", "clear", "hub", answers="y\n").output
    assert {path.name for path in (filled / "cache").iterdir()} == {"wheels", "templates", "own"}
    assert lifeboat("cache", "clear", "hub", "--yes").exit_code == 0


def test_what_the_next_build_will_not_tell_is_said_before(lifeboat: Callable[..., Result], filled: Path) -> None:
    """Templates are what a change is seen by: who clears them reads that, before the question."""
    refused = lifeboat("cache", "clear", "templates", answers="n\n")
    assert refused.exit_code == EXIT_INTERRUPTED
    assert refused.stderr.index("warning: until a profile was built again") < refused.stderr.index("Remove templates")
    assert (filled / "cache" / "templates" / "d").exists()
    done = json.loads(lifeboat("cache", "clear", "templates", "--yes", "--json").stdout)
    assert (done["cleared"], done["freed_bytes"], len(done["missed"])) == (["templates"], 30, 1)
    assert not (filled / "cache" / "templates").exists()
    assert "warning" not in lifeboat("cache", "clear", "wheels", "--yes").stderr


def test_what_is_no_part_is_refused(filled: Path) -> None:
    """Neither other folders of the home nor links are followed; nothing is removed then."""
    for name in ("own", "../keyring", ""):
        with pytest.raises(BadInput, match="no part"):
            cache.clear(filled, ["wheels", name])
    (filled / "cache" / "vectors").symlink_to(filled / "cache" / "own")
    with pytest.raises(BadInput, match="is a link"):
        cache.clear(filled, ["wheels", "vectors"])
    assert (filled / "cache" / "own" / "notes").exists()
    assert (filled / "cache" / "wheels" / "a.whl").exists()


def test_a_wrong_name_is_told_before_the_question(lifeboat: Callable[..., Result], filled: Path) -> None:
    """Nobody is asked about a part that is not there, nor about those beside it."""
    refused = lifeboat("cache", "clear", "wheels", "wrong", answers="y\n")
    assert refused.exit_code == 3
    assert "no part wrong" in refused.stderr
    assert "Remove" not in refused.output
    assert (filled / "cache" / "wheels" / "a.whl").exists()


def test_a_build_keeps_its_cache(filled: Path) -> None:
    """A build that is at work reads it; one that was killed does not."""
    with work_folder(filled), pytest.raises(Busy, match="at work"):
        cache.clear(filled, ["wheels"])
    (filled / "work" / "build-dead").mkdir()
    assert cache.clear(filled, ["wheels"]) == 700


notes_reading = pytest.mark.skipif(
    bool(os.statvfs(tempfile.gettempdir()).f_flag & os.ST_NOATIME),
    reason="the file system of temporary files does not note when a file is read (noatime)",
)


def _used(path: Path, days: float) -> None:
    """Makes a file look as if it had been written long ago, and read so many days ago."""
    seconds = time.time() - days * 86_400
    os.utime(path, (seconds, seconds - 1_000_000))


@notes_reading
def test_what_no_build_used_for_long_is_removed_after_a_yes(lifeboat: Callable[..., Result], filled: Path) -> None:
    """Whole files by when they were last read; chat templates and locks stay, whatever their age."""
    cached, lock = filled / "cache", filled / "cache" / "hub" / "files" / "b.lock"
    lock.touch()
    for path, days in {
        "wheels/a.whl": 9,
        "hub/files/b": 40,
        "hub/listings/c": 40,
        "templates/d": 40,
        "own/notes": 40,
    }.items():
        _used(cached / path, days)
    _used(lock, 40)
    refused = lifeboat("cache", "prune", "--keep-days", "30", answers="n\n")
    assert refused.exit_code == EXIT_INTERRUPTED
    assert "Remove 2 files (1.0 kB) that no build has used for 30 days?" in refused.stderr
    done = json.loads(lifeboat("cache", "prune", "--keep-days", "30", "--yes", "--json").stdout)
    assert (done["files"], done["freed_bytes"]) == (2, 1000)
    left = {path.relative_to(cached).as_posix() for path in cached.rglob("*") if path.is_file()}
    assert left == {"wheels/a.whl", "hub/files/b.lock", "templates/d", "own/notes"}
    assert lifeboat("cache", "prune", "--keep-days", "1", "--yes").exit_code != 0
    assert "2 at least" in " ".join(lifeboat("cache", "prune", "--help").output.split())
    assert lifeboat("cache", "prune", "--keep-days", "30").exit_code == 0


@notes_reading
def test_what_a_build_reads_counts_as_used(filled: Path) -> None:
    """The real file system notes it, if only once a day."""
    wheel = filled / "cache" / "wheels" / "a.whl"
    _used(wheel, 40)
    now = datetime.now(UTC)
    assert wheel in cache.unused(filled, 30, now)
    wheel.read_bytes()
    assert wheel not in cache.unused(filled, 30, now)


@notes_reading
def test_no_build_begins_while_the_cache_is_pruned(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is at work keeps everything; one that comes meanwhile finds the lock taken until the removal is done."""
    wheel = filled / "cache" / "wheels" / "a.whl"
    _used(wheel, 40)
    now = datetime.now(UTC)
    seen: list[bool] = []
    with work_folder(filled), pytest.raises(Busy, match="at work"):
        cache.prune(filled, 30, now)

    def build() -> None:
        with work_folder(filled):
            seen.append(wheel.exists())

    real, begun = cache.unused, threading.Thread(target=build)

    def looked(*words: Any) -> tuple[Path, ...]:
        folder = os.open(filled / "work", os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(folder)
        begun.start()
        return real(*words)

    monkeypatch.setattr(cache, "unused", looked)
    assert cache.prune(filled, 30, now) == (1, 700)
    begun.join()
    assert seen == [False]


def test_a_file_system_that_notes_no_reading_is_told(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There what a build uses every day would look unused."""
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_flag=os.ST_NOATIME))
    with pytest.raises(BadInput, match="noatime"):
        cache.prune(filled, 30, datetime.now(UTC))


@notes_reading
def test_a_part_that_is_a_link_is_not_pruned(filled: Path, tmp_path: Path) -> None:
    """What lies elsewhere is somebody else's to remove."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "a.gguf").write_bytes(b"x")
    _used(elsewhere / "a.gguf", 40)
    (filled / "cache" / "registry").symlink_to(elsewhere)
    assert cache.prune(filled, 30, datetime.now(UTC)) == (0, 0)
    assert (elsewhere / "a.gguf").exists()
