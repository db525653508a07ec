"""Files of a hub, with the real client: pinned, hashed, kept; and what a hub does wrong."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bundler.format.errors import BadInput, NoSpace, SourceFailed
from bundler.lock import Pin
from bundler.sources.place import Place
from bundler.sources.source import Fetched

Pull = Callable[..., Fetched]
MODEL = random.Random(7).randbytes(3_000_000)
SHA256 = hashlib.sha256(MODEL).hexdigest()
FILES = {"model.gguf": MODEL, "config.json": b'{"a": 1}', "LICENSE": b"Permission is granted.\n"}
SOURCE = "hub:org/name/model.gguf"


@pytest.fixture
def commit(local_hub: Any) -> str:
    return str(local_hub.add("org/name", FILES, card={"license": "mit"}))


def _files(place: Place) -> list[str]:
    """The cache without its lock files."""
    return sorted(path.name for path in (place.cache / "hub" / "files").iterdir() if path.suffix != ".lock")


def test_a_file_comes_whole_and_pinned(local_hub: Any, pull: Pull, place: Place, commit: str) -> None:
    """The default branch is resolved to its commit; digest, licence and its text come with the file."""
    found = pull(SOURCE)
    assert found.path.read_bytes() == MODEL
    assert (found.sha256, found.length_bytes, found.resolved, found.licence) == (SHA256, len(MODEL), commit, "mit")
    assert found.licence_text is not None
    assert found.licence_text.read_bytes() == FILES["LICENSE"]
    assert (place.cache / "hub").stat().st_mode & 0o777 == 0o700
    assert {asked.agent.split("/")[0] for asked in local_hub.asked} == {"lifeboat"}
    assert [asked for asked in local_hub.asked if asked.stage == "other"] == []


def test_a_second_fetch_moves_no_file(local_hub: Any, pull: Pull, place: Place, commit: str) -> None:
    """What the cache holds is hashed again and not fetched again, and offline it serves a pinned source."""
    first = pull(SOURCE)
    sent = local_hub.sent_bytes
    pins = {SOURCE: Pin(first.length_bytes, first.sha256, first.resolved)}
    assert pull(SOURCE, replace(place, pins=pins, offline=True)) == first
    assert pull(f"hub:org/name@{commit}/model.gguf", replace(place, offline=True)).path == first.path
    assert local_hub.sent_bytes == sent


@pytest.mark.parametrize("revision", ["main", "v1"])
def test_a_commit_in_the_lock_wins_over_a_moved_branch(
    local_hub: Any, pull: Pull, place: Place, commit: str, revision: str
) -> None:
    """A branch or tag that moved is taken where the lock has it, by other files of the same revision as well."""
    repository = local_hub.repositories["org/name"]
    repository.tags["v1"] = repository.at("main")
    source = f"hub:org/name@{revision}/model.gguf"
    first = pull(source)
    repository.tags["v1"] = repository.at(repository.commit({"model.gguf": b"another", "config.json": b"{}"}))
    pins = {source: Pin(first.length_bytes, first.sha256, first.resolved)}
    later = replace(place, pins=pins, work=place.base)
    assert pull(source, later) == first
    beside = pull(f"hub:org/name@{revision}/config.json", later)
    assert (beside.resolved, beside.path.read_bytes()) == (commit, FILES["config.json"])
    assert pull(source, replace(place, work=place.base)).resolved != commit


def test_files_of_one_build_are_of_one_commit(local_hub: Any, pull: Pull, commit: str) -> None:
    """A branch that moves between two files of a model does not tear it."""
    first = pull(SOURCE)
    local_hub.repositories["org/name"].commit({**FILES, "config.json": b"{}"})
    second = pull("hub:org/name/config.json")
    assert (first.resolved, second.resolved) == (commit, commit)
    assert second.path.read_bytes() == FILES["config.json"]


@pytest.mark.parametrize(
    "faults",
    [
        [{"kind": "cut", "at_bytes": 1_000_000}],
        [{"kind": "cut", "at_bytes": 1_000_000}, {"kind": "status", "status": 503}],
        [{"kind": "cut", "at_bytes": 2_000_000}, {"kind": "status", "status": 403}],
        [{"kind": "stall", "at_bytes": 1_000_000}],
        [{"kind": "stall", "at_bytes": -1}],
        [{"kind": "drip", "stall_s": 0.01}],
        [{"kind": "status", "status": 500, "stage": "head", "path": "model.gguf", "times": 3}],
        [{"kind": "status", "status": 502, "stage": "tree"}, {"kind": "stall", "stage": "info", "at_bytes": -1}],
        [{"kind": "status", "status": 429, "stage": "info", "headers": {"Retry-After": "1"}}],
        [{"kind": "status", "status": 416}],
    ],
)
def test_a_fault_that_passes_is_waited_out(
    local_hub: Any, pull: Pull, fault: Any, commit: str, faults: list[dict[str, Any]]
) -> None:
    """Cut, silent, slow, overloaded: the file comes whole, and no byte of it twice."""
    local_hub.break_(*(fault(**{"path": "model.gguf" if "stage" not in told else "*", **told}) for told in faults))
    assert pull(SOURCE).path.read_bytes() == MODEL
    # What was on the wire when a connection broke may be lost with it.
    assert local_hub.sent_bytes <= len(MODEL) + len(FILES["LICENSE"]) + 2**20


def test_a_server_that_ignores_range_sends_the_file_anew(local_hub: Any, pull: Pull, fault: Any, commit: str) -> None:
    """A whole file where the rest was asked for does not land behind the beginning."""
    local_hub.break_(fault("cut", at_bytes=1_000_000), fault("whole"))
    assert pull(SOURCE).path.read_bytes() == MODEL


def test_wrong_bytes_are_fetched_once_more(local_hub: Any, pull: Pull, fault: Any, commit: str) -> None:
    """A right length with one wrong bit is seen, thrown away and fetched anew."""
    local_hub.break_(fault("wrong", at_bytes=1_234_567))
    assert pull(SOURCE).path.read_bytes() == MODEL
    assert local_hub.sent_bytes == 2 * len(MODEL) + len(FILES["LICENSE"])


def test_bytes_that_stay_wrong_end_it(local_hub: Any, pull: Pull, fault: Any, place: Place, commit: str) -> None:
    """A file that comes damaged twice is refused, and nothing of it stays."""
    local_hub.break_(fault("wrong", at_bytes=5, times=2))
    with pytest.raises(SourceFailed, match=f"came damaged twice: expected sha256 {SHA256}, found "):
        pull(SOURCE)
    assert _files(place) == []


def test_a_small_file_is_held_to_its_git_digest(local_hub: Any, pull: Pull, fault: Any, commit: str) -> None:
    """A file that lies in the repository itself is checked too."""
    local_hub.break_(fault("wrong", stage="get", path="config.json", times=2))
    with pytest.raises(SourceFailed, match="came damaged twice: expected git "):
        pull("hub:org/name/config.json")


def test_damage_in_the_cache_is_repaired(local_hub: Any, pull: Pull, commit: str) -> None:
    """A byte that turned on the disk is noticed at the next use; offline that is an error."""
    first = pull(SOURCE)
    with first.path.open("r+b") as file:
        file.write(b"x")
    assert pull(SOURCE).path.read_bytes() == MODEL


def test_another_digest_than_listed_is_refused(
    local_hub: Any, pull: Pull, fault: Any, place: Place, commit: str
) -> None:
    """A hub that announces at the file what it does not list gets no chance to send it."""
    local_hub.break_(fault("digest", stage="head", path="model.gguf"))
    with pytest.raises(SourceFailed, match=f"listed with sha256 {SHA256}.*announced with"):
        pull(SOURCE)
    assert _files(place) == []


def test_what_the_lock_pins_is_held_before_anything_is_fetched(
    local_hub: Any, pull: Pull, place: Place, commit: str
) -> None:
    """A commit that lists another file than the lock pins costs no download."""
    pins = {SOURCE: Pin(len(MODEL), "0" * 64, commit)}
    with pytest.raises(SourceFailed, match="is not what the lock pins"):
        pull(SOURCE, replace(place, pins=pins))
    assert local_hub.sent_bytes == 0


@pytest.mark.parametrize(
    ("options", "token", "match", "hint"),
    [
        ({"token": "hf_x", "gated": True}, "", "is gated", "accept its terms on the hub, then set HF_TOKEN"),
        ({"token": "hf_x", "gated": True}, "hf_other", "is gated", "accept its terms"),
        ({"token": "hf_x"}, "", "no such repository, or shows it only", "set HF_TOKEN"),
        ({"token": "hf_x"}, "hf_other", "no such repository, or shows it only", "set HF_TOKEN"),
    ],
)
def test_who_may_not_read_hears_of_tokens(
    local_hub: Any,
    pull: Pull,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
    token: str,
    match: str,
    hint: str,
) -> None:
    """Gated and private repositories end with the way to a token, which itself is never said."""
    local_hub.add("org/name", FILES, **options)
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(SourceFailed, match=match) as caught:
        pull(SOURCE)
    assert hint in caught.value.hint
    assert not token or token not in str(caught.value) + caught.value.hint


def test_a_token_opens_and_stays_at_home(
    local_hub: Any, pull: Pull, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub gets the token with each request, the storage none; nothing of it is written."""
    local_hub.add("org/name", FILES, token="hf_secret", gated=True)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    found = pull(SOURCE)
    assert found.path.read_bytes() == MODEL
    sent = {(asked.stage, asked.authorization) for asked in local_hub.asked}
    assert {token for stage, token in sent if stage == "store"} == {""}
    assert {token for stage, token in sent if stage != "store"} == {"Bearer hf_secret"}
    assert all(b"hf_secret" not in path.read_bytes() for path in place.base.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("source", "match"),
    [
        ("hub:org/none/model.gguf", "no such repository"),
        ("hub:org/name@gone/model.gguf", "no such revision"),
        (f"hub:org/name@{'0' * 40}/model.gguf", "no such revision"),
    ],
)
def test_what_the_hub_does_not_know(pull: Pull, commit: str, source: str, match: str) -> None:
    """An unknown repository, branch or commit is said as such."""
    with pytest.raises(SourceFailed, match=match):
        pull(source)


