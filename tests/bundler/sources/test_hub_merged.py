"""What was merged is kept: known by its parts and by the code, and held to its own digest."""

from __future__ import annotations

import ast
import hashlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bundler import cache
from bundler.capture import gguf_merge
from bundler.format.errors import BadInput, NoSpace
from bundler.sources import hub_merged
from bundler.sources.place import Place
from bundler.sources.source import Fetched

Pull = Callable[..., Fetched]
SOURCE = "hub:org/split/Q4/*.gguf"
# What these decide is not which bytes come out.
DECIDES_NOTHING = {"bundler.confine", "bundler.format.errors", "bundler.format.limits"}


@pytest.fixture
def merges(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """What was really merged."""
    made: list[Path] = []

    def merge(parts: Sequence[Path], target: Path) -> None:
        real(parts, target)
        made.append(target)

    real = gguf_merge.merge
    monkeypatch.setattr(gguf_merge, "merge", merge)
    return made


@pytest.fixture(scope="module")
def model(load_script: Callable[[str], Any], smollm_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with the words of a real one, and a seventh of its bytes: it is merged twenty times here."""
    random_gguf = load_script("random_gguf")
    path: Path = tmp_path_factory.mktemp("model") / "small.gguf"
    random_gguf.write(smollm_gguf, path, 15_000_000, random_gguf.SMALL)
    return path


@pytest.fixture(scope="module")
def parts(load_script: Callable[[str], Any], model: Path) -> dict[str, bytes]:
    """The model in three parts."""
    made: dict[str, bytes] = load_script("split_gguf").split(model, "Q4/small", 3)
    return made


@pytest.fixture
def whole(model: Path, parts: dict[str, bytes], local_hub: Any) -> str:
    """The digest of a model that a hub has in three parts."""
    local_hub.add("org/split", parts)
    return hashlib.sha256(model.read_bytes()).hexdigest()


def _kept(place: Place) -> list[str]:
    folder = place.cache / "hub" / "merged"
    return sorted(path.suffix for path in folder.iterdir() if path.suffix != ".lock")


def test_a_second_build_merges_nothing(pull: Pull, place: Place, merges: list[Path], whole: str) -> None:
    """Another work folder, another branch of the same parts: the file is the one that was made, closed to others."""
    first = pull(SOURCE)
    assert (first.sha256, len(merges)) == (whole, 1)
    made = first.path.stat()
    assert made.st_mode & 0o777 == 0o600
    later = replace(place, work=place.base)
    assert pull(SOURCE, later) == first
    assert pull(SOURCE.replace("split/", "split@main/"), later).path == first.path
    assert (len(merges), first.path.stat()[1:3], first.path.stat().st_mtime_ns) == (1, made[1:3], made.st_mtime_ns)
    assert _kept(place) == [".gguf", ".sha256"]


@pytest.mark.parametrize("harm", ["byte", "short", "gone", "record", "no record", "long record"])
def test_a_damaged_one_is_made_anew(pull: Pull, place: Place, merges: list[Path], whole: str, harm: str) -> None:
    """Whatever a disk does to the file or to what is known of it, the next build has the right one."""
    path = pull(SOURCE).path
    record = path.with_suffix(".sha256")
    if harm == "byte":
        with path.open("r+b") as file:
            file.seek(1_000_000)
            file.write(b"damaged")
    elif harm == "short":
        path.write_bytes(path.read_bytes()[:-1])
    elif "record" not in harm:
        path.unlink()
    elif harm == "no record":
        record.unlink()
    else:
        record.write_text("0" * (64 if harm == "record" else 65))
    (path.parent / f".{path.name}.0123abcd.part").write_bytes(b"of a build that was killed")
    found = pull(SOURCE)
    assert (found.sha256, hashlib.sha256(found.path.read_bytes()).hexdigest()) == (whole, whole)
    assert (len(merges), _kept(place)) == (2, [".gguf", ".sha256"])


def test_other_code_makes_it_anew(
    pull: Pull, place: Place, merges: list[Path], whole: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change to the code that merges leaves nothing of what the code before it made."""
    copies = [place.base / path.name for path in hub_merged.CODE]
    for path, copied in zip(hub_merged.CODE, copies, strict=True):
        shutil.copy(path, copied)
    monkeypatch.setattr(hub_merged, "CODE", tuple(copies))
    before = pull(SOURCE)
    copies[0].write_text(copies[0].read_text() + "\n# mended\n")
    after = pull(SOURCE)
    assert (len(merges), after.sha256, after.path == before.path) == (2, whole, False)
    assert _kept(place) == [".gguf", ".sha256"]


def test_the_code_is_all_that_decides() -> None:
    """What the merging code imports of this program is part of its digest."""
    named = {"bundler.capture.gguf_merge"}
    for path in hub_merged.CODE:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("bundler"):
                named.add(str(node.module))
    known = {".".join(path.with_suffix("").parts[-3:]) for path in hub_merged.CODE}
    assert named - DECIDES_NOTHING == known


def test_a_link_in_its_place_is_refused(pull: Pull, place: Place, whole: str, model: Path) -> None:
    """Another file of the disk is not taken, be it the right one."""
    path = pull(SOURCE).path
    path.unlink()
    path.symlink_to(model)
    with pytest.raises(BadInput, match="cannot be opened"):
        pull(SOURCE)


def test_a_model_that_does_not_fit(
    pull: Pull, place: Place, merges: list[Path], whole: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The room for the whole is looked for before the first byte of it is written."""
    pull(SOURCE).path.unlink()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(2**40, 2**40, 1000))
    with pytest.raises(NoSpace, match=r"1\.0 kB free, what comes needs"):
        pull(SOURCE)
    assert (len(merges), _kept(place)) == (1, [])


def test_it_counts_in_the_cache(pull: Pull, place: Place, merges: list[Path], whole: str) -> None:
    """`cache list` tells its bytes with the hub's, and `cache clear hub` frees them."""
    length = pull(SOURCE).length_bytes
    told = {part.name: part.length_bytes for part in cache.parts(place.base)}
    assert told["hub"] > 2 * length
    assert cache.clear(place.base, ["hub"]) == told["hub"]
    assert not (place.cache / "hub").exists()
    pull(SOURCE)
    assert len(merges) == 2
