"""Vectors of earlier builds: the same rows, computed once, unreadable to others."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from bundler.embedding import remembered
from bundler.embedding.child import ConfinedEncoder
from bundler.embedding.remembered import RememberingEncoder
from bundler.embedding.vector_files import VectorFiles, owner_of
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
    owner: str = "one",
) -> RememberingEncoder:
    files = folder.with_name("files")
    files.mkdir(exist_ok=True)
    for name, data in zip(("graph", "tokenizer"), encoder_parts, strict=True):
        (files / name).write_bytes(data)
    encoder = ConfinedEncoder(files / "graph", files / "tokenizer", max_tokens=max_tokens, reading=reading)
    return RememberingEncoder(encoder, files=VectorFiles(folder, owner), identity=lambda: identity)


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
    (path,) = (tmp_path / "kept").rglob("*.age")
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
    (path,) = (tmp_path / "kept").rglob("*.age")
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


def test_customers_of_one_account_keep_their_own(tmp_path: Path, encoder_parts: tuple[bytes, bytes]) -> None:
    """With the same model and keyring neither loses its vectors to the other, nor is told which texts that one had."""
    identity, kept = age.X25519Identity.generate(), tmp_path / "kept"
    for owner, texts in (("one", TEXTS), ("two", TEXTS[:1]), ("two", ["In the sea."])):
        encoder = remembering(encoder_parts, kept, identity, owner=owner)
        encoder.embed(texts)
        assert encoder.fresh == len(set(texts))
        encoder.save()
    again = remembering(encoder_parts, kept, identity, owner="one")
    again.embed(TEXTS)
    assert again.fresh == 0
    assert {path.name for path in kept.iterdir()} == {"one", "two"}
    assert {path.stat().st_mode & 0o777 for path in (kept, *kept.iterdir())} == {0o700}
    assert {path.stat().st_mode & 0o777 for path in kept.glob("*/*.age")} == {0o600}


def test_an_owner_is_a_profile_of_a_repository(tmp_path: Path) -> None:
    """However its path is written; the name of the folder tells no customer."""
    (tmp_path / "link").symlink_to("repository")
    owner = owner_of(tmp_path / "repository", "contoso")
    assert owner == owner_of(tmp_path / "link", "contoso")
    assert len({owner, owner_of(tmp_path / "repository", "fabrikam"), owner_of(tmp_path / "other", "contoso")}) == 3
    assert "contoso" not in owner


def test_what_all_customers_shared_goes_and_what_is_not_ours_stays(tmp_path: Path) -> None:
    """Files of builders before this one are read by none; a link among them is no way out of the folder."""
    kept, outside = tmp_path / "kept", tmp_path / "outside"
    outside.write_bytes(b"kept")
    kept.mkdir()
    (kept / f"{'a' * 64}.age").write_bytes(b"old")
    (kept / f"{'b' * 64}.age").symlink_to(outside)
    (kept / "notes.age").write_bytes(b"somebody's")
    files = VectorFiles(kept, "one")
    files.write(files.path("model"), b"new")
    assert {path.name for path in kept.iterdir()} == {"one", "notes.age"}
    assert outside.read_bytes() == b"kept"


def test_those_not_used_for_longest_go_first(tmp_path: Path) -> None:
    """The bound is for all owners together, and never costs a build what it has just made."""
    ages = {"a": 30, "b": 20, "c": 10}
    for owner, seconds in ages.items():
        files = VectorFiles(tmp_path / "kept", owner)
        path = files.path("model")
        files.write(path, bytes(40))
        os.utime(path, (1_000_000 - seconds, 1_000_000 - seconds))
    VectorFiles(tmp_path / "kept", "d", most_bytes=100).write(files.path("other"), bytes(50))
    left = [path.parent.name for path in (tmp_path / "kept").rglob("*.age")]
    assert sorted(left) == ["c", "c"]
    fresh = VectorFiles(tmp_path / "kept", "e", most_bytes=10)
    fresh.write(fresh.path("model"), bytes(50))
    assert [path.parent.name for path in (tmp_path / "kept").rglob("*.age")] == ["e"]
