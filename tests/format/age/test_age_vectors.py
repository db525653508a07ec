"""Every age vector of C2SP's CCTV, read from front to back and at offsets."""

import hashlib
import io
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from bundler.format.age import (
    AgeError,
    HeaderFailure,
    HmacFailure,
    HybridIdentity,
    Identity,
    NoMatch,
    PayloadFailure,
    Reader,
    ScryptIdentity,
    X25519Identity,
)

FOLDER = Path(__file__).parents[4] / "shared" / "vectors" / "age"
NAMES = sorted(path.name for path in FOLDER.iterdir()) if FOLDER.is_dir() else []
ERRORS: dict[str, type[AgeError]] = {
    "header failure": HeaderFailure,
    "no match": NoMatch,
    "HMAC failure": HmacFailure,
    "payload failure": PayloadFailure,
}
EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()

pytestmark = pytest.mark.skipif(not NAMES, reason=f"the vectors are not at {FOLDER}")


@dataclass(frozen=True)
class Vector:
    """One file: what to expect, with which keys, of which bytes."""

    expect: str
    payload_sha256: str
    identities: tuple[Identity, ...]
    age_file: bytes


def parse_identity(key: str, value: str) -> Identity:
    """The identity that a header line of a vector names."""
    if key == "passphrase":
        return ScryptIdentity(value)
    return HybridIdentity.from_string(value) if "-PQ-" in value else X25519Identity.from_string(value)


def load(name: str) -> Vector:
    """Read one vector, or skip the test for a feature that is left out."""
    if name.startswith("armor"):
        pytest.skip("armor is left out: bundles are binary")
    text, _, age_file = (FOLDER / name).read_bytes().partition(b"\n\n")
    pairs = [(key, value) for key, _, value in (line.partition(": ") for line in text.decode().splitlines())]
    single = dict(pairs)
    if single.get("compressed") == "zlib":
        age_file = zlib.decompress(age_file)
    identities = tuple(parse_identity(key, value) for key, value in pairs if key in ("identity", "passphrase"))
    return Vector(single["expect"], single.get("payload", EMPTY_SHA256), identities, age_file)


def stream(vector: Vector, out: io.BytesIO) -> None:
    """Release the plaintext from front to back."""
    Reader(io.BytesIO(vector.age_file), vector.identities, size=len(vector.age_file)).copy_to(out)


def seek(vector: Vector, out: io.BytesIO) -> None:
    """Release the plaintext in pieces that straddle chunks, the last piece first."""
    reader = Reader(io.BytesIO(vector.age_file), vector.identities, size=len(vector.age_file))
    plaintext = bytearray(reader.plaintext_size)
    for offset in reversed(range(0, len(plaintext), 50_001)):
        piece = bytearray(50_001)
        count = reader.read_at(offset, piece)
        plaintext[offset : offset + count] = piece[:count]
    out.write(plaintext)


@pytest.mark.parametrize("name", NAMES)
def test_stream_path(name: str) -> None:
    """From front to back, outcome and released plaintext are those of the vector, also on failure."""
    vector, out = load(name), io.BytesIO()
    run(stream, vector, out)
    assert hashlib.sha256(out.getvalue()).hexdigest() == vector.payload_sha256


@pytest.mark.parametrize("name", NAMES)
def test_seek_path(name: str) -> None:
    """At offsets, the outcome is that of the vector, and a file that fails is never given out as whole."""
    vector, out = load(name), io.BytesIO()
    run(seek, vector, out)
    expected = vector.payload_sha256 if vector.expect == "success" else EMPTY_SHA256
    assert hashlib.sha256(out.getvalue()).hexdigest() == expected


def run(path: Callable[[Vector, io.BytesIO], None], vector: Vector, out: io.BytesIO) -> None:
    """Call one path and hold it to the expected outcome, by exact class."""
    if vector.expect == "success":
        path(vector, out)
    else:
        with pytest.raises(AgeError) as caught:
            path(vector, out)
        assert caught.type is ERRORS[vector.expect]
