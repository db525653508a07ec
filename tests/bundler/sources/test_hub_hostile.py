"""A hub, a cache or a neighbour that means harm: what they say is bounded, and where they lead nothing follows."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest

from bundler.format.errors import BadInput, SourceFailed
from bundler.sources.hub_patience import HubPatience
from bundler.sources.hub_session import guard
from bundler.sources.hub_settings import HubSettings
from bundler.sources.place import Place
from bundler.sources.source import Fetched

Pull = Callable[..., Fetched]
DATA = bytes(range(256)) * 20_000
SOURCE = "hub:org/name/model.gguf"
# What a build does with a source, as a program of its own that can be killed.
PROGRAM = """
import sys
from pathlib import Path
from bundler.sources.fetch import fetch
from bundler.sources.place import Place
base = Path(sys.argv[1])
place = Place(base, base / "cache", base / "wheels", base / sys.argv[3])
place.work.mkdir(exist_ok=True)
print(fetch(sys.argv[2], place).sha256)
"""


@pytest.fixture
def other_hub(load_script: Callable[[str], Any]) -> Any:
    with load_script("local_hub").LocalHub().running() as hub:
        yield hub


@pytest.mark.parametrize(("stage", "path"), [("info", "*"), ("tree", "*"), ("head", "model.gguf"), ("get", "LICENSE")])
def test_a_redirect_elsewhere_gets_no_token(
    local_hub: Any, other_hub: Any, pull: Pull, fault: Any, monkeypatch: pytest.MonkeyPatch, stage: str, path: str
) -> None:
    """Wherever the hub sends us, the token stays with the hub's own origin."""
    files = {"model.gguf": DATA, "LICENSE": b"text"}
    local_hub.add("org/name", files, token="hf_secret")
    other_hub.add("org/name", files)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    to = f"{other_hub.endpoint}/api/models/org/name" if stage in ("info", "tree") else f"{other_hub.endpoint}/other"
    local_hub.break_(fault("redirect", stage=stage, path=path, times=9, headers={"Location": to}))
    with suppress(SourceFailed):  # the other hub's facts lead nowhere, except where it has the same commit
        pull(SOURCE)
    assert {asked.authorization for asked in other_hub.asked} <= {""}


