"""`lifeboat cache`: what builds keep, shown and removed, but not under a build that is at work."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

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


def test_a_build_keeps_its_cache(filled: Path) -> None:
    """A build that is at work reads it; one that was killed does not."""
    with work_folder(filled), pytest.raises(Busy, match="at work"):
        cache.clear(filled, ["wheels"])
    (filled / "work" / "build-dead").mkdir()
    assert cache.clear(filled, ["wheels"]) == 700
