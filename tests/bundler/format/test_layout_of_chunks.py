import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundler.format.chunking import Placer, merged_cuts, spans
from bundler.format.errors import BadBundle
from bundler.format.index import Chunk
from bundler.format.padding import pad_document, padme, unpad_document


@given(st.integers(0, 5_000), st.lists(st.integers(-5, 6_000)), st.integers(1, 700))
def test_spans_cover_the_asset_and_respect_cuts(length: int, cuts: list[int], chunk: int) -> None:
    """Chunks are contiguous, none is too long, and each cut inside the asset begins one."""
    found = list(spans(length, cuts, chunk))
    assert b"".join(bytes(size) for _, size in found) == bytes(length)
    assert all(0 < size <= chunk for _, size in found)
    starts = {offset for offset, _ in found}
    assert {cut for cut in cuts if 0 < cut < length} <= starts


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 100)), max_size=60))
def test_placer_never_crosses_or_overlaps(chunks: list[tuple[int, int]]) -> None:
    """Distinct chunks get distinct places within a volume's size; a known one gets its old place."""
    placer = Placer(volume_bytes=120)
    seen: dict[tuple[str, int], Chunk] = {}
    for name, length in chunks:
        key = (f"{name}-{length}", length)
        chunk, new = placer.place(*key)
        assert new == (key not in seen)
        assert seen.setdefault(key, chunk) == chunk
    taken = sorted((c.volume, c.offset, c.offset + c.length) for c in seen.values())
    assert all(end <= 120 for _, _, end in taken)
    assert all(a[0] != b[0] or a[2] <= b[1] for a, b in itertools.pairwise(taken))


def test_cuts_that_would_make_tiny_chunks_are_merged() -> None:
    """Starts nearer than the least distance share a chunk."""
    assert merged_cuts([0, 10, 50, 120, 121, 300], 100) == (0, 120, 300)


@given(st.integers(0, 2**50))
def test_padme_costs_at_most_twelve_percent(length: int) -> None:
    """The bound of the PURBs paper, and padding what is padded adds nothing."""
    padded = padme(length)
    assert length <= padded <= length * 1.12 + 1
    assert padme(padded) == padded


@given(st.binary(max_size=300).filter(lambda data: b"\n" not in data))
def test_documents_survive_padding(document: bytes) -> None:
    """A padded document gives the document back."""
    assert unpad_document(pad_document(document), "it") == document


@pytest.mark.parametrize("padded", [b"", b"{}", b"{}\n\0\0\0\0", b"{}\nx"])
def test_foreign_padding_is_refused(padded: bytes) -> None:
    """Bytes behind the document that we would not write are refused."""
    with pytest.raises(BadBundle):
        unpad_document(padded, "it")
