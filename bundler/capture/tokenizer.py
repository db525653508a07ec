"""Checks a `tokenizer.json`: it loads, and holds only the tokenizers library's own parts; in a confined child."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from bundler.confine import Confinement, run_confined
from bundler.format.errors import BadInput
from bundler.format.limits import MIB
from bundler.format.record import from_json, to_json

TOKENIZER_BYTES = 64 * MIB
# The box tokenises what anybody sends it; a good tokenizer takes milliseconds for these.
PATIENCE_S = 2.0
_REPEATED = ("a", " ", "1", "-", "\n", "a ", "ab", "\u00e9", "\u4e2d", "'s", ".,", "\U0001f600", "aA1 ")
_PARTS = frozenset(
    (
        "version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer", "post_processor", "decoder",
        "model",
    )
)  # fmt: skip


@dataclass(frozen=True)
class TokenizerFacts:
    """What a tokenizer says of itself.

    Attributes:
        model: "WordPiece", "BPE", "Unigram" or "WordLevel".
        vocabulary: Number of tokens, added ones included.
        special: The special tokens, in the order of the file.
        truncates_at: Tokens at which the file itself asks to cut, or None.
    """

    model: str
    vocabulary: int
    special: tuple[str, ...]
    truncates_at: int | None


def check(path: Path) -> TokenizerFacts:
    """Loads the tokenizer in a confined child.

    Raises:
        BadInput: Not a tokenizer.json, too long, with parts that name code elsewhere, the library refuses it, or some
            text takes it far longer than its length.
    """
    result = run_confined(
        "bundler.capture.tokenizer:check_stream",
        {"name": path.name},
        inputs={"tokenizer": path},
        confinement=Confinement(cpu_s=60, wall_s=180),
    )
    return from_json(TokenizerFacts, result, f"the facts of {path.name}")


def check_stream(
    request: Mapping[str, Any], inputs: Mapping[str, IO[bytes]], _outputs: Mapping[str, IO[bytes]]
) -> dict[str, Any]:
    """The child's side of `check`: reads the input `tokenizer`, returns the facts."""
    data = inputs["tokenizer"].read(TOKENIZER_BYTES + 1)
    try:
        return dict(to_json(facts_of(data)))
    except BadInput as error:
        raise BadInput(f"{request['name']}: {error.fact}", error.hint) from error


def facts_of(data: bytes) -> TokenizerFacts:
    """Checks the bytes of a tokenizer.json.

    Raises:
        BadInput: As `check`.
    """
    from tokenizers import Tokenizer  # only the confined child loads the native library

    document = _document(data)
    try:
        loaded = Tokenizer.from_buffer(data)
    except Exception as error:  # the library raises plain Exception for everything
        raise BadInput(f"the tokenizers library refuses it: {error}") from error
    size = loaded.get_vocab_size(with_added_tokens=True)
    if size == 0:
        raise BadInput("its vocabulary is empty")
    _try_patience(loaded)
    truncation = document.get("truncation")
    return TokenizerFacts(
        model=type(loaded.model).__name__,
        vocabulary=size,
        special=tuple(token.content for token in loaded.get_added_tokens_decoder().values() if token.special),
        truncates_at=truncation["max_length"] if truncation else None,
    )


def _try_patience(loaded: Any) -> None:
    """Encodes texts that patterns which try every way of a match take for ever with, each in growing lengths."""
    for unit in _REPEATED:
        for length in (100, 1_000, 20_000):
            start = time.process_time()
            try:
                loaded.encode(unit * (length // len(unit)) + "\x00")
            except (MemoryError, KeyboardInterrupt):
                raise
            except BaseException as error:  # a panic of the library is no Exception
                raise BadInput(f"it fails on {length} characters of {unit!r}: {error}") from error
            took = time.process_time() - start
            if took > PATIENCE_S:
                raise BadInput(f"it takes {took:.1f} s for {length} characters of {unit!r}, at most {PATIENCE_S:g} s")


def _document(data: bytes) -> dict[str, Any]:
    if len(data) > TOKENIZER_BYTES:
        raise BadInput(f"it is longer than {TOKENIZER_BYTES} bytes")
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"it is not JSON: {error}") from error
    if not isinstance(document, dict) or "model" not in document:
        raise BadInput("it is not a tokenizer.json: it has no model")
    unknown = sorted(document.keys() - _PARTS)
    if unknown:
        raise BadInput(f"it holds parts that the tokenizers library does not have: {unknown}")
    return document
