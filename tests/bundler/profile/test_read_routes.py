"""`[[route]]` of a profile: what is read, and what does not go together."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from bundler.compile_service import compile_service
from bundler.format.errors import BadInputs
from bundler.format.service import OutputSpec, RouteSpec
from bundler.profile.model import Profile
from bundler.profile.read import parse_profile

BASE = """
[bundle]
name = "x"
title = "X"
[[upstream]]
name = "alpha"
base_url = "https://one.example/v1"
model = "gpt"
[[upstream]]
name = "beta"
base_url = "https://ONE.example/v1"
model = "gpt-mini"
[[upstream]]
name = "gamma"
base_url = "https://two.example/v1"
model = "claude"
continues = true
[[model]]
name = "small"
source = "file:m.gguf"
licence = "MIT"
languages = ["en", "de"]
"""


def parse(text: str) -> Profile:
    return parse_profile(tomllib.loads(BASE + text), Path("/p"), "p.toml", {})


def route(**keys: object) -> str:
    """Returns a `[[route]]` in TOML; JSON's texts, numbers and lists are TOML's too."""
    values = {"name": "desk", "rungs": ["alpha", "small"], **keys}
    return "[[route]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())


def issues(text: str) -> str:
    with pytest.raises(BadInputs) as caught:
        parse(text)
    return "\n".join(caught.value.issues)


def test_a_route_says_how_it_is_served() -> None:
    """Everything that is written reaches the box."""
    text = route(stream="hold", criticality="critical", deadline_ms=9000, too_long="drop") + (
        '[route.output]\nschema = { type = "object" }\nlanguages = ["de"]\nrefusals = ["I cannot"]\nown_model = true\n'
    )
    output = OutputSpec('{"type": "object"}', ("de",), ("I cannot",), own_model=True)
    expected = RouteSpec("desk", ("alpha", "small"), "hold", "critical", 9000, "drop", output)
    assert compile_service(parse(text), None).routes == (expected,)


def test_a_route_is_short_by_default() -> None:
    """Name and rungs suffice; what is checked at the end is held until then."""
    assert parse(route()).routes == (RouteSpec("desk", ("alpha", "small")),)
    assert parse(route() + "[route.output]\n").routes[0].stream == "hold"
    assert parse(route(name="auto")).routes[0].name == "auto"
    assert parse(route(name="gpt")).routes[0].name == "gpt"


def test_rungs_declare_what_they_can() -> None:
    """Of upstreams and of models; what is not said stays open."""
    profile = parse(
        '[[upstream]]\nname="u"\nbase_url="https://u.example"\nmodel="m"\ncan=["vision"]\ncontext_tokens=8192'
    )
    last = profile.upstreams[-1]
    assert (last.can, last.context_tokens, last.continues) == (("vision",), 8192, False)
    assert (profile.upstreams[0].can, profile.upstreams[0].context_tokens) == (None, 0)
    assert compile_service(profile, None).models[0].languages == ("en", "de")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (route(name="small"), "name 'small' is a rung's"),
        (route() + route(), "[[route]] 2: name 'desk' is used twice"),
        (route(rungs=[]), "at least one rung"),
        (route(rungs=["alpha", "alpha"]), "each once"),
        (route(rungs=["alpha", "delta"]), "names 'delta', which is not in the profile"),
        (route(rungs=["message", "alpha"]), "'message' before the end"),
        (route(stream="maybe"), "expected one of error, hold, continue"),
        (route(criticality="high"), "expected one of normal, critical, convenience"),
        (route(too_long="cut"), "expected one of larger, drop, decline"),
        (route(deadline_ms=5), "deadline_ms must be a whole number"),
        (route(speed=1), "speed is not known"),
        (route(stream="continue", rungs=["small", "alpha"]), "no rung after the first goes on"),
        (route(stream="error") + "[route.output]\n", "stream must be 'hold', not 'error'"),
        (route() + '[route.output]\nlanguages = ["xx"]\n', "languages names 'xx'"),
        (route() + '[route.output]\nrefusals = [" "]\n', "phrases of 1 to 200"),
        (route() + "[route.output]\nschema = 3\n", "schema must be a table"),
        (route() + '[route.output]\nschema = "{"\n', "schema is text that is not JSON"),
        (route() + "[route.output]\nschema = { const = 1979-05-27 }\n", "schema holds what JSON has no word for"),
        (route() + f'[route.output]\nschema = {{ title = "{"x" * 100_000}" }}\n', "schema is longer"),
        (route() + "[route.output]\nshape = 1\n", "[[route]] 1 output: shape is not known"),
        (route(criticality="critical", rungs=["alpha", "beta", "message"]), "found one.example"),
        (route(criticality="critical", rungs=["message"]), "found none"),
        ('[[upstream]]\nname="u"\nbase_url="https://u"\nmodel="m"\ncan=["fly"]\n', "can names 'fly'"),
    ],
)
def test_each_fault_of_a_route_is_named(text: str, reason: str) -> None:
    """One fault each, with words that say what to change."""
    assert reason in issues(text)


def test_issues_of_all_routes_come_at_once() -> None:
    """The operator gets the full list, each with the number of its table."""
    found = issues(route(stream="x", rungs=["nobody"]) + route(name="two", criticality="critical", rungs=["alpha"]))
    assert found.count("[[route]] 1") == 2
    assert "[[route]] 2: a critical route needs two rungs that do not fail together, found one.example" in found


@pytest.mark.parametrize("rungs", [["alpha", "gamma"], ["alpha", "small"], ["beta", "small", "message"]])
def test_a_critical_route_of_two_independent_rungs_is_taken(rungs: list[str]) -> None:
    """Two hosts, or a host and the box."""
    assert parse(route(criticality="critical", rungs=rungs)).routes[0].rungs == tuple(rungs)


def test_an_upstream_that_goes_on_suffices_for_continue() -> None:
    """Where it says so of itself."""
    assert parse(route(stream="continue", rungs=["alpha", "gamma"])).routes[0].stream == "continue"


def test_an_upstream_of_anthropic_s_wire_goes_on_with_no_answer() -> None:
    """The kind is read, a strange one refused, and `continues` does not go with it."""
    text = '[[upstream]]\nname = "c"\nbase_url = "https://c.example/v1"\nmodel = "m"\n'
    assert parse(text + 'kind = "anthropic"\n').upstreams[-1].kind == "anthropic"
    for wrong, issue in (('kind = "telex"', "kind is 'telex'"), ('kind = "anthropic"\ncontinues = true', "continues")):
        with pytest.raises(BadInputs, match=issue):
            parse(f"{text}{wrong}\n")


def test_the_wire_of_an_upstream_is_read(tmp_path: Path) -> None:
    """What goes with every request is taken as written, and an authority's file goes in whole."""
    (tmp_path / "own.pem").write_text("no certificate")
    text = '[[upstream]]\nname = "c"\nbase_url = "https://c.example/v1"\nmodel = "m"\n'
    good = 'auth = "api-key"\nquery = {v = "1"}\nheaders = {X-A = "b"}\nbody = {top_p = 1}\n'
    good += 'proxy = "http://p:3128"\nca = "S"\n'
    wire = parse(text + good).upstreams[-1].wire
    assert (wire.auth, wire.body, wire.proxy, wire.ca) == ("api-key", '{"top_p": 1}', "http://p:3128", "S")
    assert [(pair.name, pair.value) for pair in (*wire.query, *wire.headers)] == [("v", "1"), ("X-A", "b")]
    wrong = [
        'auth = "digest"',
        'headers = {Authorization = "x"}',
        'headers = {X-Lifeboat-Via = "x"}',
        'headers = {X-A = "a\\nb"}',
        "body = {messages = []}",
        'without = ["model"]',
        'proxy = "https://p:1"',
        'proxy = "http://u:p@p:1"',
        'ca = "file:own.pem"',
        'ca = "file:gone.pem"',
    ]
    for line in wrong:
        with pytest.raises(BadInputs, match=line.split(" ")[0]):
            parse_profile(tomllib.loads(f"{BASE}{text}{line}\n"), tmp_path, "p.toml", {})


def test_redaction_and_regions_are_read() -> None:
    """Rules have their kind as name where they say none; a pattern is checked; an empty list of regions is said."""
    text = '[limits]\nregions = []\n[[redact]]\nkind = "iban"\n'
    text += '[[redact]]\nkind = "pattern"\nname = "t"\npattern = "INC[0-9]{6}"\n'
    profile = parse(text + 'restore = false\n[[route]]\nname = "r"\nrungs = ["alpha"]\nregions = ["eu"]\n')
    assert [(rule.name, rule.kind, rule.restore) for rule in profile.redact] == [
        ("iban", "iban", True),
        ("t", "pattern", False),
    ]
    assert (profile.limits.regions, profile.routes[0].regions) == ((), ("eu",))
    for wrong in (
        'kind = "name"',
        'kind = "pattern"',
        'kind = "pattern"\npattern = "a+"',
        'kind = "ip"\npattern = "x"',
    ):
        with pytest.raises(BadInputs):
            parse(f"[[redact]]\n{wrong}\n")
