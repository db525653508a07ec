"""Hardware tiers: profiles take their models from a file of its own, and errors name that file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bundler.format.errors import BadInput, BadInputs
from bundler.profile.model import Profile
from bundler.profile.read import read_profile

TIER = """
[tier]
name = "small"
title = "Small machine"
memory_gb = 16
needs_mb = 6000
[[model]]
name = "local"
source = "hub:o/r/m.gguf"
licence = "MIT"
[embedding]
name = "embedding"
source = "hub:o/e/"
licence = "MIT"
"""
BUNDLE = '[bundle]\nname = "x"\ntitle = "X"\n'
CHAT = '[ladder]\nchat = ["local", "message"]\n'
Read = Callable[..., Profile]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Writes a profile and the tiers `small` and `large` beside it, and reads the profile."""

    def run(text: str = BUNDLE + 'tier = "tiers/small.toml"\n' + CHAT, tier: str = TIER, chosen: str = "") -> Profile:
        (tmp_path / "tiers").mkdir(exist_ok=True)
        (tmp_path / "tiers/small.toml").write_text(tier)
        (tmp_path / "tiers/large.toml").write_text(TIER.replace("small", "large").replace("m.gguf", "l.gguf"))
        (tmp_path / "p.toml").write_text(text)
        return read_profile(tmp_path / "p.toml", tier=chosen)

    return run


def test_a_tier_brings_its_models_and_embedding(read: Read) -> None:
    """The ladder of the profile names the tier's chat model, and the profile tells its need of memory."""
    profile = read()
    assert [model.source for model in profile.models] == ["hub:o/r/m.gguf"]
    assert profile.embedding is not None
    assert profile.ladder.chat == ("local", "message")
    assert str(profile.tier) == "small (Small machine): the models take about 6,000 MB of 16 GB of memory"


def test_a_command_takes_another_tier(read: Read, tmp_path: Path) -> None:
    """By its name beside the profile's tier, by its path, and where the profile names none beside the profile."""
    assert read(chosen="large").models[0].source == "hub:o/r/l.gguf"
    assert read(chosen=str(tmp_path / "tiers/large.toml")).models[0].source == "hub:o/r/l.gguf"
    assert read(BUNDLE + CHAT, chosen="large").models[0].source == "hub:o/r/l.gguf"


def test_a_profile_may_add_models(read: Read) -> None:
    """A second chat model stands beside the tier's."""
    added = '[[model]]\nname = "other"\nsource = "hub:o/r/o.gguf"\nlicence = "MIT"\n'
    profile = read(BUNDLE + 'tier = "tiers/small.toml"\n' + CHAT + added)
    assert [model.name for model in profile.models] == ["local", "other"]


@pytest.mark.parametrize(
    ("was", "now", "told"),
    [
        ('name = "local"', 'name = "mine"', "no chat [[model]] is named 'local'"),
        ("needs_mb = 6000", "needs_mb = 17180", "needs_mb is 17180, more than the 16 GB"),
        ("memory_gb = 16", "memory_gb = 16\ngpu_memory_gb = 4", "more than the 4 GB"),
        ("memory_gb = 16\n", "", "[tier]: memory_gb is missing"),
        ('"hub:o/e/"', '"file:e/"', "'file:e/' starts at a profile's folder"),
        ("[embedding]", '[ladder]\nbanner = "x"\n[embedding]', "ladder does not belong in a tier"),
        ("[embedding]", "[embedding]\nspeed = 3", "[embedding]: speed is not known"),
        ('title = "Small machine"', "", "[tier]: title is missing"),
        ("[[model]]", "[model]", "model must be written as [[model]]"),
    ],
)
def test_what_is_wrong_in_a_tier_is_told_with_its_file(read: Read, was: str, now: str, told: str) -> None:
    """Each issue begins with the file, since the profile itself is sound."""
    with pytest.raises(BadInputs) as caught:
        read(BUNDLE + 'tier = "tiers/small.toml"\n', TIER.replace(was, now))
    assert any(issue.startswith("tier ") and "small.toml: " in issue and told in issue for issue in caught.value.issues)


def test_a_bundle_has_one_embedding(read: Read) -> None:
    """That of the tier and one of the profile do not go together."""
    with pytest.raises(BadInputs, match="the tier has one"):
        read(BUNDLE + 'tier = "tiers/small.toml"\n[embedding]\nname = "e"\nsource = "file:e/"\nlicence = "MIT"\n')


def test_a_tier_that_is_not_there_is_told(read: Read) -> None:
    """With the path that was looked for."""
    with pytest.raises(BadInput, match=r"there is no tier .*none\.toml"):
        read(chosen="none")
