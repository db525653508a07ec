"""`[[image]]`: what is wrong with one is noted beside everything else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bundler.format.errors import BadInputs
from bundler.profile.model import ImageEntry
from bundler.profile.read import parse_profile

SOURCE = "registry:registry.example/team/sink:1"
UPSTREAM = {"name": "cloud", "base_url": "https://cloud.example/v1", "model": "m"}


def _read(*images: dict[str, Any]) -> tuple[ImageEntry, ...]:
    bundle = {"name": "x", "title": "X"}
    return parse_profile({"bundle": bundle, "upstream": [UPSTREAM], "image": list(images)}, Path(), "it", {}).images


def test_an_image_needs_a_name_and_a_source() -> None:
    """The platform is the same on every builder; a licence may be unknown."""
    assert _read({"name": "sink", "source": SOURCE}) == (ImageEntry("sink", SOURCE, "linux/amd64", ""),)
    assert _read({"name": "sink", "source": SOURCE, "platform": "all"})[0].platform == "all"


@pytest.mark.parametrize(
    ("images", "told"),
    [
        ([{"name": "sink", "source": "file:image.tar"}], "is no image"),
        ([{"name": "sink", "source": f"{SOURCE}/model.gguf"}], "is no image"),
        ([{"name": "sink", "source": "registry:registry.example/team/sink"}], "neither tag nor digest"),
        ([{"name": "sink", "source": "team/sink"}], "is not a source"),
        ([{"name": "a__b", "source": SOURCE}], "no name of an image"),
        ([{"name": "sink", "source": SOURCE, "platform": "amd64"}], "platform is 'amd64'"),
        ([{"name": "sink", "source": SOURCE}, {"name": "sink", "source": f"{SOURCE}2"}], "is used twice"),
        ([{"name": "one", "source": SOURCE}, {"name": "two", "source": SOURCE}], "is named twice"),
        ([{"name": "sink", "source": SOURCE, "run": True}], "run is not known"),
        ([{"name": "Sink", "source": SOURCE}], "lower-case letters"),
        ([{"name": "sink", "source": "registry:team/sink:1"}], "team is no host"),
    ],
)
def test_what_is_wrong_with_an_image_is_named(images: list[dict[str, Any]], told: str) -> None:
    """One mistake a profile."""
    with pytest.raises(BadInputs, match=told):
        _read(*images)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("docker.io/library/sink:1", "docker.io/sink:1"),
        ("docker.io/sink:1", "index.docker.io/library/sink:1"),
        ("registry-1.docker.io/team/sink:1", "Docker.io/team/sink:1"),
        ("registry.example/sink:1", "Registry.Example/sink:1"),
        (f"registry.example/sink:1@sha256:{'a' * 64}", f"registry.example/sink@sha256:{'a' * 64}"),
    ],
)
def test_one_image_under_two_spellings_is_named_twice(one: str, other: str) -> None:
    """The names that Docker Hub goes by, the case of a host, and a tag beside a digest make no other image."""
    entries = [{"name": name, "source": f"registry:{text}"} for name, text in (("one", one), ("two", other))]
    with pytest.raises(BadInputs, match="is named twice"):
        _read(*entries)
    assert len(_read(entries[0], {"name": "two", "source": entries[1]["source"].replace("sink", "tap")})) == 2
