"""The payload ring: lengths, offsets, counters, buffers and broken sinks."""

import io
import itertools
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from hypothesis import given, settings
from hypothesis import strategies as st

from bundler.format.age import PayloadFailure
from bundler.format.age.source import read_at
from bundler.format.age.stream import (
    CHUNK_BYTES,
    SEALED_CHUNK_BYTES,
    TAG_BYTES,
    Opener,
    Sealer,
    chunk_nonce,
    sealed_size,
    write_all,
)

KEY = bytes(range(32))
PATTERN = os.urandom(4 * CHUNK_BYTES)
LENGTHS = [0, 1, TAG_BYTES, *(n * CHUNK_BYTES + d for n in (1, 2, 3) for d in (-1, 0, 1))]
STEPS = [1000, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES]
BOUNDARY = st.builds(lambda n, d: max(0, n * CHUNK_BYTES + d), st.integers(0, 3), st.integers(-20, 20))


def seal(plaintext: bytes, step: int = CHUNK_BYTES) -> bytes:
    """A payload, written `step` bytes at a time."""
    out = io.BytesIO()
    sealer = Sealer(KEY, out)
    for at in range(0, len(plaintext), step):
        sealer.write(memoryview(plaintext)[at : at + step])
    sealer.finish()
    return out.getvalue()


def opener(sealed: bytes) -> Opener:
    """A reader of a payload without a header."""
    return Opener(KEY, read_at(io.BytesIO(sealed)), start=0, size=len(sealed))


def reference(plaintext: bytes) -> bytes:
    """The payload as the spec words it, one chunk at a time."""
    pieces = [plaintext[at : at + CHUNK_BYTES] for at in range(0, len(plaintext), CHUNK_BYTES)] or [b""]
    cipher = ChaCha20Poly1305(KEY)
    nonces = [index.to_bytes(11, "big") + bytes([index == len(pieces) - 1]) for index in range(len(pieces))]
    return b"".join(cipher.encrypt(nonce, piece, None) for nonce, piece in zip(nonces, pieces, strict=True))


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("length", LENGTHS)
def test_lengths_by_steps(length: int, step: int) -> None:
    """However it is cut into writes and reads, a payload is that of the spec, in the size that was planned."""
    plaintext = PATTERN[:length]
    sealed = seal(plaintext, step)
    assert sealed == reference(plaintext)
    assert len(sealed) == sealed_size(length)
    reader, found = opener(sealed), bytearray()
    while True:
        piece = bytearray(step)
        count = reader.read_at(len(found), piece)
        if not count:
            break
        found += piece[:count]
    assert (bytes(found), reader.plaintext_size) == (plaintext, length)
    assert b"".join(bytes(piece) for piece in opener(sealed).iter_chunks()) == plaintext


@settings(deadline=None)
@given(BOUNDARY, st.lists(BOUNDARY, max_size=6))
def test_any_cut_into_writes(length: int, cuts: list[int]) -> None:
    """Writes of any sizes, empty ones included, give the same bytes."""
    out = io.BytesIO()
    sealer = Sealer(KEY, out)
    edges = [0, *sorted(min(cut, length) for cut in cuts), length]
    for start, end in itertools.pairwise(edges):
        assert sealer.write(PATTERN[start:end]) == end - start
    sealer.finish()
    assert out.getvalue() == reference(PATTERN[:length])


@settings(deadline=None)
@given(BOUNDARY, st.lists(st.tuples(BOUNDARY, BOUNDARY), min_size=1, max_size=6))
def test_any_offsets(length: int, reads: list[tuple[int, int]]) -> None:
    """Reads at any offset and of any size, in any order, equal a slice."""
    reader = opener(reference(PATTERN[:length]))
    for offset, size in reads:
        buffer = bytearray(size)
        count = reader.read_at(offset, buffer)
        assert buffer[:count] == PATTERN[:length][offset : offset + size]
        assert not any(buffer[count:])


@settings(deadline=None)
@given(st.integers(0, 2 * CHUNK_BYTES + 9), st.integers(0, 2 * SEALED_CHUNK_BYTES), st.integers(1, 255))
def test_any_flipped_byte_is_found(length: int, at: int, flip: int) -> None:
    """A change anywhere fails both paths, and what is released before is a prefix."""
    sealed = bytearray(reference(PATTERN[:length]))
    sealed[at % len(sealed)] ^= flip
    released = bytearray()
    with pytest.raises(PayloadFailure):
        release(opener(bytes(sealed)), released)
    assert PATTERN[:length].startswith(released)
    with pytest.raises(PayloadFailure):
        opener(bytes(sealed)).read_at(0, bytearray(length or 1))


