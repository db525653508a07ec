"""Vectors of earlier builds: the same rows, computed once, unreadable to others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bundler.embedding import remembered
from bundler.embedding.child import ConfinedEncoder
from bundler.embedding.remembered import RememberingEncoder
from bundler.format import age
from bundler.knowledge.encoder import Encoder
from bundler.knowledge.reading import OURS, Reading

TEXTS = ["Where is the lifeboat?", "On deck.", "Where is the lifeboat?"]


def remembering(
    encoder_parts: tuple[bytes, bytes],
    folder: Path,
    identity: age.X25519Identity,
    max_tokens: int = 256,
    reading: Reading = OURS,
) -> RememberingEncoder:
    files = folder.with_name("files")
    files.mkdir(exist_ok=True)
    for name, data in zip(("graph", "tokenizer"), encoder_parts, strict=True):
        (files / name).write_bytes(data)
    encoder = ConfinedEncoder(files / "graph", files / "tokenizer", max_tokens=max_tokens, reading=reading)
    return RememberingEncoder(encoder, folder=folder, identity=lambda: identity)


def test_a_second_build_embeds_only_what_is_new(tmp_path: Path, encoder_parts: tuple[bytes, bytes]) -> None:
    """Known rows come back bit for bit; what a build did not use is forgotten."""
    identity = age.X25519Identity.generate()
    first = remembering(encoder_parts, tmp_path / "kept", identity)
    rows = first.embed(TEXTS)
    first.save()
    assert first.fresh == 2
    assert np.allclose(rows, Encoder(*encoder_parts, max_tokens=256).embed(TEXTS), atol=1e-6)
    second = remembering(encoder_parts, tmp_path / "kept", identity)
    again = second.embed([*TEXTS[:1], "In the sea."])
    second.save()
    assert second.fresh == 1
    assert np.array_equal(again[0], rows[0])
    third = remembering(encoder_parts, tmp_path / "kept", identity)
    third.embed(TEXTS)
    assert third.fresh == 1
    assert third.embed([]).shape == (0, 384)


def test_the_cache_is_sealed_and_may_be_lost(tmp_path: Path, encoder_parts: tuple[bytes, bytes]) -> None:
    """Another keyring and a damaged file start anew; no vector lies open on the disk."""
    one = remembering(encoder_parts, tmp_path / "kept", age.X25519Identity.generate())
    rows = one.embed(TEXTS)
    one.save()
    (path,) = (tmp_path / "kept").iterdir()
    assert rows[0].tobytes()[:16] not in path.read_bytes()
    other = remembering(encoder_parts, tmp_path / "kept", age.X25519Identity.generate())
    other.embed(TEXTS)
    assert other.fresh == 2
    path.write_bytes(b"damaged")
    third = remembering(encoder_parts, tmp_path / "kept", age.X25519Identity.generate())
    third.embed(TEXTS)
    assert third.fresh == 2


def test_what_the_next_build_would_not_read_is_not_kept(
    tmp_path: Path, encoder_parts: tuple[bytes, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does a cache that is too long stop a build: its texts are embedded anew."""
    identity = age.X25519Identity.generate()
    one = remembering(encoder_parts, tmp_path / "kept", identity)
    one.embed(TEXTS)
    one.save()
    monkeypatch.setattr(remembered, "_CACHE_BYTES", 1_000)
    monkeypatch.setattr(remembered, "_PLAIN_BYTES", 900)
    other = remembering(encoder_parts, tmp_path / "kept", identity)
    other.embed(TEXTS)
    assert other.fresh == 2
    (path,) = (tmp_path / "kept").iterdir()
    before = path.read_bytes()
    other.save()
    assert path.read_bytes() == before


def test_vectors_of_another_length_or_precision_are_not_taken(
    tmp_path: Path, encoder_parts: tuple[bytes, bytes]
) -> None:
    """What decides a vector decides which cache is read; a precision is part of the graph."""
    identity = age.X25519Identity.generate()
    first = remembering(encoder_parts, tmp_path / "kept", identity)
    first.embed(TEXTS)
    first.save()
    for parts, max_tokens in ((encoder_parts, 255), ((encoder_parts[0], encoder_parts[1] + b"\n"), 256)):
        other = remembering(parts, tmp_path / "kept", identity, max_tokens)
        other.embed(TEXTS)
        assert other.fresh == 2


def test_a_passage_is_known_as_a_question_where_neither_has_a_prefix(
    tmp_path: Path, encoder_parts: tuple[bytes, bytes]
) -> None:
    """With a prefix the same words are two texts with two rows."""
    identity = age.X25519Identity.generate()
    plain = remembering(encoder_parts, tmp_path / "kept", identity)
    assert np.array_equal(plain.embed(TEXTS), plain.embed_passages(TEXTS))
    assert plain.fresh == 2
    asked = remembering(encoder_parts, tmp_path / "kept", identity, reading=Reading(query_prefix="query: "))
    assert not np.array_equal(asked.embed(TEXTS)[0], asked.embed_passages(TEXTS)[0])
    assert asked.fresh == 4
    assert np.allclose(asked.embed_passages(TEXTS), plain.embed(TEXTS), atol=1e-6)
