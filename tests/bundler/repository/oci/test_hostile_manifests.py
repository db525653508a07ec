"""What a registry may return in place of a manifest of ours: refused with its reason before a layer is fetched."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundler.format.errors import BadBundle, BadInput, UnknownRoot
from bundler.repository.keyring import Keyring, Msp
from bundler.repository.oci.artifact import (
    ARTIFACT_TYPE,
    FILE_TYPE,
    LAYERS,
    MANIFEST_BYTES,
    PART_TYPE,
    Artifact,
    Blob,
    Stored,
    decode,
    encode,
    part_lengths,
)
from bundler.repository.publish import Publisher
from bundler.repository.roots import Roots, first_root

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
MIB = 1 << 20
DIGEST = "sha256:" + "ab" * 32


def _layer(title: str = "install.sh", kind: str = FILE_TYPE, digest: Any = DIGEST, size: Any = 7) -> dict[str, Any]:
    notes = {"org.opencontainers.image.title": title}
    return {"mediaType": kind, "digest": digest, "size": size, "annotations": notes}


def _manifest(*layers: Any, **fields: Any) -> bytes:
    document = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": ARTIFACT_TYPE,
        "layers": list(layers),
    }
    return json.dumps(document | fields).encode()


def _part(number: int, count: int, path: str = "vol") -> dict[str, Any]:
    return _layer(f"{path}.{number:04}-of-{count:04}", PART_TYPE)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "not strict JSON"),
        (b"[" * 100_000, "nests deeper"),
        (b'{"schemaVersion": NaN}', "NaN is not an integer"),
        (b'{"schemaVersion": 2.0}', "2.0 is not an integer"),
        (b'{"schemaVersion": 2, "schemaVersion": 2}', "the key 'schemaVersion' appears twice"),
        (b"[]", "not a JSON object"),
        (b" " * (MANIFEST_BYTES + 1), "longer than"),
        (_manifest(schemaVersion=1), "no OCI image manifest"),
        (_manifest(mediaType="application/vnd.oci.image.index.v1+json"), "no OCI image manifest"),
        (_manifest(artifactType="application/vnd.cncf.helm"), "no repository of ours but 'application/vnd.cncf.helm'"),
        (_manifest(artifactType=None, config={"mediaType": "\x1b[31mred"}), r"but '\\x1b\[31mred'"),
        (_manifest(layers=None), "lists no layers"),
        (_manifest(*[1] * 100_000), f"more than {LAYERS}"),
        (_manifest("a text"), "a layer is no JSON object"),
        (_manifest(_layer("../install.sh")), "path is not allowed"),
        (_manifest(_layer("/etc/passwd")), "path is not allowed"),
        (_manifest(_layer("bundles/../../x")), "path is not allowed"),
        (_manifest(_layer(".pull/lock")), "path is not allowed"),
        (_manifest(_layer("a\\b")), "path is not allowed"),
        (_manifest(_layer("bundles/con/x")), "path is not allowed"),
        (_manifest(_layer("")), "path is not allowed"),
        (_manifest(_layer("a/" * 20 + "b")), "too long or too deep"),
        (_manifest(_layer("a"), _layer("a")), "collide"),
        (_manifest(_layer("sites/Office/x"), _layer("sites/office/x")), "collide"),
        (_manifest(_layer("a"), _layer("a/b")), "lies inside another file"),
        (_manifest(_layer(size=-1)), "has the size -1"),
        (_manifest(_layer(size=2**40)), "has the size 1099511627776"),
        (_manifest(_layer(size=True)), "has the size True"),
        (_manifest(_layer(size="7")), "has the size '7'"),
        (_manifest(_layer(size=7.0)), "7.0 is not an integer"),
        (_manifest(_layer()).replace(b'"size": 7', b'"size": ' + b"9" * 5000), "more than 20 digits"),
        (_manifest(_layer(digest="sha512:" + "ab" * 64)), "has the digest"),
        (_manifest(_layer(digest="sha256:" + "AB" * 32)), "has the digest"),
        (_manifest(_layer(digest="sha256:../../../x")), "has the digest"),
        (_manifest(_layer(digest=None)), "has the digest"),
        (_manifest(_layer(kind="application/vnd.oci.image.layer.v1.tar+gzip")), "has the media type"),
        (_manifest({**_layer(), "annotations": None}), "annotations of a layer is no JSON object"),
        (_manifest({**_layer(), "annotations": {}}), "has no title"),
        (_manifest(_layer("vol", PART_TYPE)), "names no part"),
        (_manifest(_part(1, 1)), "names no part"),
        (_manifest(_part(1, 9999)), "names no part"),
        (_manifest(_part(1, 2)), "1 of 2 are there"),
        (_manifest(_part(1, 2), _layer("other")), "1 of 2 are there"),
        (_manifest(_part(2, 2), _part(1, 2)), "not the next part"),
        (_manifest(_part(1, 2), _part(1, 2)), "not the next part"),
        (_manifest(_part(1, 2), _part(2, 3)), "not the next part"),
        (_manifest(_part(1, 2), _part(2, 2, "other")), "not the next part"),
        (_manifest(_part(1, 2), {**_part(2, 2), "size": 0}), "has 7 bytes"),
        (_manifest({**_part(1, 2), "size": 2**31}, {**_part(2, 2), "size": 1}), "has 2147483649 bytes"),
        (_manifest(_part(1, 2, "../x"), _part(2, 2, "../x")), "path is not allowed"),
    ],
)
def test_what_is_no_manifest_of_ours_is_refused(data: bytes, why: str) -> None:
    """One trick each, and what is told is safe on a terminal."""
    with pytest.raises(BadBundle, match=why) as refused:
        decode(data)
    assert refused.value.fact.isprintable()


def test_what_we_write_we_read() -> None:
    """Whole files and parts, in order; claims that are no claims count as none."""
    parts = tuple(Blob(f"sha256:{n:064x}", 5) for n in range(3))
    made = Artifact((Stored("a", parts[:1]), Stored("b/c", parts), Stored("d", parts[1:2])), "ab" * 16, 7)
    data = encode(made, "2026-11-21T12:00:00+00:00")
    assert decode(data) == made
    spoilt = data.replace(b'"7"', b'"-7"').replace(b'"' + b"ab" * 16, b'"' + b"xy" * 16)
    assert decode(spoilt) == Artifact(made.files, "", 0)


def test_a_manifest_that_no_registry_takes_is_not_made() -> None:
    """A repository of 16,384 volumes fits; one of more layers is told what to do before anything is sent."""
    volumes = [Stored(f"bundles/1-0001-abcdef01/vol/{n:05}.age", (Blob(DIGEST, 2**31),)) for n in range(16_384)]
    assert len(encode(Artifact(tuple(volumes), "ab" * 16, 1), "")) < MANIFEST_BYTES
    with pytest.raises(BadInput, match="layers") as refused:
        encode(Artifact((*volumes, *(Stored(f"x/{n}", (Blob(DIGEST, 1),)) for n in range(16_384))), "", 1), "")
    assert "--layer-size" in refused.value.hint


@given(length=st.integers(0, 2**31), mib=st.integers(1, 2048))
def test_parts_add_up(length: int, mib: int) -> None:
    """No part is empty or above the cap, all but the last are alike, and there are as few as can be."""
    lengths = part_lengths(length, mib * MIB)
    assert sum(lengths) == length
    assert max(lengths) <= mib * MIB
    assert len(lengths) == max(1, -(-length // (mib * MIB)))
    assert len(lengths) == 1 or (min(lengths) > 0 and len(set(lengths[:-1])) == 1)


@pytest.fixture
def place(front: Any) -> str:
    return f"{front.host}/hostile/{uuid.uuid4().hex[:12]}:main"


def _changed(stock: Any, place: str, change: Callable[[dict[str, Any]], None]) -> None:
    """Puts a changed manifest under the tag, as who may write to the registry can."""
    client = stock.client(place)
    document = json.loads(client.manifest()[0])
    change(document)
    client.put_manifest(json.dumps(document).encode())
    client.close()


def _titled(document: dict[str, Any], part: str) -> list[dict[str, Any]]:
    return [x for x in document["layers"] if part in x["annotations"]["org.opencontainers.image.title"]]


def _added(document: dict[str, Any], path: str) -> None:
    notes = {"org.opencontainers.image.title": path}
    document["layers"].append({**_titled(document, "enroll")[0], "annotations": notes})


def _without(document: dict[str, Any], part: str) -> None:
    document["layers"].remove(_titled(document, part)[0])


def _swapped(document: dict[str, Any], part: str, **fields: Any) -> None:
    _titled(document, part)[0].update(fields)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda d: _added(d, "runtime/9.9/install.sh"), r"nobody signed runtime/9\.9/install\.sh"),
        (lambda d: _added(d, "metadata/7.root.json"), r"nobody signed metadata/7\.root\.json"),
        (lambda d: _added(d, "metadata/2.root.json"), "root metadata is not TUF metadata"),
        (lambda d: _swapped(d, "index.age", digest=_titled(d, "enroll")[0]["digest"]), "not what was signed"),
        (lambda d: _swapped(d, "index.age", size=12), "not what was signed"),
        (lambda d: _without(d, "index.age"), "1 files are not in the artifact"),
        (lambda d: _without(d, "timestamp"), r"timestamp\.json is missing"),
        (lambda d: _without(d, "1.root"), r"1\.root\.json is missing"),
        (lambda d: _swapped(d, "timestamp", size=6_000_000), "at most 5000000 are read"),
        (lambda d: _swapped(d, "enroll", size=6_000_000), "at most 4194304 are read"),
    ],
)
def test_an_artifact_that_was_changed_writes_nothing(
    stock: Any, place: str, tmp_path: Path, change: Callable[[dict[str, Any]], None], why: str, front: Any
) -> None:
    """Files are added, swapped or taken out: refused before a volume is fetched, and the folder stays empty."""
    stock.build(b"1")
    stock.push(place)
    _changed(stock, place, change)
    front.reset()
    with pytest.raises(BadBundle, match=why):
        stock.pull(place, tmp_path / "usb")
    assert list((tmp_path / "usb").iterdir()) == []
    assert front.down_bytes() < 50_000


def test_another_s_artifact_is_refused_by_the_root(stock: Any, place: str, tmp_path: Path) -> None:
    """A registry that serves another MSP's repository: whole in itself, and not signed by ours."""
    stock.build(b"1")
    stock.push(place)
    thief = Keyring(tmp_path / "thief", lambda: "correct horse")
    thief.create(Msp("Thief", "cd" * 16), 10)
    Roots(thief.home).add(first_root(thief, NOW), NOW)
    publisher = Publisher(tmp_path / "stolen", thief, NOW)
    publisher.create()
    with pytest.raises(UnknownRoot):
        type(stock)(publisher, thief, stock.work).pull(place, tmp_path / "usb")
