"""llama.cpp's sampler chains, one a request. Only the child imports this."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

import llama_cpp

from appliance.engine.options import Options

_PENALTY_TOKENS = 64


def make_sampler(options: Options, vocabulary_size: int) -> Any:
    """Returns the chain for a request; `free_sampler` must follow."""
    chain = llama_cpp.llama_sampler_chain_init(llama_cpp.llama_sampler_chain_default_params())
    for link in _links(options, vocabulary_size):
        llama_cpp.llama_sampler_chain_add(chain, link)
    return chain


def free_sampler(chain: Any) -> None:
    llama_cpp.llama_sampler_free(chain)


def _links(options: Options, vocabulary_size: int) -> Iterator[Any]:
    """The chain in the order of llama.cpp's own programs: penalties, cut-offs, temperature, draw."""
    if options.temperature == 0:
        yield llama_cpp.llama_sampler_init_greedy()
        return
    yield llama_cpp.llama_sampler_init_penalties(
        vocabulary_size,
        _PENALTY_TOKENS,
        options.repeat_penalty,
        options.frequency_penalty,
        options.presence_penalty,
    )
    if options.top_k:
        yield llama_cpp.llama_sampler_init_top_k(options.top_k)
    if options.top_p < 1:
        yield llama_cpp.llama_sampler_init_top_p(options.top_p, 1)
    if options.min_p > 0:
        yield llama_cpp.llama_sampler_init_min_p(options.min_p, 1)
    yield llama_cpp.llama_sampler_init_temp(options.temperature)
    yield llama_cpp.llama_sampler_init_dist(options.seed if options.seed is not None else secrets.randbits(31))
