"""`token` and `pin` at the command line: what is made, what is listed, and what bad input says with which exit code."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from appliance.cli import main
from appliance.edge.tokens import TokenStore

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs a command on a state of its own."""
    (tmp_path / "state").mkdir()

    def command(*words: str) -> Result:
        return CliRunner().invoke(main, [*words, "--state", str(tmp_path / "state")], catch_exceptions=False)

    return command


@pytest.fixture
def store(tmp_path: Path) -> TokenStore:
    return TokenStore(tmp_path / "state" / "tokens.json")


@pytest.fixture
def pins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a pin is kept of a box whose version has one provider."""
    (tmp_path / "state").mkdir(exist_ok=True)
    monkeypatch.setattr("appliance.host.pin._providers", lambda _layout: ("azure",))
    return tmp_path / "state" / "pin.json"


def made(run: Run, *words: str) -> dict[str, Any]:
    done = run("token", *words, "--json")
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_token_with_every_limit(run: Run, store: TokenStore) -> None:
    """Each option is stored, sorted and once; `token list` shows them all, in words and in JSON, and no text."""
    words = ["--verb", "chat", "--verb", "ask", "--verb", "chat", "--model", "desk", "--network", "10.1.0.0/16"]
    words += ["--per-minute", "1200", "--tokens-per-day", "50000", "--region", "eu", "--region", "ch", "--days", "7"]
    token = made(run, "create", "front desk", *words)
    grant = {"verbs": ["ask", "chat"], "models": ["desk"], "networks": ["10.1.0.0/16"], "requests_a_minute": 1200}
    listed = made(run, "list")["tokens"]
    assert listed[0]["grant"] == {**grant, "regions": ["ch", "eu"], "tokens_a_day": 50_000}
    assert listed[0]["used_today"] == 0
    assert 6 * 86_400 < listed[0]["expires"] - time.time() <= 7 * 86_400
    shown = run("token", "list").stdout
    limits = "verbs ask, chat; models desk; networks 10.1.0.0/16; 1,200 requests a minute"
    limits += "; 50,000 tokens a day; regions ch, eu; 0 used today"
    assert limits in shown
    assert token["token"] not in shown
    assert store.check(token["token"], "use", now_s=time.time())


def test_a_token_that_only_watches(run: Run, store: TokenStore) -> None:
    """What a monitoring system holds cannot ask."""
    token = made(run, "create", "monitoring", "--scope", "monitor")["token"]
    assert store.check(token, "monitor", now_s=time.time())
    assert not store.check(token, "use", now_s=time.time())


def test_a_token_for_this_box_alone(run: Run) -> None:
    """`--no-cloud` is no region at all; a token without limits lists none."""
    made(run, "create", "ward", "--no-cloud")
    made(run, "create", "plain")
    ward, plain = run("token", "list").stdout.splitlines()
    assert ward.endswith("  no cloud")
    assert "ends 20" in plain.split("  ")[-1]
    assert [token["grant"].get("regions") for token in made(run, "list")["tokens"]] == [[], None]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("create", "x", "--verb", "chatt"), 3, "there is no verb chatt"),
        (("create", "x", "--scope", "watch"), 3, "a token has no scope watch"),
        (("create", "x", "--network", "10.1.2.3/16"), 3, "'10.1.2.3/16' is no network"),
        (("create", "x", "--network", "lan"), 3, "'lan' is no network"),
        (("create", "x", "--model", ""), 3, "a model's name has 1 to 200 printable characters"),
        (("create", "x", "--region", ""), 3, "a region has 1 to 200 printable characters"),
        (("create", "x", "--region", " eu"), 3, "a region has 1 to 200 printable characters"),
        (("create", "x", "--no-cloud", "--region", "eu"), 3, "do not go together"),
        (("create", "x", "--per-minute", "1000001"), 3, "may ask 1 to 1,000,000 times a minute"),
        (("create", "x", "--per-minute", "-1"), 2, "-1 is not in the range x>=0"),
        (("create", "x", "--tokens-per-day", "1000000000001"), 3, "may use 1 to 1,000,000,000,000 model tokens a day"),
        (("create", "x", "--tokens-per-day", "many"), 2, "'many' is not a valid integer range"),
        (("create", "x", "--days", "0"), 2, "0 is not in the range"),
        (("create", "x\ny"), 3, "a token's label has at most 100 printable characters"),
        (("create",), 2, "Missing argument 'NAME'"),
        (("rotate", "nobody"), 3, "no tokens are called nobody"),
        (("rotate", "nobody", "--grace", "8761"), 2, "is not in the range"),
        (("rotate", "nobody", "--grace", "soon"), 2, "'soon' is not a valid integer range"),
        (("revoke", "nobody"), 3, "there is no token nobody"),
    ],
)
def test_bad_input_is_told(run: Run, store: TokenStore, words: tuple[str, ...], code: int, said: str) -> None:
    """With its exit code, what is wrong, and nothing stored."""
    done = run("token", *words)
    assert (done.exit_code, said in done.stderr) == (code, True), done.stderr
    assert store.list() == ()


def test_rotation_at_the_command_line(run: Run, store: TokenStore) -> None:
    """The limits stay; the old text works for its hours, which the list tells, and with 0 not at all."""
    first = made(run, "create", "desk", "--no-cloud")
    second = made(run, "rotate", "desk", "--grace", "2")
    assert second["id"] == first["id"]
    assert 7_100 < second["grace_until"] - time.time() <= 7_200
    assert "no cloud; the text of before ends 20" in run("token", "list").stdout
    assert store.list()[0].grant.regions == ()
    third = made(run, "rotate", first["id"], "--grace", "0", "--days", "1")
    now_s = time.time()
    assert [store.check(each["token"], "use", now_s=now_s) for each in (first, second, third)] == [False, False, True]
    assert third["expires"] - now_s <= 86_400
    made(run, "create", "desk")
    done = run("token", "rotate", "desk")
    assert (done.exit_code, "2 tokens are called desk" in done.stderr) == (3, True)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("nowhere!", "--for", "1h"), 3),
        (("local",), 3),
        (("local", "--for", "8d"), 3),
        (("local", "--for", "soon"), 3),
        (("local", "--for", "0m"), 3),
        (("local", "--for", "-1h"), 3),
        (("auto", "--for", "1h"), 3),
        ((), 2),
    ],
)
def test_pins_that_cannot_be(run: Run, pins: Path, words: tuple[str, ...], code: int) -> None:
    """A target that is none, no time, one that is too long or none; nothing is pinned."""
    done = run("pin", *words)
    assert done.exit_code == code, done.output
    assert not pins.exists()


def test_a_pin_is_set_and_ended(run: Run, pins: Path) -> None:
    """What holds is printed, and written for the box that serves."""
    done = run("pin", "azure", "--for", "2h")
    assert (done.exit_code, done.stdout[:22]) == (0, "pinned to azure until ")
    assert json.loads(pins.read_text())["for_s"] == 7_200
    assert run("pin", "auto").stdout == "not pinned\n"


def test_a_box_that_is_not_enrolled_has_nothing_to_pin(run: Run) -> None:
    """Exit code 6, as wherever nothing is installed."""
    assert run("pin", "local", "--for", "1h").exit_code == 6
