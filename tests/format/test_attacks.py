"""The attack table for whoever holds the medium and no key: each row changes a copy of the sample, then a box reads.

Rows that need a stolen key stand in tests/bundler/repository/test_publish.py and test_rotation.py.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bundler.format import age, canonical, limits
from bundler.format.bundle import check_chunks, open_bundle
from bundler.format.errors import BadBundle, FileMissing, LifeboatError, NewerFormat, TooOld, UnknownRoot
from bundler.format.index import Asset, Chunk, Index, decode_index, encode_index
from bundler.format.manifest import Descriptor, decode_descriptor, encode_descriptor
from bundler.format.site import Settings, open_enrolment, open_keys, open_settings, seal_keys, seal_settings
from bundler.format.trust.descriptors import read_descriptors
from bundler.format.trust.medium import check_file, find_root, load_repository
from bundler.format.trust.verify import Remembered, TargetFile

SAMPLE = Path(__file__).parent.parent / "releases" / "1"
FACTS: dict[str, Any] = json.loads((SAMPLE / "expected.json").read_text())
MADE = datetime.fromisoformat(FACTS["made"])
FILES = sorted(path.relative_to(SAMPLE).as_posix() for path in (SAMPLE / "repository").rglob("*") if path.is_file())
OLD, NEW = (path.name for path in sorted((SAMPLE / "repository" / "bundles").iterdir()))


@pytest.fixture
def medium(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SAMPLE / "repository", tmp_path / "repository"))


def box(folder: Path, remembered: Remembered | None = None) -> tuple[Remembered, dict[str, str]]:
    """Does all that a box does with a medium; returns what it remembers, and the digest of every asset."""
    site = folder / "sites" / "sample"
    enrolment = open_enrolment((site / "enroll.age").read_bytes(), FACTS["site_code"])
    trusted = load_repository(
        folder,
        root=find_root(folder, enrolment.root_sha256),
        repository=enrolment.repository,
        now=MADE,
        remembered=remembered,
    )
    for path, target in trusted.targets.items():
        check_file(folder, path, target)
    keys = open_keys((site / "keys.age").read_bytes(), enrolment.identity)
    open_settings((site / "settings.age").read_bytes(), enrolment.identity)
    found = {}
    for descriptor in read_descriptors(folder, trusted):
        with open_bundle(folder, descriptor, keys) as bundle:
            check_chunks(bundle, lambda _: None)
            for asset in bundle.index.assets:
                found[f"{descriptor.bundle}/{asset.path}"] = hashlib.sha256(bundle.read(asset.path)).hexdigest()
    return trusted.remembered(), found


TRUE = box(SAMPLE / "repository")
# Superseded metadata is never read; nothing that it says counts.
READ = [name for name in FILES if not Path(name).name.startswith(("1.content", "1.snapshot", "2.", "3."))]


@pytest.mark.parametrize("name", READ)
def test_no_flipped_bit_is_taken(medium: Path, name: str) -> None:
    """Bits over every region of every file: refused, or (white space of signed JSON apart) nothing differs."""
    path = medium.parent / name
    true = path.read_bytes()
    drawn = random.Random(name)
    places = {0, 1, len(true) // 2, len(true) - 2, len(true) - 1, *(drawn.randrange(len(true)) for _ in range(25))}
    for place in places:
        data = bytearray(true)
        data[place] ^= 1 << drawn.randrange(8)
        path.write_bytes(data)
        try:
            assert box(medium) == TRUE
        except LifeboatError:
            continue


@pytest.mark.parametrize("name", READ)
@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data[: len(data) // 2], lambda _: b""])
def test_no_truncated_file_is_taken(medium: Path, name: str, change: Callable[[bytes], bytes]) -> None:
    """Whatever is cut off, the medium is refused."""
    path = medium.parent / name
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(LifeboatError):
        box(medium)


@pytest.mark.parametrize("name", [name for name in READ if name.endswith((".age", "bundle.json"))])
@pytest.mark.parametrize("tail", [b"\0", b"more" * 1000])
def test_no_extended_file_is_taken(medium: Path, name: str, tail: bytes) -> None:
    """Nothing may stand behind the end, not even zeros."""
    path = medium.parent / name
    path.write_bytes(path.read_bytes() + tail)
    with pytest.raises(LifeboatError):
        box(medium)


@pytest.mark.parametrize("name", READ)
def test_a_missing_file_is_told(medium: Path, name: str) -> None:
    """As missing, by its name, where it is ours to name."""
    (medium.parent / name).unlink()
    with pytest.raises((LifeboatError, FileNotFoundError)) as caught:
        box(medium)
    assert Path(name).name in str(caught.value) or isinstance(caught.value, UnknownRoot | FileMissing)


def swap(one: Path, two: Path) -> None:
    data = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(data)


@pytest.mark.parametrize("part", ["vol/0001.age", "index.age", "bundle.json"])
def test_parts_of_two_valid_bundles_do_not_mix(medium: Path, part: str) -> None:
    """Swapped, or one in place of both: each is signed under its own name."""
    one, two = medium / "bundles" / OLD / part, medium / "bundles" / NEW / part
    swap(one, two)
    with pytest.raises(BadBundle, match="not what was signed"):
        box(medium)
    swap(one, two)
    two.write_bytes(one.read_bytes())
    with pytest.raises(BadBundle, match="not what was signed"):
        box(medium)


@pytest.mark.parametrize("name", [name for name in READ if "metadata/" in name])
@pytest.mark.parametrize("keep", [0, 1])
def test_a_stripped_or_doubled_signature_does_not_count(medium: Path, name: str, keep: int) -> None:
    """No signature is none; the same one twice is no second one (TUF counts key ids, and refuses repeats)."""
    path = medium.parent / name
    document = json.loads(path.read_text())
    document["signatures"] = document["signatures"][:1] * (2 if keep else 0)
    path.write_text(json.dumps(document))
    with pytest.raises(LifeboatError):
        box(medium)


def test_an_older_state_is_no_update(medium: Path) -> None:
    """Replay: metadata that was valid yesterday is refused by a box that has seen today's."""
    newer = replace(TRUE[0], timestamp_version=TRUE[0].timestamp_version + 1)
    with pytest.raises(TooOld):
        box(medium, newer)


