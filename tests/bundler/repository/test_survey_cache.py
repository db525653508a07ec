"""The cache of surveys: what looks unchanged is not read again, what changed is."""

from __future__ import annotations

import hashlib
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from bundler.format.errors import BadInput
from bundler.repository.survey import Captured, survey
from bundler.repository.survey_cache import SurveyCache

MIB = 2**20


@pytest.fixture
def model(tmp_path: Path) -> Captured:
    file = tmp_path / "model.gguf"
    file.write_bytes(os.urandom(20 * MIB))
    return Captured("models/m.gguf", file, "gguf", "", "file:m", (5 * MIB,), 4 * MIB)


@pytest.fixture
def cache(tmp_path: Path) -> SurveyCache:
    return SurveyCache(tmp_path / "surveys")


def settle(monkeypatch: pytest.MonkeyPatch, seconds: int = 10) -> None:
    """Lets time pass: a file that was just written is not trusted to its times."""
    later = time.time_ns() + seconds * 10**9
    monkeypatch.setattr("bundler.repository.survey_cache.time.time_ns", lambda: later)


def test_an_unchanged_file_is_known(model: Captured, cache: SurveyCache, monkeypatch: pytest.MonkeyPatch) -> None:
    """The survey comes back equal, and nobody but the builder can read it."""
    settle(monkeypatch)
    assert cache.known(model) is None
    surveyed = survey(model, lambda _: None)
    cache.keep(surveyed)
    assert cache.known(model) == surveyed
    assert [path.stat().st_mode & 0o777 for path in (cache.folder or Path()).iterdir()] == [0o600]


def test_a_changed_file_is_not_known(model: Captured, cache: SurveyCache, monkeypatch: pytest.MonkeyPatch) -> None:
    """An edit of the same size shows even where its time was put back; so does another cut, and a copy in its place."""
    settle(monkeypatch)
    cache.keep(survey(model, lambda _: None))
    assert cache.known(replace(model, cuts=(6 * MIB,))) is None
    assert cache.known(replace(model, chunk_bytes=2 * MIB)) is None
    before = model.file.stat()
    with model.file.open("r+b") as file:
        file.write(b"edit")
    os.utime(model.file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert cache.known(model) is None
    cache.keep(survey(model, lambda _: None))
    copy = model.file.with_name("copy")
    copy.write_bytes(model.file.read_bytes())
    copy.rename(model.file)
    assert cache.known(model) is None


def test_a_file_just_written_is_not_kept(model: Captured, cache: SurveyCache) -> None:
    """A second write within a tick of the clock would not show."""
    cache.keep(survey(model, lambda _: None))
    assert cache.known(model) is None


def test_a_digest_from_the_source_stands_for_any_place(model: Captured, cache: SurveyCache, tmp_path: Path) -> None:
    """A file that was hashed as it arrived is known again wherever it is unpacked."""
    told = replace(model, source="wheel:m", sha256="ab" * 32)
    cache.keep(survey(told, lambda _: None))
    other = tmp_path / "other"
    other.write_bytes(model.file.read_bytes())
    found = cache.known(replace(told, file=other))
    assert found is not None
    assert found.digests() == survey(model, lambda _: None).digests()
    assert cache.known(replace(told, sha256="cd" * 32)) is None


@pytest.mark.parametrize("damage", [b"", b"{}", b"not json", b'{"cut":"x","digests":["a"],"lengths":[],"look":"y"}'])
def test_a_damaged_entry_is_none(
    model: Captured, cache: SurveyCache, damage: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cache never fails a build."""
    settle(monkeypatch)
    cache.keep(survey(model, lambda _: None))
    for path in (cache.folder or Path()).iterdir():
        path.write_bytes(damage)
    assert cache.known(model) is None


def test_a_file_that_was_swapped_after_it_was_hashed_is_refused(model: Captured) -> None:
    """What a signature was checked of must be what goes in; a share lies outside our own folders."""
    held = replace(model, source="file:share/model.gguf", sha256="ab" * 32)
    with pytest.raises(BadInput, match="changed while it was read"):
        survey(held, lambda _: None)
    data = hashlib.sha256(model.file.read_bytes()).hexdigest()
    assert survey(replace(held, sha256=data), lambda _: None).sha256 == data
