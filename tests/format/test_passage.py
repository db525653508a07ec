"""Chunks that are checked while a volume passes by: whatever the pieces, each byte of each chunk counts."""

import hashlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundler.format.errors import BadBundle
from bundler.format.index import Chunk
from bundler.format.passage import check_pieces

DATA = random.Random(3).randbytes(500)


def chunk(offset: int, length: int) -> Chunk:
    return Chunk(hashlib.sha256(DATA[offset : offset + length]).hexdigest(), 0, offset, length)


def pieces(data: bytes, length: int) -> list[memoryview]:
    return [memoryview(data)[start : start + length] for start in range(0, len(data), length)]


PLACES = st.lists(
    st.tuples(st.integers(0, 499), st.integers(1, 200)).map(lambda at: (at[0], min(at[1], 500 - at[0]))),
    min_size=1,
    max_size=8,
    unique=True,
)


@given(PLACES, st.integers(1, 600), st.integers(0, 499))
def test_every_byte_of_every_chunk_counts(places: list[tuple[int, int]], length: int, flipped: int) -> None:
    """Whole data passes; one changed byte is found exactly where a chunk covers it, overlaps included."""
    chunks = sorted((chunk(*place) for place in places), key=lambda one: (one.offset, one.length))
    check_pieces(chunks, pieces(DATA, length), "vol")
    changed = bytearray(DATA)
    changed[flipped] ^= 1
    if any(one.offset <= flipped < one.offset + one.length for one in chunks):
        with pytest.raises(BadBundle, match="of vol is not what was signed"):
            check_pieces(chunks, pieces(bytes(changed), length), "vol")
    else:
        check_pieces(chunks, pieces(bytes(changed), length), "vol")


@pytest.mark.parametrize("end", [0, 49, 99, 250, 299])
def test_a_volume_that_ends_early_is_refused(end: int) -> None:
    """Before a chunk begins, and inside one."""
    with pytest.raises(BadBundle, match="before its last chunk does"):
        check_pieces([chunk(0, 50), chunk(200, 100)], pieces(DATA[:end], 64), "vol")
