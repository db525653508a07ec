from dataclasses import replace
from typing import Any

import pytest

from bundler.format import age, canonical
from bundler.format.errors import BadBundle, NewerFormat
from bundler.format.index import Asset, Chunk, Index, decode_index, encode_index
from bundler.format.manifest import Descriptor, FileDigest, Volume, bundle_id, decode_descriptor, encode_descriptor
from bundler.format.record import from_json, to_json
from bundler.format.service import LadderSpec, LimitsSpec, Service

SERVICE = Service(
    "demo", "Demo", (), None, (), (), (), (), LadderSpec((), (), (), "", "", ""), LimitsSpec(1, 1, 1), None, ()
)
A, B = "a" * 64, "b" * 64
RECIPIENT, POST_QUANTUM = (str(age.generate_identity(suite).recipient) for suite in age.SUITES)
DESCRIPTOR = Descriptor(
    1,
    "age-x25519",
    "repo",
    bundle_id(1, 7, "0123abcd"),
    1,
    7,
    "2026-11-21T00:00:00Z",
    RECIPIENT,
    FileDigest("bundles/x/index.age", 10, A),
    (Volume("bundles/x/vol/0001.age", 10, B, RECIPIENT),),
)
ASSET = Asset("models/m.gguf", "gguf", 30, A, "MIT", "file:m", (Chunk(A, 0, 0, 20), Chunk(B, 0, 20, 10)))


def index_of(*assets: Asset) -> bytes:
    return encode_index(Index(1, "repo", "1-0007-0123abcd", "demo", assets, SERVICE))


def test_descriptor_round_trip() -> None:
    """What is written is read back equal."""
    assert decode_descriptor(encode_descriptor(DESCRIPTOR)) == DESCRIPTOR
    assert DESCRIPTOR.order == (1, 7)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"format": 2}, NewerFormat),
        ({"format": 0}, BadBundle),
        ({"format": True}, BadBundle),
        ({"suite": "rot13"}, NewerFormat),
        ({"suite": age.PQ_SUITE}, BadBundle),
        ({"recipient": POST_QUANTUM}, BadBundle),
        ({"recipient": "age1x"}, BadBundle),
        ({"bundle": "../1"}, BadBundle),
        ({"epoch": "1"}, BadBundle),
        ({"extra": 1}, BadBundle),
        ({"index": {"path": "/etc/passwd", "length_bytes": 1, "sha256": A}}, BadBundle),
        ({"index": {"path": "x", "length_bytes": 2**40, "sha256": A}}, BadBundle),
        ({"index": {"path": "x", "length_bytes": 1, "sha256": "short"}}, BadBundle),
        ({"volumes": [{"path": "v", "length_bytes": 1, "sha256": A}]}, BadBundle),
    ],
)
def test_wrong_descriptors_are_refused(change: dict[str, Any], error: type[Exception]) -> None:
    """One wrong field each, each refused with the class that says why."""
    with pytest.raises(error):
        decode_descriptor(canonical.encode({**to_json(DESCRIPTOR), **change}))


def test_index_round_trip() -> None:
    """An index is read back equal, and finds its assets."""
    index = decode_index(index_of(ASSET), volumes=1)
    assert index.asset("models/m.gguf") == ASSET
    with pytest.raises(BadBundle, match="no asset"):
        index.asset("models/other")


@pytest.mark.parametrize(
    "asset",
    [
        replace(ASSET, length_bytes=31),
        replace(ASSET, sha256="A" * 64),
        replace(ASSET, path="../m"),
        replace(ASSET, chunks=(Chunk(A, 1, 0, 30),)),
        replace(ASSET, chunks=(Chunk(A, 0, -1, 30),)),
        replace(ASSET, chunks=(Chunk(A, 0, 0, 0), Chunk(A, 0, 0, 30))),
        replace(ASSET, chunks=(Chunk(A, 0, 0, 15), Chunk(B, 0, 0, 15))),
        replace(ASSET, length_bytes=2**31, chunks=(Chunk(A, 0, 0, 2**31),)),
    ],
)
def test_assets_that_cannot_be_are_refused(asset: Asset) -> None:
    """Lengths that do not add up, foreign volumes, two digests for one place, chunks over the limit."""
    with pytest.raises(BadBundle):
        decode_index(index_of(asset), volumes=1)


def test_two_assets_may_share_a_chunk() -> None:
    """Deduplication: the same place with the same digest stands twice."""
    twin = replace(ASSET, path="models/n.gguf")
    assert len(decode_index(index_of(ASSET, twin), volumes=1).assets) == 2


def test_flags_are_not_numbers() -> None:
    """True is an int in Python; a record takes it nowhere that a number belongs."""
    with pytest.raises(BadBundle, match="expected"):
        from_json(Chunk, {"sha256": A, "volume": True, "offset": 0, "length": 1}, "chunk")
