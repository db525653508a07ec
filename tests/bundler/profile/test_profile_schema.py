"""The JSON schemas for editors: they are what the reader asks for, and refuse what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # its stubs are not installed

from bundler.format.errors import BadInputs
from bundler.profile.read import parse_profile

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "profiles"
SHIPPED = sorted([*FOLDER.glob("*.toml"), *FOLDER.glob("templates/*.toml")])
TIERS = sorted(FOLDER.glob("tiers/*.toml"))


def validator(name: str) -> Draft202012Validator:
    schema = json.loads((FOLDER / f"{name}.schema.json").read_text())
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def helpdesk() -> dict[str, Any]:
    return tomllib.loads((FOLDER / "msp-helpdesk.toml").read_text())


def test_the_schemas_are_current() -> None:
    """Whoever adds a key to the reader makes them anew: `scripts/make_schema`."""
    done = subprocess.run([sys.executable, ROOT / "scripts/make_schema", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}run scripts/make_schema"


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_profile_is_of_the_schema(path: Path) -> None:
    """Each names the schema in its first line where it is no older than it."""
    text = path.read_text()
    assert [error.message for error in validator("profile").iter_errors(tomllib.loads(text))] == []
    assert path.stem == "demo" or text.startswith("#:schema profile.schema.json\n")


@pytest.mark.parametrize("path", TIERS, ids=lambda path: path.stem)
def test_every_shipped_tier_is_of_the_schema(path: Path) -> None:
    """Tiers have one of their own, one folder up."""
    text = path.read_text()
    assert [error.message for error in validator("tier").iter_errors(tomllib.loads(text))] == []
    assert text.startswith("#:schema ../tier.schema.json\n")


def test_the_schema_knows_every_table_of_the_guide() -> None:
    """A table that docs/profile.md lists is in the schema, so the walk has not lost one."""
    schema = json.loads((FOLDER / "profile.schema.json").read_text())["properties"]
    wanted = {"bundle", "model", "embedding", "documents", "faq", "router", "upstream", "redact", "ladder", "route"}
    assert wanted | {"handoff", "limits", "selftest", "service"} <= set(schema)
    assert set(schema["route"]["items"]["properties"]["output"]["properties"]) == {
        "schema", "languages", "refusals", "own_model",
    }  # fmt: skip
    assert schema["bundle"]["required"] == ["name", "title"]


@pytest.mark.parametrize(
    ("where", "key", "value"),
    [
        (("bundle",), "titel", "x"),
        (("bundle",), "name", "Not A Name"),
        (("bundle",), "recovery", "no"),
        (("upstream", 0), "kind", "azure"),
        (("upstream", 0), "connect_timeout_ms", 1),
        (("upstream", 0), "url", "https://cloud.example.com"),
        (("route", 0), "stream", "stitch"),
        (("route", 0), "rungs", "local"),
        (("route", 0), "criticality", "urgent"),
        (("route", 0), "deadline_ms", "20s"),
        (("redact", 0), "kind", "name"),
        (("selftest",), "faq_percent", 101),
        (("selftest",), "cases", "file:x.jsonl"),
        (("limits",), "queue_requests", 0),
        (("handoff",), "keep", 30),
        (("ladder",), "chats", []),
        (("service", 0), "criticality", "high"),
        ((), "upstreams", []),
    ],
)
def test_a_mistake_is_refused_by_both(where: tuple[str | int, ...], key: str, value: object) -> None:
    """What an editor marks is what `plan` refuses."""
    values = deepcopy(helpdesk())
    table: Any = values
    for step in where:
        table = table[step]
    table[key] = value
    assert list(validator("profile").iter_errors(values))
    with pytest.raises(BadInputs, match=key):
        parse_profile(values, FOLDER, "p.toml", {})


@pytest.mark.parametrize("key", ["name", "title"])
def test_what_lacks_is_told_by_both(key: str) -> None:
    """A key that must be there is required in the schema, too."""
    values = helpdesk()
    del values["bundle"][key]
    assert list(validator("profile").iter_errors(values))
    with pytest.raises(BadInputs, match=f"{key} is missing"):
        parse_profile(values, FOLDER, "p.toml", {})
