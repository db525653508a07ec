"""A split model of a hub: all parts are fetched, merged, and pinned one by one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bundler.format.errors import BadInput, SourceFailed
from bundler.lock import Pin, PinnedPart
from bundler.sources.place import Place
from bundler.sources.source import Fetched

Pull = Callable[..., Fetched]


@pytest.fixture
def parts(load_script: Callable[[str], Any], smollm_gguf: Path, local_hub: Any) -> dict[str, bytes]:
    """The demo's chat model in three parts, in a folder of a repository."""
    made = load_script("split_gguf").split(smollm_gguf, "Q4/smollm", 3)
    local_hub.add("org/split", {**made, "Q8/smollm.gguf": b"another"})
    return dict(made)


def test_a_glob_brings_the_whole_model(
    pull: Pull, place: Place, local_hub: Any, parts: dict[str, bytes], smollm_gguf: Path
) -> None:
    """The merged file is the model that was split; the parts are what the lock pins."""
    source = "hub:org/split/Q4/*.gguf"
    found = pull(source)
    assert found.sha256 == hashlib.sha256(smollm_gguf.read_bytes()).hexdigest()
    assert [(part.path, part.sha256) for part in found.parts] == [
        (name, hashlib.sha256(data).hexdigest()) for name, data in parts.items()
    ]
    remote = tuple(PinnedPart(part.path, part.length_bytes, part.sha256) for part in found.parts)
    pin = Pin(found.length_bytes, found.sha256, found.resolved, remote)
    later = replace(place, pins={source: pin}, offline=True)
    assert pull(source, later) == found
    wrong = replace(pin, parts=(replace(remote[0], sha256="0" * 64), *remote[1:]))
    with pytest.raises(SourceFailed, match="is not what the lock pins"):
        pull(source, replace(place, pins={source: wrong}))


def test_parts_of_two_models_are_refused(pull: Pull, parts: dict[str, bytes], local_hub: Any) -> None:
    """Right names and digests do not make a model: the parts themselves must say that they belong together."""
    names = list(parts)
    local_hub.add("org/mixed", dict(zip(names, [parts[names[0]], parts[names[2]], parts[names[1]]], strict=True)))
    with pytest.raises(BadInput, match="part 2 of 3 says that it is part 3 of 3"):
        pull("hub:org/mixed/Q4/*.gguf")
