"""What `plan` and `build` say of what leaves the building."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from bundler.outgoing import NOTHING, outgoing
from bundler.profile.read import parse_profile

HEAD = """
[bundle]
name = "x"
title = "X"
[[model]]
name = "small"
source = "file:small.gguf"
licence = "MIT"
"""
CLOUDS = """
[[upstream]]
name = "azure"
base_url = "https://box.openai.azure.example/openai"
model = "m"
region = "eu"
[upstream.wire]
[[upstream]]
name = "openai"
base_url = "https://api.openai.example/v1"
model = "m"
region = "us"
proxy = "http://proxy.lan:3128"
"""


def lines_of(text: str) -> tuple[str, ...]:
    return outgoing(parse_profile(tomllib.loads(HEAD + text.replace("[upstream.wire]\n", "")), Path("/p"), "p", {}))


def test_a_box_without_providers_sends_nothing() -> None:
    """Not even where it hands tickets over: those are told for themselves."""
    assert lines_of("") == (NOTHING,)
    told = lines_of('[handoff]\nwebhook = "https://psa.example/t"\n')
    assert told == (NOTHING, "tickets for a person, with the conversation, go to psa.example")


def test_each_provider_is_told_with_who_reaches_it() -> None:
    """Host, region, proxy, and the names that clients ask for; a route's regions leave it out."""
    routes = '[[route]]\nname = "desk"\nrungs = ["azure", "openai", "small"]\nregions = ["eu"]\n'
    told = lines_of(f'{CLOUDS}\n[ladder]\nchat = ["openai", "small", "message"]\nask = ["azure", "message"]\n{routes}')
    assert told == (
        "requests go to azure (box.openai.azure.example, region eu): of desk, /v1/ask, and of who names it",
        "requests go to openai (api.openai.example, region us) through proxy.lan:3128: of auto, and of who names it",
        "nothing is taken out of them before: there is no [[redact]]",
    )


@pytest.mark.parametrize(
    ("regions", "first"),
    [
        ('["eu"]', "requests go to azure"),
        ("[]", NOTHING),
    ],
)
def test_regions_of_the_profile_shut_providers_out(regions: str, first: str) -> None:
    """Those that get nothing are named."""
    told = lines_of(f"{CLOUDS}\n[limits]\nregions = {regions}\n")
    assert told[0].startswith(first)
    shut = "nothing goes to openai (api.openai.example, region us): its region is not in `regions`"
    assert shut in told


def test_what_is_taken_out_is_told() -> None:
    """By the names of the rules, and whether the answer gets it back."""
    rules = '[[redact]]\nkind = "email"\n[[redact]]\nkind = "iban"\nrestore = false\n'
    assert lines_of(CLOUDS + rules)[-1] == "before that is taken out: email (put back into the answer); iban (for good)"
