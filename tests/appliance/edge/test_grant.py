"""Limits of tokens: where from, what for, how often; and a new text with time to hand it out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.edge.grant import Grant, after_request, checked, comes_from, verb_of
from appliance.edge.tokens import TokenStore
from bundler.format.errors import BadBundle, BadInput


@pytest.fixture
def store(tmp_path: Path) -> TokenStore:
    return TokenStore(tmp_path / "tokens.json")


@pytest.mark.parametrize(
    ("address", "allowed"),
    [("10.1.2.3", True), ("10.2.0.1", False), ("::ffff:10.1.2.3", True), ("fd00::7", True), ("fe80::1%eth0", False)],
)
def test_an_address_is_in_a_network_or_refused(address: str, allowed: bool) -> None:
    """Addresses of IPv4 that come by an IPv6 socket count as what they are; what is no address is in none."""
    assert comes_from(address, ("10.1.0.0/16", "fd00::/8")) == allowed
    assert comes_from(address, ())
    assert not comes_from("", ("10.1.0.0/16",))
    assert not comes_from("10.1.2.3.example", ("10.1.0.0/16",))


@settings(deadline=None)
@given(st.integers(1, 600), st.lists(st.floats(0, 30), max_size=100))
def test_no_minute_holds_more_than_twice_a_limit(a_minute: int, gaps: list[float]) -> None:
    """A bucket of a minute's size that fills evenly: its size at once, and then as it fills."""
    now_s, full_s, taken = 1_000.0, 0.0, []
    for gap in gaps:
        now_s += gap
        full_s, wait_s = after_request(full_s, now_s, a_minute)
        assert 0 <= wait_s <= 60
        if not wait_s:
            taken.append(now_s)
    for start in taken:
        assert len([at for at in taken if start <= at < start + 60]) <= 2 * a_minute


@pytest.mark.parametrize(
    ("path", "verb"),
    [("/v1/chat/completions", "chat"), ("/v1/chat/completions/r-1", "chat"), ("/v1/ask", "ask"), ("/metrics", "")],
)
def test_a_path_has_a_verb(path: str, verb: str) -> None:
    """The part behind `/v1`; other paths have none."""
    assert verb_of(path) == verb


@pytest.mark.parametrize(
    "grant",
    [
        Grant(verbs=("chatt",)),
        Grant(networks=("10.1.2.3/16",)),
        Grant(networks=("lan",)),
        Grant(models=("",)),
        Grant(models=("a\nb",)),
        Grant(models=tuple(map(str, range(101)))),
        Grant(requests_a_minute=-1),
        Grant(tokens_a_day=-1),
        Grant(regions=("",)),
    ],
)
def test_limits_that_cannot_be_are_refused(store: TokenStore, grant: Grant) -> None:
    """Nothing is stored."""
    with pytest.raises(BadInput):
        store.create("x", now_s=1, grant=grant)
    assert store.list() == ()


def test_limits_are_kept_and_a_token_without_any_is_stored_as_before(store: TokenStore, tmp_path: Path) -> None:
    """A program of before reads the file as long as nothing new is used."""
    _, plain = store.create("plain", now_s=1)
    record = json.loads((tmp_path / "tokens.json").read_text())["tokens"][0]
    assert set(record) == {"id", "label", "sha256", "scopes", "created", "expires"}
    grant = checked(Grant(("chat", "ask"), ("auto",), ("10.0.0.0/8",), 30))
    _, limited = store.create("limited", now_s=1, grant=grant)
    assert TokenStore(tmp_path / "tokens.json").list() == (plain, limited)
    assert limited.grant.verbs == ("ask", "chat")


def test_a_limit_that_is_not_known_lets_nobody_in(store: TokenStore, tmp_path: Path) -> None:
    """A file of a later program is not read as one without limits."""
    text, _ = store.create("x", now_s=1)
    path = tmp_path / "tokens.json"
    path.write_text(path.read_text().replace('"id"', '"curfew":1,"id"'))
    with pytest.raises(BadBundle):
        TokenStore(path).check(text, "use", now_s=2)


def test_a_rotated_token_has_two_texts_for_a_while(store: TokenStore) -> None:
    """Its id stays, so what is its tenant's stays; the text of before ends with the grace."""
    old, made = store.create("desk", now_s=100, expires_s=10_000)
    new, rotated = store.rotate("desk", now_s=200, grace_s=60)
    assert rotated.id == made.id
    assert [store.check(text, "use", now_s=259) for text in (old, new)] == [True, True]
    assert [store.check(text, "use", now_s=260) for text in (old, new)] == [False, True]
    assert not store.check(new, "use", now_s=10_000)
    assert not store.check("", "use", now_s=259)


def test_no_grace_ends_the_old_text_at_once(store: TokenStore) -> None:
    """A token that leaked is replaced, and another rotation ends the text of the first."""
    first, made = store.create("desk", now_s=100)
    second, _ = store.rotate(made.id, now_s=200, grace_s=0)
    assert [store.check(text, "use", now_s=201) for text in (first, second)] == [False, True]
    third, _ = store.rotate(made.id, now_s=300, grace_s=60, expires_s=9_000)
    assert [store.check(text, "use", now_s=301) for text in (first, second, third)] == [False, True, True]


def test_rotation_names_one_token(store: TokenStore) -> None:
    """None, or two of one label, are told."""
    store.create("a", now_s=1), store.create("a", now_s=1)
    for name in ("a", "b"):
        with pytest.raises(BadInput, match=name):
            store.rotate(name, now_s=2, grace_s=0)
