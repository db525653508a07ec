"""Grammars by llguidance: which tokens may come next. Only the child imports this; every step has its limits."""

from __future__ import annotations

import threading
from collections import OrderedDict

import numpy as np
from llguidance import LLMatcher, LLParserLimits, LLTokenizer
from llguidance.llamacpp import lltokenizer_from_vocab
from numpy.typing import NDArray

from appliance.engine.model import Model
from appliance.engine.options import Refused

# A state takes 1 to 2 kB: 20,000 bound what one request may hold at 40 MB. A step may take about 20 ms.
_LIMITS = LLParserLimits(max_lexer_states=20_000, verbose_errors=False)
_BITS = 32
# Grammars that are kept compiled, by the bytes of their text: 128 KiB of schema can take 30 MiB (measured).
_KEPT_BYTES = 256 * 1024


class DeadEnd(Exception):
    """The grammar allows no token, or became too complex on the way."""


class Matcher:
    """The state of one answer in its grammar."""

    def __init__(self, matcher: LLMatcher, vocabulary_size: int) -> None:
        self._matcher, self._size = matcher, vocabulary_size
        self._bits = np.zeros((vocabulary_size + _BITS - 1) // _BITS, dtype=np.int32)

    @property
    def complete(self) -> bool:
        """Whether nothing but the end may follow."""
        return bool(self._matcher.is_stopped())

    def allow(self, logits: NDArray[np.float32]) -> None:
        """Sets the logits of all tokens that may not follow to minus infinity, in place; shape (vocabulary,).

        Raises:
            DeadEnd: None may follow.
        """
        self._matcher.unsafe_compute_mask_ptr(self._bits.ctypes.data, self._bits.nbytes)
        if self._matcher.is_error():
            raise DeadEnd(self._matcher.get_error()[:200])
        allowed = np.unpackbits(self._bits.view(np.uint8), count=self._size, bitorder="little").astype(bool)
        if not allowed.any():
            raise DeadEnd("no token may follow")
        logits[~allowed] = -np.inf

    def take(self, token: int) -> None:
        """Notes the token that was drawn.

        Raises:
            DeadEnd: It may not follow, or the grammar became too complex.
        """
        if not self._matcher.consume_token(token):
            raise DeadEnd(self._matcher.get_error()[:200])


class Grammars:
    """Makes matchers for one model; safe to share between threads.

    A request that waits holds the text of its grammar alone. What was compiled last is kept within _KEPT_BYTES, and
    compiled again where it fell out meanwhile.
    """

    def __init__(self, model: Model) -> None:
        self._model, self._lock = model, threading.Lock()
        self._tokenizer: LLTokenizer | None = None
        self._kept: OrderedDict[str, LLMatcher] = OrderedDict()

    @property
    def kept_bytes(self) -> int:
        """The texts of the grammars that are kept compiled, in characters."""
        return sum(map(len, self._kept))

    def matcher(self, grammar: str) -> Matcher:
        """Returns a matcher at the grammar's start.

        Raises:
            Refused: The grammar or a schema in it cannot be followed; the message says what of it.
        """
        with self._lock:
            if (found := self._kept.get(grammar)) is not None:
                self._kept.move_to_end(grammar)
                return Matcher(found.deep_copy(), self._model.vocabulary_size)
        compiled = self._compiled(grammar)
        fresh = Matcher(compiled.deep_copy(), self._model.vocabulary_size)
        with self._lock:
            self._kept[grammar] = compiled
            while self.kept_bytes > _KEPT_BYTES:
                self._kept.popitem(last=False)
        return fresh

    def _compiled(self, grammar: str) -> LLMatcher:
        with self._lock:  # a quarter of a second, once
            if self._tokenizer is None:
                self._tokenizer = lltokenizer_from_vocab(self._model.vocabulary, eos_token=self._model.ends_of_answers)
        matcher = LLMatcher(self._tokenizer, grammar, limits=_LIMITS, log_level=0)
        if matcher.is_error():
            raise Refused(f"the JSON schema cannot be followed: {_fact(matcher.get_error())}", "invalid_schema")
        return matcher


def _fact(error: str) -> str:
    """Returns what is wrong, without the grammar that the library quotes; a regular expression's fault comes last."""
    lines = [line.strip() for line in error.splitlines() if line.strip()]
    return " ".join([*lines[:2], *(line for line in lines[2:] if line.startswith("error:"))])[:300]