@settings(deadline=None)
@given(BOUNDARY, st.integers(1, 2 * SEALED_CHUNK_BYTES))
def test_any_cut_is_found(length: int, missing: int) -> None:
    """A payload without its end fails before its size is told."""
    sealed = reference(PATTERN[:length])
    reader = opener(sealed[: max(0, len(sealed) - missing)])
    with pytest.raises(PayloadFailure):
        _ = reader.plaintext_size
    with pytest.raises(PayloadFailure):
        release(reader, bytearray())


def release(reader: Opener, into: bytearray) -> None:
    """Collect everything that comes out."""
    for piece in reader.iter_chunks():
        into += piece


@pytest.mark.parametrize("index", [0, 1, 255, 256, 2**15, 2**16, 2**31, 2**32, 2**40, 2**88 - 1])
def test_counter_is_88_bits_big_endian(index: int) -> None:
    """The nonce follows the spec far beyond what 32 bits hold."""
    assert chunk_nonce(index, last=False) == index.to_bytes(11, "big") + b"\0"
    assert chunk_nonce(index, last=True) == index.to_bytes(11, "big") + b"\1"


def test_counter_does_not_wrap() -> None:
    """Chunk 2**88 does not exist."""
    with pytest.raises(OverflowError):
        chunk_nonce(2**88, last=False)


def synthetic(chunks: int) -> Callable[[int, memoryview], int]:
    """A payload of any size whose chunk N holds N again and again, sealed when it is read."""
    cipher = ChaCha20Poly1305(KEY)

    def read(offset: int, buffer: memoryview) -> int:
        index = offset // SEALED_CHUNK_BYTES
        nonce = chunk_nonce(index, last=index == chunks - 1)
        buffer[:] = cipher.encrypt(nonce, index.to_bytes(8, "big") * (CHUNK_BYTES // 8), None)
        return len(buffer)

    return read


@pytest.mark.parametrize("near_bytes", [2**31, 2**32, 2**41, 2**48 + 2**32])
def test_offsets_beyond_32_bits(near_bytes: int) -> None:
    """Around 2, 4 GiB and far more, offset and counter stay right across the chunk boundary."""
    edge = near_bytes // CHUNK_BYTES
    chunks = edge + 2
    reader = Opener(KEY, synthetic(chunks), start=0, size=chunks * SEALED_CHUNK_BYTES)
    assert reader.plaintext_size == chunks * CHUNK_BYTES
    buffer = bytearray(16)
    assert reader.read_at(edge * CHUNK_BYTES - 8, buffer) == 16
    assert buffer == (edge - 1).to_bytes(8, "big") + edge.to_bytes(8, "big")
    assert reader.read_at(chunks * CHUNK_BYTES - 8, buffer) == 8
    assert buffer[:8] == (chunks - 1).to_bytes(8, "big")


def test_failed_chunk_leaves_no_plaintext() -> None:
    """A buffer holds nothing unauthenticated after a failure, though the cipher wrote into it."""
    sealed = bytearray(reference(b"A" * (2 * CHUNK_BYTES + 5)))
    sealed[SEALED_CHUNK_BYTES] ^= 1
    buffer = bytearray(b"x" * 3 * CHUNK_BYTES)
    with pytest.raises(PayloadFailure, match="chunk 1: authentication failed"):
        opener(bytes(sealed)).read_at(0, buffer)
    assert buffer[: 2 * CHUNK_BYTES] == b"A" * CHUNK_BYTES + bytes(CHUNK_BYTES)


def test_failed_chunk_is_not_served_from_scratch() -> None:
    """Asking again for part of a bad chunk fails again."""
    sealed = bytearray(reference(b"A" * (CHUNK_BYTES + 5)))
    sealed[9] ^= 1
    reader = opener(bytes(sealed))
    for _ in range(2):
        with pytest.raises(PayloadFailure):
            reader.read_at(1, bytearray(3))


def test_failed_chunk_takes_the_held_piece_with_it() -> None:
    """After a failure overwrote the scratch buffer, the piece held before is decrypted again."""
    sealed = bytearray(reference(b"A" * 3 * CHUNK_BYTES))
    sealed[SEALED_CHUNK_BYTES] ^= 1
    reader, buffer = opener(bytes(sealed)), bytearray(4)
    reader.read_at(1, buffer)
    with pytest.raises(PayloadFailure):
        reader.read_at(CHUNK_BYTES + 1, bytearray(4))
    assert reader.read_at(1, buffer) == 4
    assert buffer == b"AAAA"


def test_two_files_do_not_share_a_scratch_piece() -> None:
    """The piece that a thread holds belongs to one file."""
    one, two = opener(reference(b"1" * 9)), opener(reference(b"2" * 9))
    buffer = bytearray(2)
    for reader, expected in ((one, b"11"), (two, b"22"), (one, b"11")):
        reader.read_at(3, buffer)
        assert buffer == expected


def test_reading_while_iterating() -> None:
    """The buffer of the running iteration is not the one of reads at offsets."""
    reader = opener(reference(PATTERN))
    for index, piece in enumerate(reader.iter_chunks()):
        reader.read_at(7, bytearray(9))
        assert piece == PATTERN[index * CHUNK_BYTES :][:CHUNK_BYTES]


def test_threads_share_one_reader() -> None:
    """Many threads at many offsets each get their own bytes."""
    reader = opener(reference(PATTERN))

    def check(offset: int) -> bool:
        buffer = bytearray(70_000)
        count = reader.read_at(offset, buffer)
        return buffer[:count] == PATTERN[offset : offset + 70_000]

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(check, range(0, len(PATTERN), 1777)))


class YieldingFile(io.BytesIO):
    """A file in memory that lets other threads run between seek and read."""

    def read(self, size: int | None = -1) -> bytes:
        """Wait, then read."""
        time.sleep(0.0005)
        return super().read(size)


def test_files_without_descriptor_are_locked() -> None:
    """Threads that share one file position do not move it under each other."""
    source = read_at(YieldingFile(PATTERN))

    def check(offset: int) -> bool:
        buffer = bytearray(100)
        return source(offset, memoryview(buffer)) == 100 and buffer == PATTERN[offset : offset + 100]

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(check, range(0, 100_000, 999)))


