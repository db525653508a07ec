"""Whole files: who can share one, sizes planned beforehand, limits, half files, real files."""

import gzip
import io
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bundler.format.age import (
    HeaderFailure,
    HmacFailure,
    HybridIdentity,
    Identity,
    NoMatch,
    PayloadFailure,
    Reader,
    Recipient,
    ScryptIdentity,
    ScryptRecipient,
    Writer,
    X25519Identity,
    decrypt,
    encrypt,
    encrypted_size,
    header_size,
)
from bundler.format.age import header as age_header

ONE, TWO = X25519Identity.generate(), X25519Identity.generate()
HYBRID = HybridIdentity.generate()
PASSPHRASE = ScryptRecipient("passphrase", 4)
PLAINTEXT = os.urandom(150_000)
GROUPS: dict[str, Sequence[Recipient]] = {
    "one": [ONE.recipient],
    "many": [X25519Identity.generate().recipient] * 99 + [ONE.recipient],
    "hybrid": [HYBRID.recipient, HybridIdentity.generate().recipient],
    "passphrase": [PASSPHRASE],
}


@pytest.mark.parametrize("group", GROUPS)
def test_round_trip_in_the_planned_size(group: str) -> None:
    """Every kind of recipient opens the file, whose size was known before."""
    recipients = GROUPS[group]
    data = encrypt(PLAINTEXT, recipients)
    assert len(data) == encrypted_size(len(PLAINTEXT), header_size(recipients))
    identities: list[Identity] = [TWO, ScryptIdentity("passphrase"), ONE, HYBRID]
    assert decrypt(data, identities, limit_bytes=len(PLAINTEXT)) == PLAINTEXT


@pytest.mark.parametrize(
    "recipients",
    [[], [PASSPHRASE, ONE.recipient], [PASSPHRASE, PASSPHRASE], [HYBRID.recipient, ONE.recipient]],
    ids=["nobody", "passphrase and key", "two passphrases", "hybrid and classic"],
)
def test_recipients_that_do_not_share_a_file(recipients: Sequence[Recipient]) -> None:
    """Mixtures that weaken each other are refused before a byte is written."""
    out = io.BytesIO()
    with pytest.raises(ValueError, match="recipient"):
        Writer(out, recipients)
    assert out.getvalue() == b""


def test_too_many_recipients() -> None:
    """More recipients than a reader would take are refused before a byte is written."""
    out = io.BytesIO()
    with pytest.raises(HeaderFailure, match="outside the limits"):
        Writer(out, [ONE.recipient] * (age_header.MAX_STANZAS + 1))
    assert out.getvalue() == b""


def test_full_house_of_hybrids_fits() -> None:
    """The byte limit leaves room for the largest number of the largest stanzas."""
    assert header_size([HYBRID.recipient]) * age_header.MAX_STANZAS < age_header.MAX_HEADER_BYTES


def test_nobody_matches() -> None:
    """A stranger, and nobody at all, open nothing."""
    data = encrypt(b"x", [ONE.recipient])
    strangers: list[list[Identity]] = [[TWO], [HYBRID, ScryptIdentity("p")], []]
    for identities in strangers:
        with pytest.raises(NoMatch):
            decrypt(data, identities, limit_bytes=1)


def test_added_stanza_is_found() -> None:
    """A header with one more stanza opens the key and fails the MAC."""
    data = encrypt(b"x", [ONE.recipient])
    changed = data.replace(b"\n---", b"\n-> grease\n\n---", 1)
    with pytest.raises(HmacFailure):
        decrypt(changed, [ONE], limit_bytes=1)


def test_limit_of_decrypt() -> None:
    """Plaintext over the limit is refused with both numbers, plaintext at the limit is not."""
    data = encrypt(b"12345", [ONE.recipient])
    assert decrypt(data, [ONE], limit_bytes=5) == b"12345"
    with pytest.raises(PayloadFailure, match="plaintext of 5 bytes, the limit is 4"):
        decrypt(data, [ONE], limit_bytes=4)


@pytest.mark.parametrize("size", [0, 5, 22, 4095, 4096, 4097, 600_000])
def test_header_without_end(size: int) -> None:
    """A first line followed by anything but a header ends in a header failure, whatever the length."""
    data = (b"age-encryption.org/v1\n" + b"-> a\n\n" * 100_000)[:size]
    with pytest.raises(HeaderFailure):
        decrypt(data, [ONE], limit_bytes=1)


