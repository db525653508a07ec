"""Manifests and indexes of registries: read strictly, whatever they hold, and one image chosen of many."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundler.format.errors import BadBundle
from bundler.format.image import ImageSpec, check_images
from bundler.format.oci import MANIFEST_BYTES, choose, fits, machine_platform, platform_of, read_manifest

DIGEST = "sha256:" + "ab" * 32
OCI, LIST = "application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.index.v1+json"
BLOB = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": DIGEST, "size": 3}
MANIFEST = {"schemaVersion": 2, "mediaType": OCI, "config": BLOB, "layers": [BLOB]}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
KEYS = ("mediaType", "config", "layers", "manifests", "subject", "artifactType", "digest", "size", "annotations")


def _index(*platforms: str) -> bytes:
    children = []
    for number, platform in enumerate(platforms):
        words = dict(zip(("os", "architecture", "variant"), platform.split("/"), strict=False))
        children.append({**BLOB, "mediaType": OCI, "digest": f"sha256:{number:064x}", "platform": words})
    return json.dumps({"mediaType": LIST, "manifests": children}).encode()


def _changed(**fields: Any) -> bytes:
    return json.dumps({**MANIFEST, **fields}).encode()


@given(st.dictionaries(st.sampled_from(KEYS), JSON | st.just(BLOB) | st.just([BLOB]) | st.sampled_from([OCI, LIST])))
def test_whatever_an_object_holds_it_is_read_or_refused(value: dict[str, Any]) -> None:
    """A foreign manifest raises nothing but its refusal."""
    try:
        manifest = read_manifest(json.dumps(value).encode(), "it")
    except BadBundle:
        return
    assert manifest.is_index == (manifest.config is None)


@given(st.binary(max_size=200))
def test_whatever_bytes_come_they_are_refused(data: bytes) -> None:
    """So do bytes of any kind."""
    with pytest.raises(BadBundle):
        read_manifest(data, "it")


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"[" * 100_000, "nests deeper"),
        (b" " * (MANIFEST_BYTES + 1), "at most"),
        (b'{"config": {}, "config": {}}', "the key 'config' appears twice"),
        (b'{"schemaVersion": NaN}', "NaN is no number"),
        (b'{"annotations": {"a": "1", "a": "2"}}', "the key 'a' appears twice"),
        (json.dumps(MANIFEST).encode("utf-16"), "not strict JSON"),
        (_changed(manifests=[]), "no manifest or index"),
        (_changed(mediaType=LIST, manifests=[]), "no manifest or index"),
        (_changed(mediaType="application/vnd.docker.distribution.manifest.v1+prettyjws"), "no manifest or index"),
        (_changed(config=None), "config of it is missing"),
        (_changed(layers=[{**BLOB, "digest": "md5:00"}]), "layers 0 of it has the digest"),
        (_changed(layers=[{**BLOB, "size": -1}]), "no sound size"),
        (_changed(layers=[{**BLOB, "size": True}]), "no sound size"),
        (_changed(layers=[{**BLOB, "urls": ["https://elsewhere.example/x"]}]), "outside the registry"),
        (_changed(layers=[BLOB] * 5_000), "more than 4096"),
        (_changed(layers=[{**BLOB, "annotations": {"a": 1}}]), "not texts"),
    ],
)
def test_each_thing_that_is_wrong_is_named(data: bytes, told: str) -> None:
    """One fault a manifest."""
    with pytest.raises(BadBundle, match=told):
        read_manifest(data, "it")


def test_a_platform_is_chosen_exactly_or_by_its_only_variant() -> None:
    """A variant is open where one is there; two of the same, and none, are told with what there is."""
    index = read_manifest(_index("linux/amd64", "linux/arm64/v8", "linux/arm/v6", "linux/arm/v7"), "it")
    assert choose(index, "linux/amd64", "it").platform == "linux/amd64"
    assert choose(index, "linux/arm64", "it").platform == "linux/arm64/v8"
    assert choose(index, "linux/arm/v7", "it").platform == "linux/arm/v7"
    with pytest.raises(BadBundle, match="2 images for linux/arm"):
        choose(index, "linux/arm", "it")
    with pytest.raises(BadBundle, match="0 images for linux/386; it has linux/amd64, "):
        choose(index, "linux/386", "it")


def test_platforms_are_told_alike_by_configs_and_machines() -> None:
    """A config that says no variant is none for who wants one."""
    assert platform_of({"os": "linux", "architecture": "arm64", "variant": "v8"}) == "linux/arm64/v8"
    assert platform_of({"os": 1}) == ""
    assert fits("linux/arm64", "linux/arm64/v8")
    assert not fits("linux/arm64/v8", "linux/arm64")
    assert not fits("linux/arm", "linux/arm64")
    assert (machine_platform("x86_64"), machine_platform("aarch64")) == ("linux/amd64", "linux/arm64")


GOOD = ImageSpec("sink", "images/sink", DIGEST, "linux/amd64")
ASSETS = frozenset({f"images/sink/blobs/sha256/{'ab' * 32}"})


@pytest.mark.parametrize(
    ("images", "assets", "told"),
    [
        ((ImageSpec("sink", "images/other", DIGEST, "all"),), ASSETS, "cannot be"),
        ((ImageSpec("../x", "images/../x", DIGEST, "all"),), ASSETS, "cannot be"),
        ((ImageSpec("sink", "images/sink", "sha256:1", "all"),), ASSETS, "has the digest"),
        ((ImageSpec("sink", "images/sink", DIGEST, "--privileged"),), ASSETS, "for '--privileged'"),
        ((GOOD,), frozenset(), "lacks its manifest"),
        ((GOOD, GOOD), ASSETS, "the same name"),
    ],
)
def test_an_image_that_no_builder_writes_is_refused(
    images: tuple[ImageSpec, ...], assets: frozenset[str], told: str
) -> None:
    """What the box will act on is checked when the index is read."""
    check_images((GOOD,), ASSETS)
    with pytest.raises(BadBundle, match=told):
        check_images(images, assets)
