"""Grammars by llguidance: which tokens may come next. Only the child imports this; every step has its limits."""

from __future__ import annotations

import threading
from collections import OrderedDict
from weakref import WeakValueDictionary

import numpy as np
from llguidance import LLMatcher, LLParserLimits, LLTokenizer
from llguidance.llamacpp import lltokenizer_from_vocab
from numpy.typing import NDArray

from appliance.engine.model import Model
from appliance.engine.options import Refused

# A state takes 1 to 2 kB: 20,000 bound what one request may hold at 40 MB. A step may take about 20 ms.
_LIMITS = LLParserLimits(max_lexer_states=20_000, verbose_errors=False)
_BITS = 32
# Compiled grammars by the bytes of their text, of which 128 KiB can take 30 MiB (measured): of one request, of all that
# are kept for the next, and of these with those that requests hold.
_MOST_BYTES = _KEPT_BYTES = 256 * 1024
_HELD_BYTES = 2 * _MOST_BYTES


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


class Compiled:
    """A grammar, compiled once: the choices of a request have matchers of their own from it."""

    def __init__(self, start: LLMatcher, vocabulary_size: int) -> None:
        self._start, self._size = start, vocabulary_size

    def matcher(self) -> Matcher:
        """Returns a matcher at the grammar's start; nothing is compiled."""
        return Matcher(self._start.deep_copy(), self._size)


class Grammars:
    """Compiles grammars for one model; safe to share between threads.

    A request holds its compiled grammar, the same for all who ask for the same, from its preparation to its end: the
    thread that calls llama.cpp compiles nothing. What was asked for last is kept within _KEPT_BYTES for the next, and
    gives way to what requests hold.
    """

    def __init__(self, model: Model) -> None:
        self._model, self._lock = model, threading.Lock()
        self._tokenizer: LLTokenizer | None = None
        self._living: WeakValueDictionary[str, Compiled] = WeakValueDictionary()
        self._kept: OrderedDict[str, Compiled] = OrderedDict()
        self._begun_bytes = 0

    @property
    def held_bytes(self) -> int:
        """The texts of all grammars that requests hold or that are kept, in characters, and of those in the making."""
        return sum(map(len, self._living.keys())) + self._begun_bytes

    @property
    def kept_bytes(self) -> int:
        """The texts of the grammars that are kept, in characters."""
        return sum(map(len, self._kept))

    def compiled(self, grammar: str) -> Compiled:
        """Returns a grammar ready for matchers.

        Raises:
            Refused: It or a schema in it cannot be followed, the message says what of it; or too many are in hand.
        """
        size = len(grammar)
        if size > _MOST_BYTES:
            words = f"the JSON schemas of a request may make a grammar of {_MOST_BYTES} bytes, these make {size}"
            raise Refused(words, "invalid_schema")
        with self._lock:
            if (found := self._living.get(grammar)) is not None:
                return self._keep(grammar, found)
            self._make_room(size)
            self._begun_bytes += size
        try:
            made = Compiled(self._start(grammar), self._model.vocabulary_size)
        finally:
            with self._lock:
                self._begun_bytes -= size
        with self._lock:
            self._living[grammar] = made
            return self._keep(grammar, made)

    def _keep(self, grammar: str, compiled: Compiled) -> Compiled:
        self._kept[grammar] = compiled
        self._kept.move_to_end(grammar)
        while self.kept_bytes > _KEPT_BYTES:  # it ends before this one, which alone is within
            self._kept.popitem(last=False)
        return compiled

    def _make_room(self, size: int) -> None:
        while self._kept and self.held_bytes + size > _HELD_BYTES:
            self._kept.popitem(last=False)
        if self.held_bytes + size > _HELD_BYTES:
            raise Refused("the requests in hand have too many different JSON schemas", "queue_full", 429)

    def _start(self, grammar: str) -> LLMatcher:
        with self._lock:  # a quarter of a second, once
            if self._tokenizer is None:
                self._tokenizer = lltokenizer_from_vocab(self._model.vocabulary, eos_token=self._model.ends_of_answers)
        matcher = LLMatcher(self._tokenizer, grammar, limits=_LIMITS, log_level=0)
        if matcher.is_error():
            raise Refused(f"the JSON schema cannot be followed: {_fact(matcher.get_error())}", "invalid_schema")
        first = matcher.deep_copy()
        first.compute_bitmask()
        if first.is_error():  # it compiles, and shows only here: `{"$ref": "#"}`
            raise Refused("no JSON can follow the schema: it refers to itself and to nothing else", "invalid_schema")
        return matcher


def _fact(error: str) -> str:
    """Returns what is wrong, without the grammar that the library quotes; a regular expression's fault comes last."""
    lines = [line.strip() for line in error.splitlines() if line.strip()]
    return " ".join([*lines[:2], *(line for line in lines[2:] if line.startswith("error:"))])[:300]