def test_header_longer_than_the_first_read() -> None:
    """A header of many kilobytes is read in growing steps."""
    recipients = [*[HYBRID.recipient] * 30, HYBRID.recipient]
    assert header_size(recipients) > 40_000
    assert decrypt(encrypt(b"x", recipients), [HYBRID], limit_bytes=1) == b"x"


def half_file(out: io.BytesIO) -> None:
    """Write some, then fail inside the block."""
    with Writer(out, [ONE.recipient]) as writer:
        writer.write(PLAINTEXT)
        raise RuntimeError("source failed")


def test_exception_leaves_a_file_that_never_authenticates() -> None:
    """When the block fails no final chunk is written, and none can be added."""
    out = io.BytesIO()
    with pytest.raises(RuntimeError, match="source failed"):
        half_file(out)
    with pytest.raises(PayloadFailure):
        decrypt(out.getvalue(), [ONE], limit_bytes=10**6)


def test_abandoned_writer_refuses_to_close() -> None:
    """A close after a failed block is an error, not a silent success."""
    writer = Writer(io.BytesIO(), [ONE.recipient])
    writer.__exit__(RuntimeError, RuntimeError("source failed"), None)
    with pytest.raises(ValueError, match="finished, or failed"):
        writer.close()


def test_close_twice() -> None:
    """A second close changes nothing, a write after it is refused."""
    out = io.BytesIO()
    writer = Writer(out, [ONE.recipient])
    writer.close()
    size = len(out.getvalue())
    writer.close()
    assert len(out.getvalue()) == size == encrypted_size(0, writer.header_bytes)
    with pytest.raises(ValueError, match="finished, or failed"):
        writer.write(b"late")


def test_two_files_share_nothing() -> None:
    """The same plaintext to the same recipient gives unrelated files."""
    one, two = encrypt(bytes(1000), [ONE.recipient]), encrypt(bytes(1000), [ONE.recipient])
    start = header_size([ONE.recipient])
    assert one[start : start + 16] != two[start : start + 16]
    assert one[start + 16 : start + 80] != two[start + 16 : start + 80]


def test_real_file_from_many_threads(tmp_path: Path) -> None:
    """A file on disk is read beside its own position by many threads."""
    path = tmp_path / "volume.age"
    path.write_bytes(encrypt(PLAINTEXT, [ONE.recipient]))
    with path.open("rb") as file:
        file.seek(11)
        reader = Reader(file, [ONE], size=path.stat().st_size)

        def check(offset: int) -> bool:
            buffer = bytearray(9000)
            count = reader.read_at(offset, buffer)
            return buffer[:count] == PLAINTEXT[offset : offset + 9000]

        with ThreadPoolExecutor(4) as pool:
            assert all(pool.map(check, range(0, len(PLAINTEXT), 4321)))
        assert file.tell() == 11


def test_file_that_was_just_written(tmp_path: Path) -> None:
    """What a buffered file still holds back is seen."""
    with (tmp_path / "volume.age").open("w+b") as file:
        with Writer(file, [ONE.recipient]) as writer:
            writer.write(b"small")
        size = file.tell()
        buffer = bytearray(5)
        assert Reader(file, [ONE], size=size).read_at(0, buffer) == 5
    assert buffer == b"small"


def test_file_whose_descriptor_tells_other_bytes(tmp_path: Path) -> None:
    """A gzip member has a descriptor, but is read through its own methods."""
    data = encrypt(PLAINTEXT, [ONE.recipient])
    path = tmp_path / "volume.age.gz"
    path.write_bytes(gzip.compress(data, 1))
    with gzip.open(path) as file:
        out = io.BytesIO()
        assert Reader(file, [ONE], size=len(data)).copy_to(out) == len(PLAINTEXT)  # type: ignore[arg-type]  # GzipFile is no BinaryIO to mypy
    assert out.getvalue() == PLAINTEXT


def test_sparse_file_beyond_4_gib(tmp_path: Path) -> None:
    """Offsets over 2**32 reach the file, and a hole where chunks should be is found."""
    path = tmp_path / "volume.age"
    size = encrypted_size(5 * 2**30, header_size([ONE.recipient]))
    path.write_bytes(encrypt(PLAINTEXT, [ONE.recipient]))
    os.truncate(path, size)
    with path.open("rb") as file:
        reader = Reader(file, [ONE], size=size)
        chunks = reader.iter_chunks()
        assert [bytes(next(chunks)), bytes(next(chunks))] == [PLAINTEXT[:65536], PLAINTEXT[65536:131072]]
        with pytest.raises(PayloadFailure, match="chunk 81919"):
            _ = reader.plaintext_size
