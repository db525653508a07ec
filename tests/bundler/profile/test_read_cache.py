"""`[route.cache]`, `[ladder.cache]` and `jobs` of a profile: what is read, and what does not go together."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from bundler.compile_service import compile_service
from bundler.format.errors import BadBundle, BadInputs
from bundler.format.record import from_json, to_json
from bundler.format.service import CacheSpec, LadderSpec, RouteSpec, RungSpec
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
[[model]]
name = "small"
source = "file:m.gguf"
licence = "MIT"
"""
ROUTE = """
[[route]]
name = "desk"
rungs = [{rungs}]
"""


def parse(text: str) -> Profile:
    return parse_profile(tomllib.loads(BASE + text), Path("/p"), "p.toml", {})


def route(*rungs: str) -> str:
    return ROUTE.format(rungs=", ".join(f'"{rung}"' for rung in rungs))


def test_a_route_with_a_cache_is_read_and_travels() -> None:
    """Its times, and the rung, which is in the ladder of no other profile."""
    profile = parse(route("alpha", "cache", "message") + '[route.cache]\nkeep = "2h"\nfresh = "10m"\n')
    assert profile.routes[0].cache == CacheSpec(7_200, 600)
    assert RungSpec("cache", "cache", "") in profile.ladder.rungs
    assert profile.ladder.chat == ("alpha", "small", "message")
    written = to_json(profile.routes[0])
    assert written["cache"] == {"keep_s": 7_200, "fresh_s": 600}
    assert from_json(RouteSpec, written, "route") == profile.routes[0]


def test_the_chat_ladder_has_one_of_its_own() -> None:
    """Without an order of its own it stands after the models; what is not said is a week, and never first."""
    profile = parse("[ladder.cache]\n")
    assert profile.ladder.cache == CacheSpec(7 * 86_400)
    assert profile.ladder.chat == ("alpha", "small", "cache", "message")
    assert to_json(profile.ladder)["cache"] == {"keep_s": 604_800}
    assert from_json(LadderSpec, to_json(profile.ladder), "ladder") == profile.ladder


def test_a_profile_without_one_is_as_before() -> None:
    """So that older boxes take its bundle."""
    ladder = parse("").ladder
    assert "cache" not in to_json(ladder)
    assert "cache" not in {rung.kind for rung in ladder.rungs}
    with pytest.raises(BadBundle, match="default"):
        from_json(LadderSpec, to_json(ladder) | {"cache": None}, "ladder")


@pytest.mark.parametrize(
    ("text", "issue"),
    [
        (route("alpha", "cache"), "names 'cache', which is not in the profile"),
        (route("alpha", "cache") + "[ladder.cache]\n", "names 'cache', and no cache table"),
        (route("alpha", "small") + "[route.cache]\n", "has a cache that is never asked"),
        (route("small", "cache") + "[route.cache]\n", "only answers of providers are kept"),
        (route("cache", "alpha") + "[route.cache]\n", "before any upstream"),
        (route("alpha", "cache") + '[route.cache]\nkeep = "31d"\n', "keep must be a time from 1m to 30d"),
        (route("alpha", "cache") + '[route.cache]\nkeep = "1h"\nfresh = "2h"\n', "fresh must be a time from 0d to 1h"),
        (route("alpha", "cache") + "[route.cache]\nfor = 1\n", "for is not known"),
        ('[ladder]\nask = ["cache", "message"]\n[ladder.cache]\n', "ask names 'cache'"),
        ('[ladder]\nchat = ["alpha", "cache"]\n[ladder.cache]\n', "must list each rung once and end with 'message'"),
        ("[ladder]\ncache = 1\n", "must be a table"),
        ("[ladder.cache]\n[[faq]]\nname = 'cache'\nsource = 'file:f'\n", "the name 'cache' is used twice"),
    ],
)
def test_what_does_not_go_together_is_told(text: str, issue: str) -> None:
    """A cache that is never asked, asked first, without a time, or of nobody's answers."""
    with pytest.raises(BadInputs) as caught:
        parse(text)
    assert issue in "\n".join(caught.value.issues)


def test_a_route_may_give_fresh_answers_without_the_rung() -> None:
    """Then nothing old is given where the others fail."""
    profile = parse(route("alpha", "small") + '[route.cache]\nfresh = "1m"\n')
    assert compile_service(profile, None).routes[0].cache == CacheSpec(7 * 86_400, 60)


def test_jobs_are_taken_where_a_route_says_for_how_long() -> None:
    """Of a route, and of the chat ladder; a profile that says nothing is as before."""
    profile = parse('[ladder]\njobs = "2h"\n' + route("alpha") + 'jobs = "10m"\n')
    assert (profile.ladder.jobs_keep_s, profile.routes[0].jobs_keep_s) == (7_200, 600)
    assert "jobs_keep_s" not in to_json(parse("").ladder)
    with pytest.raises(BadInputs, match="jobs must be a time from 1m to 30d"):
        parse(route("alpha") + 'jobs = "31d"\n')
