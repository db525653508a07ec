"""Generates one answer at a time. Blocking: it runs in a worker thread of the child, and stops when told to."""

from __future__ import annotations

import secrets
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from threading import Event
from typing import Any

import llama_cpp

from appliance.engine.model import Model
from appliance.engine.options import Options, Refused
from appliance.engine.text import TextOut

_PENALTY_TOKENS = 64


@dataclass
class Run:
    """One generation as it goes on; `finish` is OpenAI's reason once it has ended."""

    prompt_tokens: int
    completion_tokens: int = 0
    finish: str | None = None
    cancelled: Event = field(default_factory=Event)


def prepare(model: Model, tokens: Sequence[int]) -> Run:
    """Checks that prompt and answer fit the context; raises Refused with the figures."""
    if not tokens:
        raise Refused("the prompt is empty", "invalid_request")
    room = model.context_tokens - len(tokens)
    if room < 1:
        raise Refused(
            f"the prompt has {len(tokens)} tokens, the context of the local model {model.context_tokens}",
            "context_length_exceeded",
        )
    return Run(len(tokens))


def generate(model: Model, tokens: Sequence[int], options: Options, run: Run) -> Generator[str, None, None]:
    """Yields final pieces of text until the answer ends, the limit is met, or `run.cancelled` is set."""
    out = TextOut(options.stops)
    limit = min(options.max_tokens, model.context_tokens - len(tokens))
    sampler = _sampler(model, options)
    try:
        model.clear()
        model.decode(tokens)
        while not run.cancelled.is_set():
            token = int(llama_cpp.llama_sampler_sample(sampler, model.context, -1))
            run.completion_tokens += 1
            if model.ends(token):
                run.finish = "stop"
                break
            if text := out.feed(model.piece(token)):
                yield text
            if out.stopped or run.completion_tokens >= limit:
                run.finish = "stop" if out.stopped else "length"
                break
            model.decode([token])
        if rest := out.finish():
            yield rest
    finally:
        llama_cpp.llama_sampler_free(sampler)


def _sampler(model: Model, options: Options) -> Any:
    chain = llama_cpp.llama_sampler_chain_init(llama_cpp.llama_sampler_chain_default_params())
    for link in _links(model, options):
        llama_cpp.llama_sampler_chain_add(chain, link)
    return chain


def _links(model: Model, options: Options) -> Iterator[Any]:
    """The chain in the order of llama.cpp's own programs: penalties, cut-offs, temperature, draw."""
    if options.temperature == 0:
        yield llama_cpp.llama_sampler_init_greedy()
        return
    yield llama_cpp.llama_sampler_init_penalties(
        model.vocabulary_size,
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