def test_a_next_page_elsewhere_gets_no_token(
    local_hub: Any, other_hub: Any, pull: Pull, fault: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A listing whose next page lies on another host is not followed with the token."""
    local_hub.add("org/name", {"model.gguf": DATA}, token="hf_secret")
    other_hub.add("org/name", {"model.gguf": DATA})
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    link = {"Link": f'<{other_hub.endpoint}/api/models/org/name/tree/main>; rel="next"'}
    local_hub.break_(fault("body", stage="tree", body=b"[]", headers=link))
    assert pull(SOURCE).length_bytes == len(DATA)
    assert [asked.authorization for asked in other_hub.asked] == [""]


@pytest.mark.parametrize(
    "to", ["file:///etc/passwd", "gopher://127.0.0.1/", "http://", "http://127.0.0.1:99999/", "//"]
)
def test_a_redirect_to_nowhere(local_hub: Any, pull: Pull, fault: Any, to: str) -> None:
    """An address that no hub leads to ends the work."""
    local_hub.add("org/name", {"model.gguf": DATA})
    local_hub.break_(fault("redirect", stage="head", times=999, headers={"Location": to}))
    with pytest.raises(SourceFailed):
        pull(SOURCE)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"null",
        b"7",
        b'"text"',
        b"{}",
        b'{"id": "org/name", "sha": "main"}',
        b'{"id": "org/name", "sha": ["a"]}',
        b'{"id": "org/name", "sha": "../../../../etc"}',
        b'{"id": 1, "sha": {"a": 1}, "cardData": [1]}',
        b"[" * 100_000,
        b'{"id":' * 50_000,
        b"\xff\xfe",
        b'{"id": "\\ud800", "sha": "\\ud800"}',
        b'{"id": "a", "sha": 1e999}',
        b'{"id": "a", "lastModified": "never"}',
        b'{"id": "a", "siblings": [1]}',
        b"9" * 10_000,
    ],
)
def test_an_answer_that_is_none(local_hub: Any, pull: Pull, fault: Any, place: Place, body: bytes) -> None:
    """Whatever a hub answers instead of facts about a repository is one clear error."""
    local_hub.add("org/name", {"model.gguf": DATA})
    local_hub.break_(fault("body", stage="info", body=body, times=9))
    with pytest.raises(SourceFailed):
        pull(SOURCE)
    assert list(place.work.iterdir()) == []


@pytest.mark.parametrize(
    "row",
    [
        {"type": "file"},
        {"type": "file", "path": "model.gguf", "size": "1", "oid": "a" * 40},
        {"type": "file", "path": "model.gguf", "size": 1, "oid": "../../x"},
        {"type": "file", "path": "model.gguf", "size": 1, "oid": "a" * 40, "lfs": {"oid": "/etc", "size": 1}},
        {"type": "file", "path": "model.gguf", "size": 1, "oid": "a" * 40, "lfs": 7},
        {"type": "file", "path": ["model.gguf"], "size": 1, "oid": "a" * 40},
        {"type": 7},
        [],
        None,
    ],
)
def test_a_listing_that_is_none(local_hub: Any, pull: Pull, fault: Any, row: Any) -> None:
    """A row without what a file needs, or with more than it may say, ends in an error and no file."""
    local_hub.add("org/name", {"model.gguf": DATA})
    local_hub.break_(fault("body", stage="tree", body=json.dumps([row]).encode(), times=9))
    with pytest.raises((SourceFailed, BadInput)):
        pull(SOURCE)
    assert local_hub.sent_bytes == 0


def test_an_answer_without_end(local_hub: Any, pull: Pull, fault: Any) -> None:
    """Facts that do not end are not read into memory."""
    local_hub.add("org/name", {"model.gguf": DATA})
    local_hub.break_(fault("body", stage="info", body=b" " * 20_000_000, times=9))
    with pytest.raises(SourceFailed, match="answers with more than"):
        pull(SOURCE)


def test_a_compressed_answer_is_refused(local_hub: Any, pull: Pull, fault: Any) -> None:
    """Nothing is unpacked, so that nothing grows."""
    local_hub.add("org/name", {"model.gguf": DATA})
    local_hub.break_(fault("body", stage="info", body=b"x", headers={"Content-Encoding": "gzip"}))
    with pytest.raises(SourceFailed, match="answered compressed"):
        pull(SOURCE)


@pytest.mark.parametrize("how", ["link", "pipe", "folder"])
@pytest.mark.parametrize("ending", ["", ".part"])
def test_something_else_in_the_cache(
    local_hub: Any, pull: Pull, place: Place, tmp_path: Path, how: str, ending: str
) -> None:
    """A link, a pipe or a folder where a file should lie is neither read nor written through."""
    local_hub.add("org/name", {"model.gguf": DATA})
    victim = tmp_path / "victim"
    victim.write_bytes(b"mine")
    path = place.cache / "hub" / "files" / f"sha256-{hashlib.sha256(DATA).hexdigest()}{ending}"
    path.parent.mkdir(parents=True)
    if how == "link":
        path.symlink_to(victim)
    else:
        (os.mkfifo if how == "pipe" else os.mkdir)(path)
    with pytest.raises(BadInput, match=r"cannot be opened|is not a regular file"):
        pull(SOURCE)
    assert victim.read_bytes() == b"mine"


def test_a_part_that_is_too_long_or_wrong(local_hub: Any, pull: Pull, place: Place) -> None:
    """What an earlier run left is taken up only where the whole comes out right."""
    local_hub.add("org/name", {"model.gguf": DATA})
    part = place.cache / "hub" / "files" / f"sha256-{hashlib.sha256(DATA).hexdigest()}.part"
    part.parent.mkdir(parents=True)
    for left in (DATA + b"more", b"x" * 1000, DATA[:5000]):
        part.write_bytes(left)
        found = pull(SOURCE)
        assert found.path.read_bytes() == DATA
        found.path.unlink()
    assert [asked.range for asked in local_hub.asked if asked.stage == "store"] == [
        "",
        "bytes=1000-",
        "",
        "bytes=5000-",
    ]


def test_ten_thousand_files(local_hub: Any, pull: Pull) -> None:
    """A repository of many files is listed page by page, in bounded memory."""
    many = {f"data/{number:05d}-{'x' * 60}.txt": b"x" for number in range(10_000)}
    local_hub.add("org/name", {"model.gguf": DATA, **many})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert pull(SOURCE).length_bytes == len(DATA)
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown_kib < 200 * 1024
    assert sum(asked.stage == "tree" for asked in local_hub.asked) == 11


def _build(base: Path, hub: Any, work: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "HF_ENDPOINT": hub.endpoint}
    command = [sys.executable, "-c", PROGRAM, str(base), SOURCE, work]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_killed_in_the_middle_and_taken_up(
    local_hub: Any, load_script: Callable[[str], Any], fault: Any, tmp_path: Path
) -> None:
    """After kill -9 the next run begins where the first was: no byte is sent twice."""
    made = load_script("hub_repositories").Made(40_000_000)
    local_hub.add("org/name", {"model.gguf": made})
    local_hub.break_(fault("stall", at_bytes=25_000_000, path="model.gguf"))
    first = _build(tmp_path, local_hub, "one")
    part = tmp_path / "cache" / "hub" / "files" / f"sha256-{made.sha256}.part"
    until = time.monotonic() + 60
    while not (part.exists() and part.stat().st_size == 25_000_000) and time.monotonic() < until:
        time.sleep(0.02)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    second = _build(tmp_path, local_hub, "two")
    said, complaint = second.communicate(timeout=120)
    assert said.strip() == made.sha256, complaint
    assert local_hub.sent_bytes == 40_000_000


def test_two_builds_on_one_cache(local_hub: Any, load_script: Callable[[str], Any], tmp_path: Path) -> None:
    """Two builds that want one file at the same time fetch it once."""
    made = load_script("hub_repositories").Made(20_000_000)
    local_hub.add("org/name", {"model.gguf": made})
    builds = [_build(tmp_path, local_hub, f"work{number}") for number in range(2)]
    ends = [build.communicate(timeout=120) for build in builds]
    assert [said.strip() for said, _ in ends] == [made.sha256] * 2, ends
    assert local_hub.sent_bytes == 20_000_000


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://hub.example/api/models/a/b", True),
        ("https://hub.example:443/a/b/resolve/main/c", True),
        ("https://hub.example:8443/a", False),
        ("https://cdn.example/a", False),
        ("https://huggingface.co/a", False),
        ("https://hub.example.evil.example/a", False),
    ],
)
def test_the_token_is_of_one_origin(url: str, kept: bool) -> None:
    """Scheme, host and port decide, and no list of hosts that a library trusts."""
    request = httpx2.Request("GET", url, headers={"Authorization": "Bearer hf_secret", "Cookie": "a=b"})
    guard(HubSettings("https://hub.example", "hf_secret"), HubPatience(silence_s=7.0))(request)
    assert ("Authorization" in request.headers, "Cookie" in request.headers) == (kept, kept)
    assert request.extensions["timeout"]["read"] == 7.0
    assert request.headers["Accept-Encoding"] == "identity"


def test_nothing_leads_out_of_the_encryption() -> None:
    """From a hub of https no redirect is followed to http."""
    with pytest.raises(SourceFailed, match="which is not encrypted"):
        guard(HubSettings("https://hub.example", ""), HubPatience())(httpx2.Request("GET", "http://hub.example/a"))
