"""Files cross to and from `pyrage` (the Rust implementation) and the `age` command (the Go one)."""

import os
import shutil
import subprocess
from pathlib import Path

import pyrage
import pytest

from bundler.format.age import ScryptIdentity, ScryptRecipient, X25519Identity, decrypt, encrypt

LENGTHS = [0, 1, 65535, 65536, 65537, 131072, 200_000]
AGE = shutil.which("age") or ""
needs_age = pytest.mark.skipif(not AGE, reason="the age command is not installed (apt-get install age)")


@pytest.mark.parametrize("length", LENGTHS)
def test_pyrage_reads_ours(length: int) -> None:
    """The Rust implementation opens what we write."""
    identity, plaintext = X25519Identity.generate(), os.urandom(length)
    theirs = pyrage.x25519.Identity.from_str(str(identity))
    assert str(theirs.to_public()) == str(identity.recipient)
    assert pyrage.decrypt(encrypt(plaintext, [identity.recipient]), [theirs]) == plaintext


@pytest.mark.parametrize("length", LENGTHS)
def test_we_read_pyrage(length: int) -> None:
    """We open what the Rust implementation writes, grease and foreign recipients included."""
    theirs, plaintext = pyrage.x25519.Identity.generate(), os.urandom(length)
    other = pyrage.x25519.Identity.generate()
    data = pyrage.encrypt(plaintext, [other.to_public(), theirs.to_public()])
    assert decrypt(data, [X25519Identity.from_string(str(theirs))], limit_bytes=length) == plaintext


def test_passphrases_cross_with_pyrage() -> None:
    """A passphrase file opens on the other side, in both directions."""
    data = encrypt(b"ours", [ScryptRecipient("grün", 10)])
    assert pyrage.passphrase.decrypt(data, "grün") == b"ours"
    data = pyrage.passphrase.encrypt(b"theirs", "grün")
    assert decrypt(data, [ScryptIdentity("grün", 22)], limit_bytes=6) == b"theirs"


@needs_age
@pytest.mark.parametrize("length", LENGTHS)
def test_age_command_reads_ours(length: int, tmp_path: Path) -> None:
    """The Go implementation opens what we write, as the printed recovery recipe tells people to."""
    identity, plaintext = X25519Identity.generate(), os.urandom(length)
    (tmp_path / "key").write_text(f"{identity}\n")
    (tmp_path / "in.age").write_bytes(encrypt(plaintext, [X25519Identity.generate().recipient, identity.recipient]))
    assert run_age("--decrypt", "--identity", str(tmp_path / "key"), str(tmp_path / "in.age")) == plaintext


@needs_age
@pytest.mark.parametrize("length", LENGTHS)
def test_we_read_the_age_command(length: int, tmp_path: Path) -> None:
    """We open what the Go implementation writes."""
    identity, plaintext = X25519Identity.generate(), os.urandom(length)
    (tmp_path / "in").write_bytes(plaintext)
    data = run_age("--recipient", str(identity.recipient), str(tmp_path / "in"))
    assert decrypt(data, [identity], limit_bytes=length) == plaintext


def run_age(*arguments: str) -> bytes:
    """Run the command and give its standard output."""
    return subprocess.run([AGE, *arguments], check=True, capture_output=True, timeout=60).stdout
