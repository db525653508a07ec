"""What a model takes in memory under a layout: weights, caches and compute buffers, by formula. Pure.

The formulas follow llama.cpp as pinned (llama-kv-cache.cpp, llama-context.cpp `sched_reserve`, ggml-cpu.c
`ggml_graph_plan`) and were held against what it reports for eighteen models (docs/engine.md). They may be too high,
never too low.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from appliance.engine.facts import ModelFacts
from appliance.engine.lookup import MOST_GUESSES
from appliance.engine.pooled_request import HELD_BYTES

# Tokens of the largest batch. Without flash attention a prompt is computed 3 to 6 % sooner in the smaller pieces, whose
# scores stay nearer to the processor, and the answers beside it wait half as long.
_BATCH_TOKENS, _FLASH_BATCH_TOKENS = 256, 512
CONTEXT_STEP = 256  # llama.cpp pads the cells of a sequence to it
F16, Q8 = "f16", "q8_0"
_CACHE_BYTES = {F16: (1, 2), Q8: (32, 34)}  # values of a block and its bytes (ggml-common.h)
MIB = 2**20
# Interpreter and libraries of the child: 64 MiB measured on Linux x86-64; the rest is for what the server takes.
PROCESS_BYTES = 128 * MIB
# A token of the vocabulary in llama.cpp (179 to 430 measured) and in the grammars' tokenizer (391 to 433).
_TOKEN_BYTES = 1024
# What a request holds beside its cache: texts and, where it has one, its grammar (0.6 MiB measured, 40 at most).
_REQUEST_BYTES = 4 * MIB


@dataclass(frozen=True)
class Layout:
    """How a model lies in memory.

    Attributes:
        context_tokens: Of each sequence, a multiple of CONTEXT_STEP.
        sequences: How many there are.
        kv_type: F16 or Q8.
        flash: Whether attention is computed in one fused step.
        gpu_layers: Layers on the GPU, the output counted as the first of them.
        pooled: Whole texts become vectors: the context is one batch, of which every row is an output.
    """

    context_tokens: int
    sequences: int
    kv_type: str
    flash: bool
    gpu_layers: int
    pooled: bool = False


@dataclass(frozen=True)
class Need:
    """Bytes in system memory (`host`) and on the GPUs, by what they are for."""

    host_weights_bytes: int
    host_cache_bytes: int
    host_compute_bytes: int
    process_bytes: int
    gpu_weights_bytes: int
    gpu_cache_bytes: int
    gpu_compute_bytes: int

    @property
    def host_bytes(self) -> int:
        return self.host_weights_bytes + self.host_cache_bytes + self.host_compute_bytes + self.process_bytes

    @property
    def gpu_bytes(self) -> int:
        return self.gpu_weights_bytes + self.gpu_cache_bytes + self.gpu_compute_bytes


def need(model: ModelFacts, layout: Layout) -> Need:
    """Returns what a model takes under a layout."""
    first = model.layers + 1 - layout.gpu_layers  # llama.cpp puts the last layers on the GPU, the output before any
    caches = cache_bytes(model, layout)
    gpu_weights = sum(model.layer_bytes[max(0, first) :]) + (model.output_bytes if layout.gpu_layers else 0)
    gpu_cache = sum(caches[max(0, first) :]) if layout.gpu_layers else 0
    compute = compute_bytes(model, layout)
    requests = HELD_BYTES if layout.pooled else _REQUEST_BYTES * layout.sequences
    process = PROCESS_BYTES + _TOKEN_BYTES * model.vocabulary + requests
    return Need(
        host_weights_bytes=model.weights_bytes - gpu_weights,
        host_cache_bytes=sum(caches) - gpu_cache,
        host_compute_bytes=compute + work_bytes(model, layout) + _output_bytes(model, layout),
        # While weights are read, one tensor is held twice; the compute buffers come after that.
        process_bytes=process + max(0, model.largest_bytes - compute),
        gpu_weights_bytes=gpu_weights,
        gpu_cache_bytes=gpu_cache,
        gpu_compute_bytes=compute if layout.gpu_layers else 0,
    )


def cache_bytes(model: ModelFacts, layout: Layout) -> tuple[int, ...]:
    """Returns the bytes of each layer's keys, values and state, for all sequences.

    Windows are not deducted: the whole context is kept, since sequences are copied and cut. Without flash attention the
    values lie transposed, each layer as wide as the widest (llama-kv-cache.cpp, TAG_V_CACHE_VARIABLE).
    """
    block, block_bytes = _CACHE_BYTES[layout.kv_type]
    widest = max(model.value_widths)

    def layer(number: int) -> int:
        keys, values = model.key_widths[number], model.value_widths[number]
        width = keys + (widest if values and not layout.flash else values)
        cached = math.ceil(width * layout.context_tokens / block) * block_bytes
        return layout.sequences * (cached + model.state_bytes[number])

    return tuple(layer(number) for number in range(model.layers))


def compute_bytes(model: ModelFacts, layout: Layout) -> int:
    """Returns an upper bound of llama.cpp's compute buffer.

    Buffers are used again from layer to layer, so the widest moment counts: attention, with the scores of all heads
    where it is not fused; the inner layer; or the output rows. All in f32, for a batch of n_ubatch tokens.
    """
    tokens, cells = _reserved_tokens(layout), layout.context_tokens
    scores = 0 if layout.flash else cells * model.heads
    attention = tokens * (scores + 6 * model.embedding + 3 * model.query_width + _widest_cached(model))
    inner = tokens * (3 * model.feed_forward + 6 * model.embedding)
    output = _output_rows(layout) * model.vocabulary + 2 * tokens * model.embedding
    mask = tokens * cells * (6 if layout.flash else 4) * (2 if model.sliding else 1)
    whole = 4 * max(attention, inner, output) + mask
    state = max(model.state_bytes, default=0) * layout.sequences
    return int((2 * (whole + state) if model.unsure else whole) * 1.05) + 2 * MIB


def work_bytes(model: ModelFacts, layout: Layout) -> int:
    """Returns an upper bound of the CPU's work buffer: the right side of the widest product, 16 bits a value."""
    scores = 0 if layout.flash else layout.context_tokens * model.heads
    return 2 * _reserved_tokens(layout) * max(scores, model.feed_forward, model.embedding, model.query_width)