def test_negative_offset() -> None:
    """A negative offset is the caller's mistake, not the file's."""
    with pytest.raises(ValueError, match="negative offset -1"):
        opener(reference(b"")).read_at(-1, bytearray(1))


def test_file_shorter_than_announced() -> None:
    """A file that shrank under the reader is a payload failure."""
    sealed = reference(PATTERN)
    reader = Opener(KEY, read_at(io.BytesIO(sealed[:-1])), start=0, size=len(sealed))
    with pytest.raises(PayloadFailure, match="the file ends inside it"):
        _ = reader.plaintext_size


class SlowFile(io.RawIOBase):
    """An unbuffered file that takes 1,000 bytes at a time, and only so many in all."""

    def __init__(self, room_bytes: int) -> None:
        """Give the file its room."""
        self.taken = bytearray()
        self._room_bytes = room_bytes

    def write(self, data: object) -> int:
        """Take a part."""
        assert isinstance(data, memoryview)
        part = data[: min(1000, self._room_bytes - len(self.taken))]
        self.taken += part
        return len(part)


def test_short_writes_are_continued() -> None:
    """A sink that takes less than it is given still gets everything."""
    out = SlowFile(10**6)
    sealer = Sealer(KEY, out)
    sealer.write(PATTERN)
    sealer.finish()
    assert bytes(out.taken) == reference(PATTERN)


def test_full_sink_ends_the_payload_for_good() -> None:
    """After a failed write neither more data nor the final chunk is accepted."""
    sealer = Sealer(KEY, SlowFile(70_000))
    with pytest.raises(OSError, match="could not be written"):
        sealer.write(PATTERN)
    with pytest.raises(ValueError, match="finished, or failed before"):
        sealer.write(b"more")
    with pytest.raises(ValueError, match="finished, or failed before"):
        sealer.finish()


def test_write_all_of_nothing() -> None:
    """An empty write asks the sink for nothing."""
    write_all(io.BytesIO(), b"")
