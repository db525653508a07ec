"""Chooses how a model runs in the memory that is really free, and says why. Pure: facts in, a plan or a refusal out.

What is given up, in this order, until it fits: requests at once (down to one), the cache's 16 bits, layers on the GPU,
and last the context; the caller is told of each. Then the model is refused, with the figures.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from appliance.engine.facts import ModelFacts
from appliance.engine.machine import Machine, threads_for
from appliance.engine.need import CONTEXT_STEP, F16, MIB, Q8, Layout, Need, need
from bundler.format.errors import NoSpace
from bundler.format.service import CHAT, ModelSpec

SEQUENCES = 16  # requests at once, where memory allows
LEAST_CONTEXT_TOKENS = 1024
# Kept for the rest of the box: an eighth of what is free, within these bounds.
_RESERVE_SHARE, _RESERVE_LEAST_BYTES, _RESERVE_MOST_BYTES = 8, 256 * MIB, 4096 * MIB
# llama.cpp's own fitting leaves as much on every GPU (common/fit.cpp); CUDA's context lies in it.
_GPU_RESERVE_BYTES = 1024 * MIB
# Head sizes that CUDA's fused attention computes with equal keys and values (ggml-cuda/fattn.cu).
_FUSED_HEADS = (64, 80, 96, 112, 128, 256)
_UNFUSED = ("grok",)
_NOT_ALONE = " On the CPU this takes flash attention, with which an answer may depend on what others ask meanwhile."


@dataclass(frozen=True)
class Wanted:
    """What the profile asks for: tokens of each context, and how many requests are to run at once.

    With `pooled` whole texts become vectors, of at most `context_tokens` in one batch.
    """

    context_tokens: int
    sequences: int
    pooled: bool = False

    @classmethod
    def of(cls, spec: ModelSpec) -> Wanted:
        """Returns what a model of a profile asks for."""
        return cls(spec.context_tokens, SEQUENCES) if spec.serves == CHAT else cls(spec.context_tokens, 1, pooled=True)


@dataclass(frozen=True)
class Plan:
    """What the child is told; `batch_threads` are for prompts."""

    gpu_layers: int
    context_tokens: int
    sequences: int
    kv_type: str
    flash: bool
    threads: int
    batch_threads: int


@dataclass(frozen=True)
class Fit:
    """A plan and what it rests on.

    Attributes:
        plan: What the child is told.
        need: What that takes, in bytes.
        free_bytes: System memory that was free.
        gpu_free_bytes: Memory that was free on all GPUs.
        reserve_bytes: What of `free_bytes` is left to others.
        reasons: The choice in plain sentences.
    """

    plan: Plan
    need: Need
    free_bytes: int
    gpu_free_bytes: int
    reserve_bytes: int
    reasons: tuple[str, ...]


class DoesNotFit(NoSpace):
    """Even the least plan takes more memory than is free; the fact holds the figures."""


def fit(model: ModelFacts, machine: Machine, wanted: Wanted) -> Fit:
    """Chooses the plan that gives up least.

    Raises:
        DoesNotFit: One request of LEAST_CONTEXT_TOKENS (or of the wanted context, where that is less) does not fit.
    """
    layout = _choose(model, machine, wanted)
    if layout is None:
        raise _refusal(model, machine, wanted)
    threads = threads_for(machine)
    plan = Plan(
        layout.gpu_layers, layout.context_tokens, layout.sequences, layout.kv_type, layout.flash, threads, threads
    )
    taken = need(model, layout)
    return Fit(
        plan=plan,
        need=taken,
        free_bytes=machine.free_bytes,
        gpu_free_bytes=sum(gpu.free_bytes for gpu in machine.gpus),
        reserve_bytes=reserve_bytes(machine.free_bytes),
        reasons=tuple(_reasons(model, machine, wanted, plan, taken)),
    )


def explained(found: Fit) -> dict[str, Any]:
    """Returns a fit as `/health/ready` tells it; all sizes in bytes."""
    return {
        **asdict(found.plan),
        "memory": {
            **asdict(found.need),
            "free_bytes": found.free_bytes,
            "gpu_free_bytes": found.gpu_free_bytes,
            "reserve_bytes": found.reserve_bytes,
        },
        "reasons": list(found.reasons),
    }


def reserve_bytes(free_bytes: int) -> int:
    """Returns what is left to the rest of the box."""
    return min(max(free_bytes // _RESERVE_SHARE, _RESERVE_LEAST_BYTES), _RESERVE_MOST_BYTES)


def _choose(model: ModelFacts, machine: Machine, wanted: Wanted) -> Layout | None:
    most = -(-wanted.context_tokens // CONTEXT_STEP)
    least = min(most, LEAST_CONTEXT_TOKENS // CONTEXT_STEP)
    if _first(model, machine, least * CONTEXT_STEP, wanted) is None:
        return None
    low, high = least, most
    while low < high:  # the longest context that fits one request: what is needed grows with it
        middle = (low + high + 1) // 2
        if _first(model, machine, middle * CONTEXT_STEP, wanted) is None:
            high = middle - 1
        else:
            low = middle
    alone = _first(model, machine, low * CONTEXT_STEP, wanted)
    return None if alone is None else _widened(model, machine, alone, wanted.sequences)


def _first(model: ModelFacts, machine: Machine, context_tokens: int, wanted: Wanted) -> Layout | None:
    """Returns how a single request runs: with as many layers on the GPU as can be, and with 16 bits before 8."""
    return next(
        (one for one in _alone(model, machine, context_tokens, wanted) if min(_spare(model, machine, one)) >= 0),
        None,
    )


def _alone(model: ModelFacts, machine: Machine, context_tokens: int, wanted: Wanted) -> Iterator[Layout]:
    """Yields every way to run a single request, the best first; 8 bits save nothing where nothing is kept (pooled)."""
    most_layers = model.layers + 1 if machine.gpus else 0
    for layers in range(most_layers, -1, -1):
        fused = layers > 0 and _fuses(model)
        yield Layout(context_tokens, 1, F16, flash=fused, gpu_layers=layers, pooled=wanted.pooled)
        if not wanted.pooled and _takes_eight_bits(model) and (layers == 0 or _fuses(model)):
            yield Layout(context_tokens, 1, Q8, flash=True, gpu_layers=layers)


def _widened(model: ModelFacts, machine: Machine, alone: Layout, most: int) -> Layout:
    """Adds requests at once, up to half of what a single one leaves: the next version is to be warmed beside this."""
    left = _spare(model, machine, alone)
    for sequences in range(most, 1, -1):
        wide = replace(alone, sequences=sequences)
        if all(2 * now >= before for now, before in zip(_spare(model, machine, wide), left, strict=True)):
            return wide
    return alone


def _spare(model: ModelFacts, machine: Machine, layout: Layout) -> tuple[int, ...]:
    """Returns what a plan leaves of system memory and of each GPU beside their reserves, in bytes; negative: too much.

    llama.cpp deals layers out in proportion to the free memory of the GPUs. With several, each has to hold its share,
    one layer more, and double compute buffers (several batches are then computed at once).
    """
    taken = need(model, layout)
    host = machine.free_bytes - reserve_bytes(machine.free_bytes) - taken.host_bytes
    if not layout.gpu_layers:
        return (host,)
    spare, total = [host], sum(gpu.free_bytes for gpu in machine.gpus)
    stored, several = taken.gpu_weights_bytes + taken.gpu_cache_bytes, len(machine.gpus) > 1
    layer = max(*model.layer_bytes, model.output_bytes) + taken.gpu_cache_bytes // layout.gpu_layers if several else 0
    for gpu in machine.gpus:
        share = stored * gpu.free_bytes // max(1, total) + layer + taken.gpu_compute_bytes * (2 if several else 1)
        spare.append(gpu.free_bytes - _GPU_RESERVE_BYTES - share)
    return tuple(spare)


def _fuses(model: ModelFacts) -> bool:
    keys, values = model.head_sizes
    return keys == values and keys in _FUSED_HEADS and model.architecture not in _UNFUSED and not model.unsure


def _takes_eight_bits(model: ModelFacts) -> bool:
    """Whether heads fill whole blocks of 32 values, as llama.cpp demands."""
    whole = all(size and size % 32 == 0 for size in model.head_sizes)
    return whole and model.architecture not in _UNFUSED and not model.unsure


def _refusal(model: ModelFacts, machine: Machine, wanted: Wanted) -> DoesNotFit:
    tokens = min(-(-wanted.context_tokens // CONTEXT_STEP) * CONTEXT_STEP, LEAST_CONTEXT_TOKENS)
    least = min(
        (need(model, one) for one in _alone(model, machine, tokens, wanted) if not one.gpu_layers),
        key=lambda one: one.host_bytes,
    )
    kept = reserve_bytes(machine.free_bytes)
    on_gpus = f" (and {_size(sum(gpu.free_bytes for gpu in machine.gpus))} on GPUs)" if machine.gpus else ""
    fact = (
        f"the model needs {_size(least.host_bytes)} of memory for one request of {tokens} tokens "
        f"(weights {_size(least.host_weights_bytes)}, cache {_size(least.host_cache_bytes)}, "
        f"computation {_size(least.host_compute_bytes)}, process {_size(least.process_bytes)}); "
        f"{_size(machine.free_bytes)} are free{on_gpus}, limited by {machine.limit}, of which {_size(kept)} stay free"
    )
    missing = least.host_bytes + kept - machine.free_bytes
    ways = {
        "the machine": "stop other programs or add memory",
        "the control group": "raise the memory limit of the service or container",
        "the process's limit": "raise the limit on the memory of processes (ulimit -d, LimitDATA)",
    }
    return DoesNotFit(
        fact, f"{_size(missing)} are missing: {ways[machine.limit]}, or take a smaller model in the profile"
    )


def _reasons(model: ModelFacts, machine: Machine, wanted: Wanted, plan: Plan, taken: Need) -> Iterator[str]:
    yield _where(model, machine, plan)
    yield (
        f"It takes {_size(taken.host_bytes)} of {_size(machine.free_bytes)} free (limited by {machine.limit}): "
        f"weights {_size(taken.host_weights_bytes)}, caches {_size(taken.host_cache_bytes)}, computation "
        f"{_size(taken.host_compute_bytes)}, process {_size(taken.process_bytes)}; "
        f"{_size(reserve_bytes(machine.free_bytes))} are left to the rest."
    )
    if plan.context_tokens < wanted.context_tokens:
        yield (
            f"THE CONTEXT IS {plan.context_tokens} TOKENS instead of the {wanted.context_tokens} of the profile: "
            "more does not fit."
        )
    if 0 < model.trained_tokens < plan.context_tokens:
        yield f"The context is longer than the {model.trained_tokens} tokens that the model was trained for."
    yield _slots(wanted, plan, taken)
    if plan.kv_type == Q8:
        yield "Caches hold 8 bits a value (q8_0), since 16 do not fit." + ("" if plan.gpu_layers else _NOT_ALONE)
    yield _processors(machine, plan)
    for doubt in model.unsure:
        yield f"The figures are guesses to the high side: {doubt}."


def _where(model: ModelFacts, machine: Machine, plan: Plan) -> str:
    whole = model.layers + 1
    if plan.gpu_layers:
        names = ", ".join(gpu.name for gpu in machine.gpus)
        rest = "" if plan.gpu_layers == whole else "; the rest does not fit there and runs on the CPU, slower"
        return f"{plan.gpu_layers} of {whole} layers run on the GPU ({names}){rest}."
    why = machine.gpu_note or "no layer fits the free memory of the GPU"
    return f"The model runs on the CPU: {why}."


def _slots(wanted: Wanted, plan: Plan, taken: Need) -> str:
    if wanted.pooled:
        return f"Texts of up to {plan.context_tokens} tokens become vectors, several in a batch."
    each = (taken.host_cache_bytes + taken.gpu_cache_bytes) // plan.sequences
    several = f"{plan.sequences} requests run at once" if plan.sequences > 1 else "One request runs at a time"
    said = f"{several}, with {plan.context_tokens} tokens and {_size(each)} of cache each"
    if plan.sequences == wanted.sequences:
        return f"{said}."
    return f"{said}; {wanted.sequences} are wanted, and half of what is left stays free for the next version."


def _processors(machine: Machine, plan: Plan) -> str:
    said = f"{plan.threads} threads: {machine.cores} physical cores of {machine.threads} processors"
    quota = machine.quota_cpus
    return f"{said}, of which the control group allows {quota:.2g}." if quota is not None else f"{said}."


def _size(count_bytes: int) -> str:
    return f"{count_bytes / MIB / 1024:.1f} GiB" if count_bytes >= 1024 * MIB else f"{-(-count_bytes // MIB)} MiB"
