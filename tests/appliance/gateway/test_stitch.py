"""The joint of two parts of an answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.gateway.stitch import OVERLAP_CHARS_MAX, OVERLAP_CHARS_MIN, Joint


def _dropped(tail: str, pieces: list[str]) -> int:
    joint = Joint(tail)
    for piece in pieces:
        if (size := joint.dropped(piece)) is not None:
            return size
    return joint.dropped("", last=True) or 0


@pytest.mark.parametrize(
    ("tail", "pieces", "size"),
    [
        ("the quick brown fox", ["quick brown fox jumps"], 15),
        ("the quick brown fox", ["qu", "ick brown", " fox jumps"], 15),
        ("the quick brown fox", [" jumps over"], 0),
        ("the number is 1", ["1"], 0),  # 11, and not 1: short repetitions are meant
        ("ha ha ha ha ha ha ha ", ["ha ha ha ha "], 12),
        ("ha ha ha ha ha ha ha ", ["ha ha"], 0),
        ("", ["anything at all"], 0),
        ("x" * 200, ["x" * 200], OVERLAP_CHARS_MAX),
    ],
)
def test_a_repetition_is_found_however_it_is_cut(tail: str, pieces: list[str], size: int) -> None:
    """Of 8 to 64 characters, the longest one, also where the head ends before it is plain."""
    assert _dropped(tail, pieces) == size


@given(tail=st.text("ab ", max_size=80), head=st.text("ab ", max_size=80), step=st.integers(1, 9))
def test_pieces_change_nothing(tail: str, head: str, step: int) -> None:
    """What is dropped is the longest repetition, by trying all."""
    sizes = [n for n in range(OVERLAP_CHARS_MIN, OVERLAP_CHARS_MAX + 1) if n <= len(tail) and tail[-n:] == head[:n]]
    pieces = [head[at : at + step] for at in range(0, len(head), step)]
    assert _dropped(tail, pieces) == max(sizes, default=0)
