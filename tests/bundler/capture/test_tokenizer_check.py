"""What a tokenizer.json may hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bundler.capture.tokenizer import TOKENIZER_BYTES, TokenizerFacts, check, facts_of
from bundler.format.errors import BadInput

SMALL: dict[str, Any] = {
    "version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
    "pre_tokenizer": {"type": "Whitespace"}, "post_processor": None, "decoder": None,
    "model": {"type": "WordLevel", "vocab": {"a": 0, "b": 1}, "unk_token": "a"},
}  # fmt: skip


def test_the_demo_tokenizer(tmp_path: Path, minilm_files: dict[str, bytes]) -> None:
    """MiniLM's facts arrive through the confined child, its own cut at 128 tokens among them."""
    (tmp_path / "tokenizer.json").write_bytes(minilm_files["tokenizer.json"])
    special = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    assert check(tmp_path / "tokenizer.json") == TokenizerFacts("WordPiece", 30522, special, 128)


def test_a_small_tokenizer() -> None:
    """The least that loads."""
    assert facts_of(json.dumps(SMALL).encode()) == TokenizerFacts("WordLevel", 2, (), None)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "not a tokenizer.json"),
        (b"{}", "not a tokenizer.json"),
        (json.dumps(SMALL | {"auto_map": {"AutoTokenizer": "evil.Tokenizer"}}).encode(), r"\['auto_map'\]"),
        (json.dumps(SMALL | {"model": {"type": "Custom"}}).encode(), "library refuses it"),
        (json.dumps(SMALL | {"pre_tokenizer": {"type": "Python"}}).encode(), "library refuses it"),
        (json.dumps(SMALL | {"model": {"type": "WordLevel", "vocab": {}, "unk_token": "a"}}).encode(), "is empty"),
        (b" " * (TOKENIZER_BYTES + 1), "longer than"),
    ],
)
def test_anything_else_is_refused(data: bytes, words: str) -> None:
    """Not JSON, not a tokenizer, parts that name code, or what the library does not know."""
    with pytest.raises(BadInput, match=words):
        facts_of(data)


def test_an_error_names_the_file(tmp_path: Path) -> None:
    """What the child refuses is told with the file's name."""
    (tmp_path / "t.json").write_bytes(b"{}")
    with pytest.raises(BadInput, match=r"t\.json: it is not a tokenizer"):
        check(tmp_path / "t.json")
