"""Draws tokens: llama.cpp's sampler chain, one a request, under a grammar where there is one. For the child alone."""

from __future__ import annotations

import ctypes
import math
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from appliance.engine.grammar import Matcher
from appliance.engine.model import Model
from appliance.engine.options import Sampling

# What llama.cpp's own programs break DRY's sequences at.
_DRY_BREAKERS = (b"\n", b":", b'"', b"*")
_SEEDS = 0xFFFFFFFF  # llama.cpp draws one of its own for this very number
_MIROSTAT_M = 100  # the value of the paper (arXiv:2007.14966)


@dataclass(frozen=True)
class Drawn:
    """A token; with log probabilities its own (natural logarithm, before penalties and grammar) and the likeliest."""

    token: int
    logprob: float | None = None
    likeliest: tuple[tuple[int, float], ...] = ()


class Sampler:
    """Draws the tokens of one answer; `free` must follow.

    Args:
        model: Whose logits are read.
        options: How to draw.
        seed: Of the random draw; None takes a fresh one.
        matcher: The grammar's state, or None.
        logprobs: How many alternatives to tell, or None for no log probabilities.
    """

    def __init__(
        self, model: Model, options: Sampling, seed: int | None, matcher: Matcher | None, logprobs: int | None
    ) -> None:
        self._model, self._matcher, self._logprobs = model, matcher, logprobs
        self._chain = llama_cpp.llama_sampler_chain_init(llama_cpp.llama_sampler_chain_default_params())
        biases = _biases(model, options)
        for link in _links(model, options, biases, secrets.randbits(31) if seed is None else seed % _SEEDS):
            llama_cpp.llama_sampler_chain_add(self._chain, link)
        # Only the largest is asked for: the chain would copy the whole vocabulary for each token to find it.
        self._largest = options.temperature == 0 and not _changing(options)
        self._tokens = np.array([token for token, _ in biases], dtype=np.intp)
        self._additions = np.array([addition for _, addition in biases], dtype=np.float32)

    @property
    def complete(self) -> bool:
        """Whether the grammar lets nothing but the end follow."""
        return self._matcher is not None and self._matcher.complete

    def draw(self, place: int) -> Drawn:
        """Draws the token that follows the row at `place` of the last batch.

        Raises:
            DeadEnd: The grammar allows none.
        """
        scores = None if self._logprobs is None else _log_softmax(self._model.logits(place))
        if self._matcher is not None:
            self._matcher.allow(self._model.logits(place))
        token = self._find_largest(place) if self._largest else self._model.sample(self._chain, place)
        if self._matcher is not None:
            self._matcher.take(token)
        if scores is None:
            return Drawn(token)
        return Drawn(token, float(scores[token]), _likeliest(scores, self._logprobs or 0))

    def _find_largest(self, place: int) -> int:
        logits = self._model.logits(place)
        if self._tokens.size:
            logits[self._tokens] += self._additions
        return int(logits.argmax())  # the first of equals, as llama.cpp has it

    def free(self) -> None:
        """Gives the chain back; nothing may be drawn after it."""
        llama_cpp.llama_sampler_free(self._chain)
        self._chain = None


def _links(model: Model, options: Sampling, biases: Sequence[tuple[int, float]], seed: int) -> Iterator[Any]:
    """The chain in the order of llama.cpp's own programs: biases, penalties, cut-offs, temperature, draw."""
    if biases:
        pairs = (llama_cpp.llama_logit_bias * len(biases))(*biases)
        yield llama_cpp.llama_sampler_init_logit_bias(model.vocabulary_size, len(biases), pairs)
    yield from _adjusting(model, options)
    if options.temperature == 0:
        yield llama_cpp.llama_sampler_init_greedy()
        return
    if options.mirostat:
        yield llama_cpp.llama_sampler_init_temp(options.temperature)
        yield _mirostat(model, options, seed)
        return
    yield from _cutting(options, seed)
    yield llama_cpp.llama_sampler_init_temp(options.temperature)
    yield llama_cpp.llama_sampler_init_dist(seed)


def _biases(model: Model, options: Sampling) -> list[tuple[int, float]]:
    biases = {token: addition for token, addition in options.logit_bias if token < model.vocabulary_size}
    if options.ignore_eos:
        biases |= dict.fromkeys(model.ends_of_answers, -math.inf)
    return list(biases.items())


def _penalties(options: Sampling) -> tuple[float, float, float] | None:
    penalties = (options.repeat_penalty, options.frequency_penalty, options.presence_penalty)
    return penalties if options.repeat_last_n and penalties != (1.0, 0.0, 0.0) else None


def _changing(options: Sampling) -> bool:
    """Says whether what was drawn changes what may be drawn next."""
    return _penalties(options) is not None or options.dry_multiplier > 0


def _adjusting(model: Model, options: Sampling) -> Iterator[Any]:
    if (penalties := _penalties(options)) is not None:
        yield llama_cpp.llama_sampler_init_penalties(model.vocabulary_size, options.repeat_last_n, *penalties)
    if options.dry_multiplier > 0:
        breakers = (ctypes.c_char_p * len(_DRY_BREAKERS))(*_DRY_BREAKERS)
        lengths = (options.dry_allowed_length, options.dry_penalty_last_n)
        numbers = (options.dry_multiplier, options.dry_base, *lengths)
        yield llama_cpp.llama_sampler_init_dry(model.vocabulary, *numbers, breakers, len(_DRY_BREAKERS))


def _mirostat(model: Model, options: Sampling, seed: int) -> Any:
    numbers = (seed, options.mirostat_tau, options.mirostat_eta)
    if options.mirostat == 1:
        return llama_cpp.llama_sampler_init_mirostat(model.vocabulary_size, *numbers, _MIROSTAT_M)
    return llama_cpp.llama_sampler_init_mirostat_v2(*numbers)


def _cutting(options: Sampling, seed: int) -> Iterator[Any]:
    if options.top_n_sigma >= 0:
        yield llama_cpp.llama_sampler_init_top_n_sigma(options.top_n_sigma)
    if options.top_k:
        yield llama_cpp.llama_sampler_init_top_k(options.top_k)
    if options.typical_p < 1:
        yield llama_cpp.llama_sampler_init_typical(options.typical_p, 1)
    if options.top_p < 1:
        yield llama_cpp.llama_sampler_init_top_p(options.top_p, 1)
    if options.min_p > 0:
        yield llama_cpp.llama_sampler_init_min_p(options.min_p, 1)
    if options.xtc_probability > 0:
        yield llama_cpp.llama_sampler_init_xtc(options.xtc_probability, options.xtc_threshold, 1, seed)


def _log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns a new array of shape (vocabulary,): the grammar changes the logits in place."""
    shifted = logits - logits.max()
    result: NDArray[np.float32] = shifted - np.log(np.exp(shifted).sum())
    return result


def _likeliest(scores: NDArray[np.float32], count: int) -> tuple[tuple[int, float], ...]:
    if not count:
        return ()
    best = np.argpartition(scores, -count)[-count:]
    ordered = best[np.argsort(-scores[best], kind="stable")]
    return tuple((int(token), float(scores[token])) for token in ordered)
