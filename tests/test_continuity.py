"""`docs/continuity.md`: every requirement once, the counts are the tables', and whatever it names exists."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from appliance.app import API, OPEN_PATHS
from appliance.cli import main as appliance
from appliance.edge.metrics import Metrics
from bundler.cli import main as lifeboat

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/continuity.md"
TEXT = PAGE.read_text()
STATES = ("met", "partly", "not yet", "out of scope")
ROWS = {
    int(number): (state, by)
    for number, _, state, by in re.findall(r"^\| R(\d+) \| ([^|]+) \| ([a-z ]+) \| ([^|]*)\|$", TEXT, re.MULTILINE)
}
SPANS = sorted(set(re.findall(r"`([^`]+)`", TEXT)))
PROGRAMS: dict[str, click.Command] = {"lifeboat": lifeboat, "lifeboat-appliance": appliance}


def test_every_requirement_has_one_row() -> None:
    """R1 to R103, each as the first cell of a whole row, and none twice."""
    named = [int(number) for number in re.findall(r"^\| R(\d+) ", TEXT, re.MULTILINE)]
    assert sorted(named) == list(range(1, 104))
    assert sorted(ROWS) == sorted(named), "a row has not four cells"
    assert {state for state, _ in ROWS.values()} == set(STATES)


def test_the_counts_are_those_of_the_tables() -> None:
    """The sentence at the top is what somebody reads first."""
    counts = Counter(state for state, _ in ROWS.values())
    told = re.search(r"Of 103 requirements (\d+) are met, (\d+) partly met, (\d+) not yet met, and (\d+) out of", TEXT)
    assert told is not None
    assert [int(number) for number in told.groups()] == [counts[state] for state in STATES]


@pytest.mark.parametrize("number", sorted(ROWS))
def test_a_row_says_by_what_or_why_not(number: int) -> None:
    """What is met names something that can be looked up, and what is partly met also what is missing."""
    state, by = ROWS[number]
    if state in ("met", "partly"):
        assert "`" in by or "](" in by
    if state == "partly":
        assert len(re.findall(r"\.(?: |$)|; ", by)) >= 1
    if state == "out of scope":
        assert len(by.split()) > 5


@pytest.mark.parametrize("span", [span for span in SPANS if span.split()[0] in PROGRAMS])
def test_every_command_is_there_with_its_options(span: str) -> None:
    """As click knows them."""
    program, *words = span.split()
    command = PROGRAMS[program]
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        word = words.pop(0)
        assert word in command.commands, f"{span}: there is no {word}"
        command = command.commands[word]
    assert not isinstance(command, click.Group), f"{span} is no whole command"
    options = {name for parameter in command.params for name in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= options
    takes = [each for each in command.params if not getattr(each, "is_flag", False)]
    assert takes or all(word.startswith("--") for word in words), f"{span}: it takes no words"


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)]+)\)", TEXT))))
def test_every_page_is_there(link: str) -> None:
    """Relative to the page itself."""
    assert (PAGE.parent / link).is_file()


@pytest.mark.parametrize("span", [span for span in SPANS if span.startswith(("tests/", "scripts/"))])
def test_every_file_is_there(span: str) -> None:
    """Tests and scripts that a row rests on."""
    assert (ROOT / span).is_file()


@pytest.mark.parametrize("span", [span for span in SPANS if span.startswith("[")])
def test_every_key_is_one_of_a_profile(span: str) -> None:
    """In the schema, and a list of tables where it is written as one."""
    found = re.fullmatch(r"(\[\[?)([a-z_.]+)\]?\](?: ([a-z_]+))?", span)
    assert found is not None, f"{span} is no [table] key"
    brackets, table, key = found.groups()
    at: dict[str, Any] = json.loads((ROOT / "profiles/profile.schema.json").read_text())
    for part in table.split("."):
        at = at["properties"][part]
        many = at.get("type") == "array"
        at = at["items"] if many else at
    assert many == (brackets == "[[")
    assert key is None or key in at["properties"]


def _paths() -> Iterator[str]:
    yield from (path for handler in OPEN_PATHS for path in handler.paths)
    yield from (f"/v1{path}" for handler in API for path in handler.paths)


@pytest.mark.parametrize("span", [span for span in SPANS if span.startswith("/")])
def test_every_address_is_answered(span: str) -> None:
    """A word in capitals stands for any value."""
    wanted = re.sub(r"/[A-Z]+$", "/{}", span)
    assert wanted in {re.sub(r"\{[^}]*\}", "{}", path) for path in _paths()}


@pytest.mark.parametrize("span", [span for span in SPANS if re.fullmatch(r"lifeboat_[a-z_]+", span)])
def test_every_metric_is_counted(span: str) -> None:
    """By the name that `/metrics` has, without the `_total` of counters."""
    assert span in {metric.name for metric in Metrics().registry.collect()}


def test_no_name_goes_unchecked() -> None:
    """Of what is left, each is a value, a key beside the table that the span before it names, or an identifier."""
    kinds = (*PROGRAMS, "tests/", "scripts/", "[", "/", "lifeboat_")
    rest = {span for span in SPANS if not span.startswith(kinds)}
    assert (ROOT / "profiles/tiers/gpu-48gb.toml").is_file()
    schema = (ROOT / "profiles/profile.schema.json").read_text()
    values = {"gpu-48gb"}  # a tier
    assert {span for span in rest if f'"{span.strip(chr(34))}"' not in schema} == values
