"""`lifeboat keys token`, and who is shown a kept token: its own hub alone, and only when it is asked."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from bundler.format.errors import BadInput, WrongKey
from bundler.repository.hub_tokens import HubTokens
from bundler.repository.keyring import Keyring

Run = Callable[..., Result]
TOKEN, PASSPHRASE, QUICK = "hf_kept_in_the_keyring", "correct horse", 10
PROFILE = """
[bundle]
name = "demo"
title = "Demo"
[[model]]
name = "chat"
source = "hub:org/gated/model.gguf"
licence = "MIT"
"""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A passphrase that opens fast."""
    for function in (HubTokens.keep, Keyring.change_passphrase):
        monkeypatch.setattr(function, "__defaults__", (QUICK,))


@pytest.fixture
def profile(tmp_path: Path, local_hub: Any, make_gguf: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A profile whose model lies in a gated repository; its hub is asked as nobody unless a test says otherwise."""
    local_hub.add("org/gated", {"model.gguf": make_gguf(), "LICENSE": b"text"}, token=TOKEN, gated=True)
    monkeypatch.setenv("HF_ENDPOINT", local_hub.endpoint)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    path = tmp_path / "demo.toml"
    path.write_text(PROFILE)
    return path


@pytest.fixture
def address(local_hub: Any) -> str:
    return str(local_hub.endpoint).removeprefix("http://")


@pytest.fixture
def tokens(home: Path) -> HubTokens:
    return HubTokens(Keyring(home, lambda: PASSPHRASE))


def _shown(local_hub: Any) -> set[str]:
    """What the hub was shown, the storage left out."""
    return {asked.authorization for asked in local_hub.asked if asked.stage != "store"}


def test_set_list_and_remove(lifeboat: Run, home: Path, passphrase: Path, tmp_path: Path) -> None:
    """A token is taken from a prompt or a file, kept encrypted, and never shown."""
    asked = lifeboat("keys", "token", "set", "HuggingFace.co:443", answers=f"{TOKEN}\n{PASSPHRASE}\n")
    assert asked.exit_code == 0, asked.output
    (tmp_path / "token").write_text(f"{TOKEN}2\n")
    words = ("--token-file", tmp_path / "token", "--passphrase-file", passphrase)
    filed = lifeboat("keys", "token", "set", "localhost:8080", *words)
    again = json.loads(lifeboat("keys", "token", "set", "localhost:8080", *words, "--json").stdout)
    assert again == {"hub": "localhost:8080", "replaced": True}
    listed = lifeboat("keys", "token", "list")
    assert listed.stdout.split() == ["huggingface.co", "localhost:8080"]
    assert (home / "keyring" / "huggingface.co.token").stat().st_mode & 0o777 == 0o600
    assert all(TOKEN not in done.output for done in (asked, filed, listed))
    assert all(TOKEN.encode() not in path.read_bytes() for path in home.rglob("*") if path.is_file())
    kept = HubTokens(Keyring(home, lambda: PASSPHRASE))
    assert (kept.open("huggingface.co"), kept.open("localhost:8080")) == (TOKEN, f"{TOKEN}2")
    assert lifeboat("keys", "token", "remove", "huggingface.co").exit_code == 0
    assert lifeboat("keys", "token", "remove", "huggingface.co").exit_code == 6
    assert lifeboat("keys", "token", "list").stdout.split() == ["localhost:8080"]


@pytest.mark.parametrize("host", ["https://huggingface.co", "hf_secret", "../x", "host:0", "host:70000", "a b", ""])
def test_what_is_no_host_is_not_repeated(lifeboat: Run, home: Path, host: str) -> None:
    """A token that was typed where the host belongs is in no message."""
    done = lifeboat("keys", "token", "set", host)
    assert done.exit_code == 3
    assert not host or host not in done.output


@pytest.mark.parametrize(
    ("told", "words", "code"),
    [("", PASSPHRASE, 3), ("hf x", PASSPHRASE, 3), ("h" * 5000, PASSPHRASE, 3), (TOKEN, "another one", 17)],
)
def test_what_cannot_be_kept(
    lifeboat: Run, home: Path, passphrase: Path, tmp_path: Path, told: str, words: str, code: int
) -> None:
    """A text that is no token, and a passphrase that is not the keyring's, leave the keyring as it was."""
    (tmp_path / "token").write_text(told)
    passphrase.write_text(words)
    before = sorted(path.name for path in (home / "keyring").glob("[!.]*"))
    done = lifeboat(
        "keys", "token", "set", "hub.example", "--token-file", tmp_path / "token", "--passphrase-file", passphrase
    )
    assert done.exit_code == code, done.output
    assert sorted(path.name for path in (home / "keyring").glob("[!.]*")) == before


def test_no_token_without_a_keyring(lifeboat: Run, profile: Path) -> None:
    """A home that holds no keys takes none, and asks for none."""
    done = lifeboat("keys", "token", "set", "hub.example")
    assert done.exit_code == 6
    assert "Token" not in done.output


@pytest.mark.parametrize("verb", ["plan", "lock", "build"])
def test_the_hub_is_shown_it(
    lifeboat: Run,
    profile: Path,
    tokens: HubTokens,
    address: str,
    local_hub: Any,
    passphrase: Path,
    tmp_path: Path,
    verb: str,
) -> None:
    """An unattended job reads a gated repository; the storage is shown nothing, and nothing of it is kept or said."""
    tokens.keep(address, TOKEN)
    words = ["--repository", tmp_path / "repository", "--yes"] if verb == "build" else []
    done = lifeboat(verb, profile, *words, "--passphrase-file", passphrase)
    assert done.exit_code == 0, done.output
    assert _shown(local_hub) == {f"Bearer {TOKEN}"}
    assert {asked.authorization for asked in local_hub.asked if asked.stage == "store"} == {""}
    assert TOKEN not in done.output
    assert all(TOKEN.encode() not in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_the_passphrase_is_asked_for_when_the_hub_is(
    lifeboat: Run, profile: Path, tokens: HubTokens, address: str, local_hub: Any
) -> None:
    """Where everything is in the lock and the cache nobody is asked for anything, and nobody's silence is a stop."""
    tokens.keep(address, TOKEN)
    silent = lifeboat("lock", profile)
    assert (silent.exit_code, local_hub.asked) == (130, []), silent.output
    assert lifeboat("lock", profile, answers=f"{PASSPHRASE}\n").exit_code == 0
    local_hub.mend()
    later = lifeboat("plan", profile)
    assert (later.exit_code, local_hub.asked) == (0, [])
    assert "Passphrase" not in later.output


def test_a_wrong_passphrase_is_told(
    lifeboat: Run, profile: Path, tokens: HubTokens, address: str, local_hub: Any, passphrase: Path
) -> None:
    """It ends with its own code, before the hub is asked anything."""
    tokens.keep(address, TOKEN)
    passphrase.write_text("battery staple")
    for verb in ("plan", "lock"):
        done = lifeboat(verb, profile, "--passphrase-file", passphrase)
        assert done.exit_code == 17
        assert f"the passphrase does not open {address}.token" in done.stderr
    assert local_hub.asked == []


@pytest.mark.parametrize("variable", ["HF_TOKEN", "HF_TOKEN_PATH"])
def test_the_environment_comes_first(
    lifeboat: Run,
    profile: Path,
    tokens: HubTokens,
    address: str,
    local_hub: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    variable: str,
) -> None:
    """With a token there the keyring is not opened, and an empty file asks as nobody."""
    tokens.keep(address, "hf_of_somebody_else")
    (tmp_path / "token").write_text(TOKEN)
    monkeypatch.setenv(variable, TOKEN if variable == "HF_TOKEN" else str(tmp_path / "token"))
    done = lifeboat("lock", profile)
    assert done.exit_code == 0, done.output
    assert _shown(local_hub) == {f"Bearer {TOKEN}"}
    monkeypatch.delenv(variable)
    monkeypatch.setenv("HF_TOKEN_PATH", "/dev/null")
    local_hub.mend()
    assert lifeboat("lock", profile, "--update").exit_code == 4
    assert _shown(local_hub) == {""}


def test_another_hub_gets_none(lifeboat: Run, profile: Path, tokens: HubTokens, local_hub: Any) -> None:
    """The token of one hub opens none else, be it on another port; nobody is asked for the passphrase then."""
    tokens.keep("127.0.0.1:9", TOKEN)
    tokens.keep("huggingface.co", TOKEN)
    done = lifeboat("lock", profile)
    assert done.exit_code == 4
    assert "lifeboat keys token set" in done.stderr
    assert _shown(local_hub) == {""}


def test_a_file_that_was_renamed_opens_nothing(tokens: HubTokens, home: Path) -> None:
    """Who can write into the keyring cannot have a token sent to another hub; damage is told."""
    tokens.keep("hub.example", TOKEN)
    folder = home / "keyring"
    (folder / "evil.example.token").write_bytes((folder / "hub.example.token").read_bytes())
    with pytest.raises(BadInput, match="holds the token of another hub"):
        tokens.open("evil.example")
    (folder / "hub.example.token").write_bytes(b"age")
    with pytest.raises(BadInput, match="is damaged"):
        HubTokens(Keyring(home, lambda: PASSPHRASE)).open("hub.example")


def test_another_passphrase_is_the_tokens_too(
    lifeboat: Run, tokens: HubTokens, home: Path, passphrase: Path, tmp_path: Path
) -> None:
    """`keys passphrase` leaves no token under the old one."""
    tokens.keep("hub.example", TOKEN)
    (tmp_path / "new").write_text("a longer battery staple")
    words = ("--passphrase-file", passphrase, "--new-passphrase-file", tmp_path / "new", "--json")
    done = json.loads(lifeboat("keys", "passphrase", *words).stdout)
    assert (done["keys"], done["tokens"]) == (["ledger", "refresh", "release", "root"], ["hub.example"])
    assert HubTokens(Keyring(home, lambda: "a longer battery staple")).open("hub.example") == TOKEN
    with pytest.raises(WrongKey):
        HubTokens(Keyring(home, lambda: PASSPHRASE)).open("hub.example")
