"""A hub that is down or busy: `plan`, `lock` and `build` say on stderr what is waited for, and JSON stays JSON."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from bundler.sources import hub
from bundler.sources.hub_patience import PATIENCE

Run = Callable[..., Result]
PROFILE = """
[bundle]
name = "demo"
title = "Demo"
[[model]]
name = "chat"
source = "hub:org/name@main/model.gguf"
licence = "MIT"
"""
WORDS = {"plan": (), "lock": (), "build": ("--repository", "repository", "--yes")}


@pytest.fixture
def slept(two_ticks: Callable[[threading.Event, float], bool], monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that are made, in no time; each request has two seconds to be silent in."""
    pauses = list[float]()
    patience = replace(PATIENCE, sleep=pauses.append, ended=two_ticks)
    for function in (hub.fetch, hub.look, hub.opened):
        monkeypatch.setattr(function, "__defaults__", (*(function.__defaults__ or ())[:-1], patience))
    return pauses


@pytest.fixture
def profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    path = tmp_path / "demo.toml"
    path.write_text(PROFILE)
    return path


@pytest.mark.parametrize("verb", WORDS)
@pytest.mark.parametrize("machine", [False, True])
def test_a_hub_that_is_down(
    lifeboat: Run,
    home: Path,
    passphrase: Path,
    profile: Path,
    slept: list[float],
    monkeypatch: pytest.MonkeyPatch,
    verb: str,
    machine: bool,
) -> None:
    """Silence and pauses are told on stderr with their lengths; stdout is the error alone, or nothing."""
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    json_word = ("--json",) if machine else ()
    done = lifeboat(verb, profile, *WORDS[verb], "--passphrase-file", passphrase, *json_word)
    assert (done.exit_code, slept) == (4, [1.0, 2.0, 4.0, 8.0])
    lines = done.stderr.splitlines()
    silent = "127.0.0.1 has said nothing for 2 s: it gets 20 s to connect and 30 s to answer, 5 times in a row"
    assert lines.count(silent) == 5
    tails = [line.rpartition("; ")[2] for line in lines if "; again in" in line]
    assert tails == [f"again in {2**number} s, try {number + 2} of 5" for number in range(4)]
    assert lines.index(silent) < next(at for at, line in enumerate(lines) if "; again in 1 s" in line)
    assert json.loads(done.stdout)["exit_code"] == 4 if machine else done.stdout == ""


@pytest.mark.parametrize("verb", ["plan", "lock"])
def test_a_hub_that_gets_well(
    lifeboat: Run,
    home: Path,
    passphrase: Path,
    profile: Path,
    slept: list[float],
    local_hub: Any,
    make_gguf: Any,
    load_script: Callable[[str], Any],
    monkeypatch: pytest.MonkeyPatch,
    verb: str,
) -> None:
    """The wait that it asks for is told, the work is done, and the JSON has nothing else in it."""
    local_hub.add("org/name", {"model.gguf": make_gguf(), "LICENSE": b"text"})
    monkeypatch.setenv("HF_ENDPOINT", local_hub.endpoint)
    local_hub.break_(load_script("hub_faults").Fault("status", stage="info", headers={"Retry-After": "40"}))
    done = lifeboat(verb, profile, "--passphrase-file", passphrase, "--json")
    assert (done.exit_code, slept) == (0, [40.0]), done.output
    assert "org/name@main: 127.0.0.1 answered 503; again in 40 s, try 2 of 5" in done.stderr.splitlines()
    assert isinstance(json.loads(done.stdout), dict)


def test_moves_are_looked_for_patiently(
    lifeboat: Run,
    home: Path,
    passphrase: Path,
    profile: Path,
    slept: list[float],
    local_hub: Any,
    make_gguf: Any,
    load_script: Callable[[str], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`lock --update` asks a hub before anything is taken: its silence is told as well."""
    local_hub.add("org/name", {"model.gguf": make_gguf(), "LICENSE": b"text"})
    monkeypatch.setenv("HF_ENDPOINT", local_hub.endpoint)
    assert lifeboat("lock", profile, "--passphrase-file", passphrase).exit_code == 0
    local_hub.break_(load_script("hub_faults").Fault("status", stage="info"))
    done = lifeboat("lock", profile, "--update", "--passphrase-file", passphrase, "--json")
    assert (done.exit_code, slept) == (0, [1.0]), done.output
    assert "org/name@main: 127.0.0.1 answered 503; again in 1 s, try 2 of 5" in done.stderr.splitlines()
    assert isinstance(json.loads(done.stdout), dict)
