"""Tokens: made once, stored hashed, scoped, expiring, revoked at once."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from appliance.edge.tokens import TokenStore
from bundler.format import canonical
from bundler.format.errors import BadBundle, BadInput


@pytest.fixture
def store(tmp_path: Path) -> TokenStore:
    return TokenStore(tmp_path / "state" / "tokens.json")


def test_a_token_is_stored_hashed_only(store: TokenStore, tmp_path: Path) -> None:
    """The file does not hold the text, and only its owner may read it."""
    text, token = store.create("Jo's laptop", now_s=100)
    path = tmp_path / "state" / "tokens.json"
    assert text.startswith("lb_")
    assert len(text) == 35
    assert text not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert store.list() == (token,)


def test_a_token_may_do_what_its_scopes_say(store: TokenStore) -> None:
    """And nothing else."""
    text, _ = store.create("rmm", now_s=100, scopes=["monitor"])
    assert store.check(text, "monitor", now_s=200)
    assert not store.check(text, "use", now_s=200)


@pytest.mark.parametrize("text", ["", "lb_", "lb_" + "a" * 32, "\udcff"])
def test_a_wrong_text_is_no_token(store: TokenStore, text: str) -> None:
    """Also bytes that are no UTF-8."""
    store.create("x", now_s=100)
    assert not store.check(text, "use", now_s=100)


def test_a_token_ends(store: TokenStore) -> None:
    """At its expiry exactly."""
    text, _ = store.create("guest", now_s=100, expires_s=200)
    assert store.check(text, "use", now_s=199.9)
    assert not store.check(text, "use", now_s=200)


def test_another_process_s_change_acts_at_once(store: TokenStore, tmp_path: Path) -> None:
    """The command line makes and revokes; the server sees it."""
    command_line = TokenStore(tmp_path / "state" / "tokens.json")
    assert store.list() == ()
    text, token = command_line.create("x", now_s=100)
    assert store.check(text, "use", now_s=100)
    command_line.revoke(token.id)
    assert not store.check(text, "use", now_s=100)


def test_revoking_leaves_the_others(store: TokenStore) -> None:
    """By id; an unknown one is told."""
    _, first = store.create("a", now_s=1)
    _, second = store.create("b", now_s=1)
    assert store.revoke(first.id) == first
    assert store.list() == (second,)
    with pytest.raises(BadInput, match="there is no token"):
        store.revoke(first.id)


@pytest.mark.parametrize(
    "options",
    [{"scopes": ["root"]}, {"scopes": []}, {"expires_s": 50}, {"label": "x" * 101}, {"label": "a\nb"}],
)
def test_a_token_that_makes_no_sense_is_refused(store: TokenStore, options: dict[str, Any]) -> None:
    """Unknown scopes, no scope, an expiry in the past, a label that a terminal could not show."""
    with pytest.raises(BadInput):
        store.create(options.pop("label", "x"), now_s=100, **options)
    assert store.list() == ()


GOOD = {"id": "a", "label": "b", "sha256": "c", "scopes": ["use"], "created": 1, "expires": 0}


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"format": 2, "tokens": []},
        {"format": 1, "tokens": {}},
        {"format": 1, "tokens": [3]},
        {"format": 1, "tokens": [{**GOOD, "more": 1}]},
        {"format": 1, "tokens": [{key: GOOD[key] for key in ("id", "label")}]},
        {"format": 1, "tokens": [{**GOOD, "expires": "never"}]},
        {"format": 1, "tokens": [{**GOOD, "scopes": [1]}]},
    ],
)
def test_a_damaged_file_is_an_error(tmp_path: Path, value: dict[str, Any]) -> None:
    """It is never read as "no tokens" or as "any token"."""
    (tmp_path / "tokens.json").write_bytes(canonical.encode(value))
    with pytest.raises(BadBundle):
        TokenStore(tmp_path / "tokens.json").check("lb_x", "use", now_s=1)


def test_a_file_that_is_not_canonical_is_an_error(tmp_path: Path) -> None:
    """Nobody but this program writes it."""
    (tmp_path / "tokens.json").write_text(json.dumps({"format": 1, "tokens": []}, indent=1))
    with pytest.raises(BadBundle):
        TokenStore(tmp_path / "tokens.json").list()
