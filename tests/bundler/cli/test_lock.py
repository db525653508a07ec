"""`lifeboat lock`: pins what is new, shows what moved, and takes nothing that nobody agreed to."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from bundler.cli import main
from bundler.lock import Lock as LockFile
from bundler.lock import lock_path, read_lock, write_lock
from bundler.terminal import size

PROFILE = """
[bundle]
name = "demo"
title = "Demo"
[[model]]
name = "chat"
source = "hub:org/chat/*.gguf"
commit = "main"
licence = "MIT"
[[model]]
name = "ranks"
source = "hub:org/ranks/model.gguf"
licence = "MIT"
serves = "rerank"
"""
CHAT, RANKS = "hub:org/chat@main/*.gguf", "hub:org/ranks/model.gguf"
Lock = Callable[..., Result]


@pytest.fixture(scope="session")
def chats(make_gguf: Any) -> tuple[bytes, bytes]:
    """The chat model as it was, and a larger one that comes in its place."""
    return make_gguf(800), make_gguf(1600)


@pytest.fixture
def profile(tmp_path: Path, local_hub: Any, make_gguf: Any, chats: tuple[bytes, bytes]) -> Path:
    path = tmp_path / "demo.toml"
    path.write_text(PROFILE)
    local_hub.add("org/chat", {"model.gguf": chats[0]}, card={"license": "mit"})
    local_hub.add(
        "org/ranks", {"model.gguf": make_gguf(tensor="cls.weight"), "LICENSE": b"text"}, card={"license": "mit"}
    )
    return path


@pytest.fixture
def lock(profile: Path, tmp_path: Path, local_hub: Any, monkeypatch: pytest.MonkeyPatch) -> Lock:
    monkeypatch.setenv("HF_ENDPOINT", local_hub.endpoint)

    def run(*words: str, said: str | None = None, verb: str = "lock") -> Result:
        rest = [verb, str(profile), *words, "--home", str(tmp_path / "home")]
        return CliRunner().invoke(main, rest, input=said, catch_exceptions=False)

    return run


def test_what_the_lock_lacks_is_pinned(lock: Lock, profile: Path, local_hub: Any) -> None:
    """Each source gets its commit and digest; a second run changes nothing and fetches nothing."""
    done = lock("--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["new"] == [CHAT, RANKS]
    pins = read_lock(lock_path(profile)).pins
    assert pins[CHAT].resolved == local_hub.repositories["org/chat"].at("main").sha
    before, sent = lock_path(profile).read_bytes(), local_hub.sent_bytes
    assert "everything is pinned" in lock().stdout
    assert (lock_path(profile).read_bytes(), local_hub.sent_bytes) == (before, sent)


def test_a_moved_branch_waits_for_a_yes(lock: Lock, profile: Path, local_hub: Any, chats: tuple[bytes, bytes]) -> None:
    """Plan and lock stay where they were; --update shows commits, sizes and the licence, and asks before it fetches."""
    lock()
    before = read_lock(lock_path(profile))
    moved = local_hub.add("org/chat", {"model.gguf": chats[1]}, card={"license": "cc-by-nc-4.0"})
    sent = local_hub.sent_bytes
    assert lock(verb="plan").exit_code == 0
    assert lock().exit_code == 0
    assert read_lock(lock_path(profile)) == before
    refused = lock("--update", said="n\n")
    assert refused.exit_code == 130
    assert (read_lock(lock_path(profile)), local_hub.sent_bytes) == (before, sent)
    shown = refused.stderr
    assert f"from {before.pins[CHAT].resolved[:12]} to {moved[:12]}" in shown
    assert f"{size(len(chats[0]))} to {size(len(chats[1]))}" in shown
    assert RANKS not in shown
    agreed = lock("--update", said="y\n")
    assert agreed.exit_code == 0
    after = read_lock(lock_path(profile)).pins
    assert (after[CHAT].resolved, after[CHAT].length_bytes, after[RANKS]) == (moved, len(chats[1]), before.pins[RANKS])


def test_a_licence_that_changed_is_said(lock: Lock, local_hub: Any, chats: tuple[bytes, bytes]) -> None:
    """The card of the old commit is compared with that of the new one."""
    lock()
    local_hub.add("org/chat", {"model.gguf": chats[1]}, card={"license": "cc-by-nc-4.0"})
    done = lock("--update", "--yes", "--json")
    moved = json.loads(done.stdout)["moved"]
    assert [(move["before"]["licence"], move["now"]["licence"]) for move in moved] == [("mit", "cc-by-nc-4.0")]
    assert [move["now"]["length_bytes"] for move in moved] == [len(chats[1])]


def test_only_what_is_named_moves(lock: Lock, profile: Path, local_hub: Any, make_gguf: Any) -> None:
    """A name or a source limits what is looked at; one that is not in the profile is refused."""
    lock()
    before = read_lock(lock_path(profile)).pins
    for name in ("org/chat", "org/ranks"):
        local_hub.add(name, {"model.gguf": make_gguf(tensor="cls.weight", filled=b"n")})
    done = lock("--update", "--yes", "ranks")
    assert done.exit_code == 0, done.stderr
    after = read_lock(lock_path(profile)).pins
    assert (after[CHAT], after[RANKS] == before[RANKS]) == (before[CHAT], False)
    assert lock("--update", "--yes", CHAT).exit_code == 0
    assert read_lock(lock_path(profile)).pins[CHAT] != before[CHAT]
    assert lock("--update", "nobody").exit_code == 3
    assert lock("chat").exit_code == 2


def test_nothing_moves_where_nothing_moved(lock: Lock, local_hub: Any) -> None:
    """An update of what stands where it stood asks nothing."""
    lock()
    assert "nothing has moved" in lock("--update").stdout


def test_an_update_takes_no_change_that_it_did_not_show(lock: Lock, profile: Path) -> None:
    """A commit whose bytes are others than they were did not move: it is refused, with --update as without."""
    lock()
    path = lock_path(profile)
    pins = read_lock(path).pins
    write_lock(path, LockFile(1, {**pins, CHAT: replace(pins[CHAT], sha256="0" * 64)}))
    before = path.read_bytes()
    refused = lock("--update", "--yes")
    assert refused.exit_code == 4
    assert "is not what the lock pins" in refused.stderr
    assert path.read_bytes() == before


def test_offline(lock: Lock, local_hub: Any) -> None:
    """Without a network a complete lock holds, and what it lacks is named."""
    assert lock("--offline").exit_code == 4
    lock()
    local_hub.mend()
    assert lock("--offline").exit_code == 0
    assert lock("--offline", verb="plan").exit_code == 0
    assert local_hub.asked == []
    assert lock("--update", "--offline").exit_code == 2


def test_a_hub_that_fails_leaves_the_lock(
    lock: Lock, profile: Path, local_hub: Any, load_script: Any, chats: tuple[bytes, bytes]
) -> None:
    """A failure in the middle of an update changes nothing."""
    lock()
    before = lock_path(profile).read_bytes()
    local_hub.add("org/chat", {"model.gguf": chats[1]})
    local_hub.break_(load_script("hub_faults").Fault("wrong", times=9))
    assert lock("--update", "--yes").exit_code == 4
    assert lock_path(profile).read_bytes() == before


def test_what_a_model_is_held_against_is_pinned(lock: Lock, profile: Path, local_hub: Any) -> None:
    """A base model's template on a branch: its commit is in the lock, needs no network then, and moves as asked."""
    base = "hub:org/base@main/chat_template.jinja"
    profile.write_text(PROFILE.replace('commit = "main"', f'commit = "main"\ntemplate = "{base}"'))
    first = local_hub.add("org/base", {"chat_template.jinja": b"{{ messages[0].content }}"})
    assert lock().exit_code == 0
    assert read_lock(lock_path(profile)).pins[base].resolved == first
    offline = lock("--offline", verb="plan")
    assert (offline.exit_code, "chat template" in offline.stdout) == (0, True), offline.stderr
    moved = local_hub.add("org/base", {"chat_template.jinja": b"{{ messages[-1].content }}"})
    assert lock(verb="plan").exit_code == 0
    assert "everything is pinned" in lock().stdout
    done = lock("--update", "--yes", "chat", "--json")
    assert [move["source"] for move in json.loads(done.stdout)["moved"]] == [base]
    assert read_lock(lock_path(profile)).pins[base].resolved == moved