def output_rows(sequences: int) -> int:
    """Returns the most rows of a batch whose logits are wanted: one a sequence, or those of one answer's guesses."""
    return max(sequences, 1 + MOST_GUESSES)


def _output_rows(layout: Layout) -> int:
    return _reserved_tokens(layout) if layout.pooled else output_rows(layout.sequences)


def _output_bytes(model: ModelFacts, layout: Layout) -> int:
    """The rows that are handed out, and the candidates of the sampler (12 bytes a token).

    llama.cpp keeps room for logits also where only vectors are wanted (llama-context.cpp `output_reserve`).
    """
    rows, width = _output_rows(layout), model.vocabulary + (model.embedding if layout.pooled else 0)
    return 4 * rows * width + 12 * model.vocabulary


def _widest_cached(model: ModelFacts) -> int:
    return max(keys + values for keys, values in zip(model.key_widths, model.value_widths, strict=True))


def batch_tokens(*, flash: bool) -> int:
    """Returns how many tokens the largest batch holds."""
    return _FLASH_BATCH_TOKENS if flash else _BATCH_TOKENS


def _reserved_tokens(layout: Layout) -> int:
    """Tokens that buffers are made for; llama.cpp rounds a batch up to as many for every sequence."""
    if layout.pooled:
        return layout.context_tokens
    return min(batch_tokens(flash=layout.flash), layout.context_tokens * layout.sequences) + layout.sequences - 1
