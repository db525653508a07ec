"""Cuts between rows: where they are, and that an edit leaves the pieces around it alone."""

from __future__ import annotations

import hashlib
import itertools
import json
import random
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bundler.capture.row_cuts import row_cuts
from bundler.format.chunking import spans
from bundler.format.limits import CHUNK_BYTES_SMALL

KB = 1_000


def pieces(path: Path) -> dict[str, int]:
    """Lengths of the pieces of a file by digest, as a build cuts it."""
    data = path.read_bytes()
    found = list(spans(len(data), row_cuts(path), CHUNK_BYTES_SMALL))
    assert sum(length for _, length in found) == len(data)
    return {hashlib.sha256(data[start : start + length]).hexdigest(): length for start, length in found}


def vectors(path: Path, rows: np.ndarray) -> dict[str, int]:
    np.save(path, rows)
    return pieces(path)


def fresh(before: dict[str, int], after: dict[str, int]) -> int:
    return sum(length for digest, length in after.items() if digest not in before)


def test_a_row_in_the_middle_makes_few_pieces_new(tmp_path: Path) -> None:
    """One wording more among 2,000, at the front, in the middle or at the end, and one less."""
    rows = np.random.default_rng(1).normal(size=(2_000, 384)).astype(np.float32)
    before = vectors(tmp_path / "v.npy", rows)
    whole = (tmp_path / "v.npy").stat().st_size
    assert 40 <= len(before) <= 200
    for place in (0, 1_000, 2_000):
        after = vectors(tmp_path / "v.npy", np.insert(rows, place, 0.5, axis=0))
        assert fresh(before, after) < 0.06 * whole
    assert fresh(before, vectors(tmp_path / "v.npy", np.delete(rows, 700, axis=0))) < 0.06 * whole


def test_lines_too(tmp_path: Path) -> None:
    """An answer that was changed and an entry that was added move no other piece."""
    drawn, path = random.Random(1), tmp_path / "faq.jsonl"
    lines = [json.dumps({"id": number, "answer": "x" * drawn.randint(100, 900)}) + "\n" for number in range(400)]
    path.write_text("".join(lines))
    before, whole = pieces(path), path.stat().st_size
    lines[200] = lines[200].replace("x", "y", 3)
    lines.insert(7, json.dumps({"id": "new"}) + "\n")
    path.write_text("".join(lines))
    assert 0 < fresh(before, pieces(path)) < 0.3 * whole


def test_a_large_file_has_a_bounded_number_of_pieces(tmp_path: Path) -> None:
    """Each piece is a line of the index, which travels with every bundle."""
    rows = np.random.default_rng(1).integers(0, 2**31, size=(1_200_000, 16), dtype=np.int32)
    np.save(tmp_path / "v.npy", rows)
    assert 200 < len(row_cuts(tmp_path / "v.npy")) < 2_500


def test_rows_that_are_all_the_same_are_not_cut_everywhere(tmp_path: Path) -> None:
    """Zeros would choose every row or none: pieces have a least length, and the longest chunk bounds the others."""
    np.save(tmp_path / "v.npy", np.zeros((5_000, 384), dtype=np.float32))
    found = row_cuts(tmp_path / "v.npy")
    assert all(late - early >= 8 * 1024 for early, late in itertools.pairwise(found))


def test_other_files_are_not_cut(tmp_path: Path) -> None:
    """A graph or a licence has no rows."""
    (tmp_path / "licence.txt").write_text("MIT\n" * 100_000)
    assert row_cuts(tmp_path / "licence.txt") == ()


@given(st.lists(st.binary(max_size=40).filter(lambda line: b"\n" not in line), max_size=200), st.integers(0, 50))
def test_every_byte_is_in_one_piece(tmp_path_factory: object, lines: list[bytes], width: int) -> None:
    """Any lines, empty ones too, and arrays of any width: the cuts lie in the file, in order, between rows."""
    folder = tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]
    path = folder / "drawn.jsonl"
    path.write_bytes(b"\n".join(lines))
    starts = {0, *itertools.accumulate(len(line) + 1 for line in lines)}
    found = row_cuts(path)
    assert set(found) <= starts
    assert list(found) == sorted(set(found))
    assert all(cut < max(1, path.stat().st_size) for cut in found)
    array = folder / "drawn.npy"
    np.save(array, np.zeros((len(lines), width), dtype=np.float32))
    assert sum(length for _, length in spans(array.stat().st_size, row_cuts(array), 4096)) == array.stat().st_size