def test_a_missing_file_names_its_neighbours(pull: Pull, commit: str) -> None:
    """Who mistypes a file sees what there is."""
    with pytest.raises(BadInput, match="has no file modell") as caught:
        pull("hub:org/name/modell.gguf")
    assert caught.value.hint == "there is model.gguf"


@pytest.mark.parametrize(
    ("told", "match"),
    [
        ({"kind": "status", "status": 500, "stage": "info", "times": 99}, "answered 500, after 5 tries"),
        ({"kind": "status", "status": 429, "headers": {"Retry-After": "86400"}}, "asks to wait 86400 s, after 1 try"),
        ({"kind": "stall", "at_bytes": -1, "times": 99}, "said nothing for too long, after 5 tries"),
        ({"kind": "cut", "at_bytes": 0, "times": 99}, "after 5 tries"),
    ],
)
def test_it_ends_where_a_hub_does_not_get_well(
    local_hub: Any, pull: Pull, fault: Any, commit: str, told: dict[str, Any], match: str
) -> None:
    """No number of failures and no wait that a server asks for is taken without bound."""
    local_hub.break_(fault(**told))
    with pytest.raises(SourceFailed, match=match):
        pull(SOURCE)


def test_offline_says_what_is_missing(pull: Pull, place: Place, local_hub: Any, commit: str) -> None:
    """Without a network the cache and the lock serve, or an error says what they lack; nothing is asked."""
    with pytest.raises(SourceFailed, match="what org/name@unresolved stands for: not known here"):
        pull(SOURCE, replace(place, offline=True))
    with pytest.raises(SourceFailed, match="the files of org/name@"):
        pull(f"hub:org/name@{commit}/model.gguf", replace(place, offline=True))
    assert local_hub.asked == []


def test_a_hub_that_is_not_there(pull: Pull, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A closed port is tried a few times and then said."""
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(SourceFailed, match=r"connection to 127\.0\.0\.1 failed.*after 5 tries"):
        pull(SOURCE)


def test_a_file_that_does_not_fit(local_hub: Any, pull: Pull, place: Place, load_script: Callable[[str], Any]) -> None:
    """A file larger than what is free is refused before its first byte."""
    huge = load_script("hub_repositories").Made(2**49)
    huge.__dict__["sha256"] = "a" * 64  # nobody waits for its digest
    local_hub.add("org/huge", {"model.gguf": huge})
    with pytest.raises(NoSpace, match="free, what comes needs 562"):
        pull("hub:org/huge/model.gguf")
    assert (local_hub.sent_bytes, _files(place)) == (0, [])
