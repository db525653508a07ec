"""Bundles of every format version ever released stay readable, by our reader and by the recipe of the specification."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from bundler.format.bundle import check_chunks, open_bundle
from bundler.format.site import open_enrolment, open_keys, open_settings
from bundler.format.trust.descriptors import newest_descriptor, read_descriptors
from bundler.format.trust.medium import find_root, load_repository
from bundler.inspection import leftovers

RELEASES = sorted((Path(__file__).parent.parent / "releases").iterdir())
SPEC = Path(__file__).parent.parent.parent / "bundler" / "format" / "SPEC.md"


def expected(release: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((release / "expected.json").read_text())
    return value


@pytest.mark.parametrize("release", RELEASES, ids=lambda path: path.name)
def test_a_released_bundle_is_read(release: Path) -> None:
    """From the site code alone, as a box does: root, metadata, keys, every chunk of every bundle, every asset."""
    facts, folder = expected(release), release / "repository"
    site = folder / "sites" / "sample"
    enrolment = open_enrolment((site / "enroll.age").read_bytes(), facts["site_code"])
    assert enrolment.root_sha256 == facts["root_sha256"]
    trusted = load_repository(
        folder,
        root=find_root(folder, enrolment.root_sha256),
        repository=enrolment.repository,
        now=datetime.fromisoformat(facts["made"]),
        remembered=None,
    )
    keys = open_keys((site / "keys.age").read_bytes(), enrolment.identity)
    assert open_settings((site / "settings.age").read_bytes(), enrolment.identity).values == {}
    for descriptor in read_descriptors(folder, trusted):
        with open_bundle(folder, descriptor, keys) as bundle:
            assert check_chunks(bundle, lambda _: None) > 0
    newest = newest_descriptor(folder, trusted)
    assert newest is not None
    with open_bundle(folder, newest, keys) as bundle:
        found = {asset.path: hashlib.sha256(bundle.read(asset.path)).hexdigest() for asset in bundle.index.assets}
    assert found == facts["newest"]
    assert leftovers(folder, trusted) == []


def test_the_worked_example_is_the_sample() -> None:
    """The bytes that the specification shows are those of the released sample."""
    text = SPEC.read_text()
    folder, facts = RELEASES[0] / "repository", expected(RELEASES[0])
    descriptor = max(folder.glob("bundles/*")) / "bundle.json"
    site = folder / "sites" / "sample"
    identity = open_enrolment((site / "enroll.age").read_bytes(), facts["site_code"]).identity
    keys = open_keys((site / "keys.age").read_bytes(), identity)
    trusted = load_repository(
        folder,
        root=find_root(folder, facts["root_sha256"]),
        repository=None,
        now=datetime.fromisoformat(facts["made"]),
        remembered=None,
    )
    newest = newest_descriptor(folder, trusted)
    assert newest is not None
    with open_bundle(folder, newest, keys) as bundle:
        chunks = bundle.index.asset("models/tiny.gguf").chunks
    assert len(chunks) == 4
    assert len(set(chunks)) == 1
    assert descriptor.read_text()[:160] in text
    chunk = chunks[0]
    shown = f'{{"length":{chunk.length},"offset":{chunk.offset},"sha256":"{chunk.sha256}","volume":{chunk.volume}}}'
    assert shown in text