def test_a_frozen_medium_is_old_and_says_so(medium: Path) -> None:
    """Freeze: nothing newer can be faked or withheld unseen; the age of what is offered is told."""
    root = find_root(medium, FACTS["root_sha256"])
    late = MADE + timedelta(days=400)
    trusted = load_repository(medium, root=root, repository=None, now=late, remembered=None)
    assert any("timestamp metadata expired 35 days ago, made 400 days ago" in text for text in trusted.warnings)


def test_foreign_site_files_open_nothing(medium: Path, tmp_path: Path) -> None:
    """Another site's keys or settings, or another kind of file, under our names are refused, and never half taken."""
    foreign = age.X25519Identity.generate()
    enrolment = (medium / "sites" / "sample" / "enroll.age").read_bytes()
    files = [
        ("keys.age", seal_keys({str(foreign.recipient): str(foreign)}, foreign.recipient)),
        ("keys.age", enrolment),
    ]
    files += [("settings.age", seal_settings(Settings(1, {}), foreign.recipient)), ("settings.age", enrolment)]
    for name, data in files:
        path = medium / "sites" / "sample" / name
        true = path.read_bytes()
        path.write_bytes(data)
        with pytest.raises(LifeboatError):
            box(medium)
        path.write_bytes(true)


@pytest.mark.parametrize(
    "where", ["metadata/timestamp.json", f"bundles/{NEW}/vol/0001.age", f"bundles/{NEW}/index.age"]
)
def test_links_are_not_followed(medium: Path, tmp_path: Path, where: str) -> None:
    """Neither a linked file nor a linked folder, even to the true bytes."""
    path = medium / where
    aside = tmp_path / "aside"
    path.rename(aside)
    path.symlink_to(aside)
    with pytest.raises(BadBundle):
        box(medium)
    path.unlink()
    aside.rename(path)
    folder = path.parent
    folder.rename(tmp_path / "folder")
    folder.symlink_to(tmp_path / "folder")
    with pytest.raises(BadBundle, match="symbolic link"):
        box(medium)


@pytest.mark.parametrize("name", [f"bundles/{NEW}/vol/0001.age", "metadata/timestamp.json"])
def test_what_is_no_file_does_not_hang_a_reader(medium: Path, name: str) -> None:
    """A FIFO or a folder in place of a file is refused at once."""
    for make in (os.mkfifo, Path.mkdir):
        path = medium / name
        if path.is_dir():
            path.rmdir()
        else:
            path.unlink()
        make(path)
        with pytest.raises(LifeboatError):
            box(medium)


def descriptor() -> Descriptor:
    return decode_descriptor((SAMPLE / "repository" / "bundles" / NEW / "bundle.json").read_bytes())


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "../x",
        "bundles/../../x",
        "bundles/a/vol/CON.age",
        "bundles//x",
        "bundles/a/.hidden",
        "a\0b",
        "é/x",
    ],
)
def test_paths_that_lead_elsewhere_are_refused(path: str) -> None:
    """In a descriptor as anywhere: relative, plain, and portable."""
    made = descriptor()
    volumes = (replace(made.volumes[0], path=path), *made.volumes[1:])
    with pytest.raises(BadBundle):
        decode_descriptor(encode_descriptor(replace(made, volumes=volumes)))


def test_paths_that_collide_are_refused() -> None:
    """Two names that are one file on a stick."""
    made = descriptor()
    twin = replace(made.volumes[0], path=made.volumes[0].path.replace("vol/0001.age", "VOL/0001.AGE"))
    with pytest.raises(BadBundle, match="collide"):
        decode_descriptor(encode_descriptor(replace(made, volumes=(made.volumes[0], twin))))


