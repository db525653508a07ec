"""A state folder that is not there is a misspelt one: told, and not made."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from appliance.cli import main

COMMANDS = [
    ("serve", "--port", "0"),
    ("token", "create", "desk"),
    ("token", "list"),
    ("status",),
    ("rollback",),
    ("secret", "set", "KEY", "--file", "{here}/value"),
    ("seal", "show"),
    ("pin", "local", "--for", "1h"),
    ("backup", "{here}/backup.age"),
    ("image", "list"),
]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_no_command_makes_a_state_but_install(tmp_path: Path, words: tuple[str, ...]) -> None:
    """Not ready (6), with both places where the name may be wrong, and the command that begins a state."""
    (tmp_path / "value").write_text("k")
    named = [word.format(here=tmp_path) for word in words]
    done = CliRunner().invoke(main, [*named, "--state", str(tmp_path / "stat"), "--json"], catch_exceptions=False)
    assert done.exit_code == 6, done.output
    told = json.loads(done.stdout)
    assert told["error"] == f"there is no state at {tmp_path}/stat"
    for word in ("--state", "LIFEBOAT_STATE", "install MEDIUM"):
        assert word in told["hint"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["value"]


def test_monitoring_is_told_in_its_own_words(tmp_path: Path) -> None:
    """`check` ends with a plugin's 3, unknown, and makes nothing either."""
    done = CliRunner().invoke(main, ["check", "--state", str(tmp_path / "stat")], catch_exceptions=False)
    assert (done.exit_code, f"there is no state at {tmp_path}/stat" in done.stdout) == (3, True), done.output
    assert not list(tmp_path.iterdir())


def test_install_begins_a_state(tmp_path: Path) -> None:
    """It comes as far as the medium, which holds no repository here."""
    (tmp_path / "usb").mkdir()
    words = ["install", str(tmp_path / "usb"), "--state", str(tmp_path / "state"), "--site", "x"]
    done = CliRunner().invoke(main, words, catch_exceptions=False)
    assert done.exit_code != 0
    assert "there is no state" not in done.output
    assert (tmp_path / "state").is_dir()
