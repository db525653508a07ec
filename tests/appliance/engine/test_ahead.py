from __future__ import annotations

import random
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.engine import transfer
from appliance.engine.ahead import BUFFER_BYTES, SLOT_BYTES, SLOTS, Ahead, bounds
from appliance.engine.reading import READ_BYTES, BytesReader
from bundler.format.errors import BadBundle

MIB = 2**20
DATA = random.Random(1).randbytes(64 * MIB)
# Short pieces, more than there are slots, and behind them a tensor of two full ones and a rest.
STARTS = (*range(0, 51 * MIB, 3 * MIB), 51 * MIB, 55 * MIB, 59 * MIB, 60 * MIB)
FULL = STARTS.index(51 * MIB)


class Chunked(BytesReader):
    """A model in chunks that notes which were read; `bad` ones are not what was signed."""

    def __init__(self, bad: frozenset[int] = frozenset()) -> None:
        super().__init__(DATA)
        self.starts, self._bad = STARTS, bad
        self.read: list[int] = []
        self.told = threading.Condition()

    def read_at(self, offset: int, buffer: memoryview) -> int:
        with self.told:
            self.read.append(STARTS.index(offset))
            self.told.notify_all()
        if self.read[-1] in self._bad:
            raise BadBundle(f"chunk {self.read[-1]} is not what was signed")
        return super().read_at(offset, buffer)

    def until_read(self, count: int) -> list[int]:
        with self.told:
            assert self.told.wait_for(lambda: len(self.read) >= count, 30)
            return sorted(self.read)


@contextmanager
def ahead(reader: Chunked) -> Iterator[tuple[Ahead, bytearray]]:
    memory = bytearray(BUFFER_BYTES)
    before = threading.active_count()
    made = Ahead(reader, memoryview(memory))
    try:
        yield made, memory
    finally:
        made.close()
        assert threading.active_count() == before


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, len(DATA) - 1), min_size=1, max_size=60), st.booleans())
def test_every_byte_is_the_model_s(offsets: list[int], in_order: bool) -> None:
    """In any order, each piece holds its bytes from when it is handed out until the next one is."""
    with ahead(Chunked()) as (pieces, memory):
        for offset in sorted(offsets) if in_order else offsets:
            piece = pieces.get(offset)
            assert piece.start <= offset < piece.end
            start = piece.slot * SLOT_BYTES
            assert memory[start : start + piece.end - piece.start] == DATA[piece.start : piece.end]


def test_the_rest_of_a_tensor_is_fetched_before_it_is_asked_for() -> None:
    """Behind a full piece come the next two, but nothing behind a short one, which ends a tensor: the jump is new."""
    reader = Chunked()
    with ahead(reader) as (pieces, _):
        pieces.get(STARTS[FULL])
        assert reader.until_read(3) == [FULL, FULL + 1, FULL + 2]
        pieces.get(STARTS[FULL + 2])
        pieces.get(STARTS[9])
        assert reader.read[-1] == 9


def test_a_jump_fetches_only_what_is_asked() -> None:
    """A loader that goes from tensor to tensor pays for nothing else."""
    reader = Chunked()
    with ahead(reader) as (pieces, _):
        for number in (5, 9, 2, 12):
            pieces.get(STARTS[number])
        assert reader.read == [5, 9, 2, 12]


def test_pieces_that_are_still_here_are_not_read_again() -> None:
    """As many as there are slots, read out of order."""
    reader = Chunked()
    numbers = [1, 7, 3, 15, 9, 5, 13, 11]
    assert len(numbers) == SLOTS
    with ahead(reader) as (pieces, _):
        for number in (*numbers, *numbers):
            pieces.get(STARTS[number])
        assert reader.read == numbers


def test_a_bad_piece_fails_whoever_asks_for_it() -> None:
    """Fetched before or not; the pieces around it are given out."""
    bad = FULL + 1
    with ahead(Chunked(frozenset({bad}))) as (pieces, _):
        pieces.get(STARTS[FULL])
        for _ in range(2):
            with pytest.raises(BadBundle, match=f"chunk {bad}"):
                pieces.get(STARTS[bad])
        assert pieces.get(STARTS[bad + 1]).start == STARTS[bad + 1]
        with pytest.raises(ValueError, match="byte"):
            pieces.get(len(DATA))


def test_chunks_longer_than_a_slot_are_cut() -> None:
    """Every byte belongs to exactly one piece, which fits a slot."""
    found = bounds((0, 5 * MIB, 17 * MIB, 17 * MIB + 1), 40 * MIB)
    assert found[0] == 0
    assert found[-1] == 40 * MIB
    assert {5 * MIB, 17 * MIB, 17 * MIB + 1} <= set(found)
    assert all(0 < two - one <= SLOT_BYTES for one, two in pairwise(found))


@contextmanager
def linked(reader: Chunked) -> Iterator[tuple[transfer.RemoteReader, list[Exception | None]]]:
    """A child's reader with the parent's end in a thread."""
    mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    memory = transfer.make_buffer()
    found: list[Exception | None] = []

    def serve() -> None:
        found.append(transfer.serve_reads(mine, memory, reader, lambda _: None, lambda: None))

    thread = threading.Thread(target=serve)
    thread.start()
    with mine, theirs:
        try:
            yield transfer.RemoteReader(theirs, memory, reader.size), found
        finally:
            theirs.shutdown(socket.SHUT_RDWR)
            thread.join(30)
    assert not thread.is_alive()


def test_the_child_reads_what_the_parent_checks() -> None:
    """Any place and length, beyond pieces and beyond the end; small reads and seeks ask the parent but once a piece."""
    reader, drawn = Chunked(), random.Random(2)
    with linked(reader) as (remote, found):
        for start in STARTS[:6]:
            place = start
            while place < start + 3 * MIB:
                assert read(remote, place, READ_BYTES) == DATA[place : place + READ_BYTES]
                place += READ_BYTES
        for _ in range(40):
            place, length = drawn.randrange(len(DATA)), drawn.choice((1, 1000, 100_000, 7 * MIB))
            assert read(remote, place, length) == DATA[place : place + length]
        assert read(remote, len(DATA), 10) == b""
    assert found == [None]


def test_a_read_ends_with_its_piece() -> None:
    """What nobody needs yet is not decrypted for it."""
    reader = Chunked()
    with linked(reader) as (remote, _):
        assert remote.read_at(2 * MIB, memoryview(bytearray(4 * MIB))) == MIB
        assert reader.read == [0]


def test_the_child_gets_nothing_of_a_bad_chunk() -> None:
    """An error at its end, the reason at the parent's."""
    with linked(Chunked(frozenset({3}))) as (remote, found):
        assert read(remote, 0, 9 * MIB) == DATA[: 9 * MIB]
        with pytest.raises(OSError, match="could not read"):
            read(remote, 8 * MIB, 2 * MIB)
    assert isinstance(found[0], BadBundle)
    assert "chunk 3" in found[0].fact


def read(remote: transfer.RemoteReader, offset: int, length: int) -> bytes:
    buffer, done = bytearray(length), 0
    while count := remote.read_at(offset + done, memoryview(buffer)[done:]):
        done += count
    return bytes(buffer[:done])