@pytest.mark.parametrize("length", [0, -1, 2**31 + 2**27, 2**32, 2**32 + 5, 2**63, 10**30])
def test_lengths_beyond_31_and_32_bits_are_refused(length: int) -> None:
    """No volume is longer than FAT32 and old tools hold; a length that wraps around is no length."""
    made = descriptor()
    volumes = (replace(made.volumes[0], length_bytes=length), *made.volumes[1:])
    with pytest.raises(BadBundle):
        decode_descriptor(encode_descriptor(replace(made, volumes=volumes)))


@pytest.mark.parametrize("length", [2**31 + 1, 2**32 + 1])
def test_a_file_that_grew_beyond_its_length_is_not_read_to_its_end(tmp_path: Path, length: int) -> None:
    """A sparse file with the true bytes in front: hashing stops at the signed length."""
    path = tmp_path / "file"
    path.write_bytes(b"hello")
    os.truncate(path, length)
    seen: list[int] = []
    with pytest.raises(BadBundle, match="not what was signed"):
        check_file(tmp_path, "file", TargetFile(5, hashlib.sha256(b"hello").hexdigest()), seen.append)
    assert sum(seen) <= 5 + 2**20


def index(*chunks: Chunk, length: int | None = None) -> bytes:
    service = descriptor_index().service
    total = sum(chunk.length for chunk in chunks) if length is None else length
    asset = Asset("models/a.gguf", "gguf", total, "0" * 64, "", "", chunks)
    return encode_index(Index(1, "r", NEW, "p", (asset,), service))


def descriptor_index() -> Index:
    site = SAMPLE / "repository" / "sites" / "sample"
    identity = open_enrolment((site / "enroll.age").read_bytes(), FACTS["site_code"]).identity
    keys = open_keys((site / "keys.age").read_bytes(), identity)
    with open_bundle(SAMPLE / "repository", descriptor(), keys) as bundle:
        return bundle.index


A, B = "a" * 64, "b" * 64


@pytest.mark.parametrize(
    ("chunks", "length"),
    [
        ((Chunk(A, 0, 0, 0),), None),
        ((Chunk(A, 0, 0, -5),), None),
        ((Chunk(A, 0, -1, 5),), None),
        ((Chunk(A, 2, 0, 5),), None),
        ((Chunk(A, -1, 0, 5),), None),
        ((Chunk(A, 0, 0, 2**24 + 1),), None),
        ((Chunk(A, 0, 0, 2**32 + 5),), None),
        ((Chunk(A, 0, 0, 5),), 6),
        ((Chunk(A, 0, 0, 5), Chunk(B, 0, 0, 5)), None),
        ((Chunk(A, 0, 0, 5), Chunk(A, 0, 0, 6)), None),
        ((Chunk("A" * 64, 0, 0, 5),), None),
        ((Chunk("", 0, 0, 5),), None),
    ],
)
def test_chunks_that_cannot_be_are_refused(chunks: tuple[Chunk, ...], length: int | None) -> None:
    """Before a volume is touched: lengths, offsets, volumes, digests, sums, and two chunks at one place."""
    with pytest.raises(BadBundle):
        decode_index(index(*chunks, length=length), volumes=2)


@pytest.mark.parametrize(
    "document",
    [
        b"[" * 100_000,
        b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
        b'{"format":' + b"9" * 100_000 + b"}",
        b'{"format":1e308}',
        b'{"format":1,"format":1}',
        b'{"format": 1}',
        b"\xff\xfe{}",
        b'{"a":"\\ud800"}',
        b"null",
        b"",
    ],
)
def test_json_bombs_are_refused(document: bytes) -> None:
    """Depth, digits, floats, repeats, loose form and broken text: one error, no recursion, no memory."""
    for read in (decode_descriptor, lambda data: decode_index(data, volumes=1)):
        with pytest.raises(BadBundle):
            read(document)


def test_a_newer_format_is_told_apart_from_damage() -> None:
    """A program that is too old says so, for a higher format and for a suite that it does not know."""
    value = json.loads(encode_descriptor(descriptor()))
    with pytest.raises(NewerFormat):
        decode_descriptor(canonical.encode({**value, "format": 2, "new": "field"}))
    with pytest.raises(NewerFormat):
        decode_descriptor(canonical.encode({**value, "suite": "age-next"}))


@pytest.mark.parametrize(
    ("name", "bound"),
    [
        ("metadata/timestamp.json", limits.TIMESTAMP_BYTES),
        ("metadata/4.snapshot.json", limits.SNAPSHOT_BYTES),
        ("metadata/4.content.json", limits.TARGETS_BYTES),
        ("metadata/1.root.json", limits.ROOT_BYTES),
    ],
)
def test_metadata_without_end_is_not_read_to_its_end(medium: Path, name: str, bound: int) -> None:
    """Bounded before memory is taken."""
    os.truncate(medium / name, 2**33)
    with pytest.raises(LifeboatError) as caught:
        box(medium)
    assert f"longer than {bound}" in str(caught.value) or isinstance(caught.value, UnknownRoot)
