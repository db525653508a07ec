"""The choice of a plan: never more than is free, never less for more, and refused only where nothing fits."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.engine.facts import ModelFacts
from appliance.engine.fit import LEAST_CONTEXT_TOKENS, DoesNotFit, Fit, Plan, Wanted, explained, fit, reserve_bytes
from appliance.engine.machine import Gpu, Machine
from appliance.engine.need import F16, Layout, need

MIB, GIB = 2**20, 2**30


def llama_8b(**changed: object) -> ModelFacts:
    """Llama 3.1 8B at about four bits."""
    facts = ModelFacts(
        architecture="llama",
        trained_tokens=131_072,
        layers=32,
        layer_bytes=(122_716_160,) * 32,
        input_bytes=295_526_400,
        output_bytes=295_542_784,
        largest_bytes=295_526_400,
        embedding=4096,
        vocabulary=128_256,
        heads=32,
        query_width=4096,
        feed_forward=14_336,
        key_widths=(1024,) * 32,
        value_widths=(1024,) * 32,
        state_bytes=(0,) * 32,
        head_sizes=(128, 128),
        sliding=False,
        unsure=(),
    )
    return replace(facts, **changed)  # type: ignore[arg-type]


def machine(free_gib: float, *gpus_gib: float, note: str = "there is no nvidia-smi") -> Machine:
    gpus = tuple(Gpu(n, f"GPU-{n}", "Card", "570", int(g * GIB), int(g * GIB)) for n, g in enumerate(gpus_gib))
    return Machine(int(free_gib * GIB), "the machine", gpus, "" if gpus else note, 4, 8, None)


def rank(plan: Plan) -> tuple[int, int, bool, int]:
    """What is given up last counts most."""
    return plan.context_tokens, plan.gpu_layers, plan.kv_type == F16, plan.sequences


def layout(plan: Plan) -> Layout:
    return Layout(plan.context_tokens, plan.sequences, plan.kv_type, plan.flash, plan.gpu_layers)


@st.composite
def models(draw: st.DrawFn) -> ModelFacts:
    layers, head, groups = draw(st.integers(1, 12)), draw(st.sampled_from((48, 64, 128, 72))), draw(st.integers(1, 4))
    heads = groups * draw(st.integers(1, 4))
    embedding, width = heads * head, groups * head
    block = draw(st.integers(100_000, 200 * MIB))
    return ModelFacts(
        "llama", 8192, layers, (block,) * layers, draw(st.integers(1000, GIB)), draw(st.integers(1000, GIB)),
        block, embedding, draw(st.integers(100, 260_000)), heads, embedding, 3 * embedding,
        (width,) * layers, (width,) * layers,
        (draw(st.sampled_from((0, 100_000))),) * layers, (head, head), draw(st.booleans()),
        draw(st.sampled_from(((), ("it is odd",)))),
    )  # fmt: skip


memories = st.integers(0, 24 * GIB)
cards = st.lists(st.integers(0, 24 * GIB), max_size=3)
asked = st.builds(Wanted, st.integers(1, 20_000), st.integers(1, 16))


def of(free: int, gpus: list[int]) -> Machine:
    found = tuple(Gpu(number, f"GPU-{number}", "Card", "570", size, size) for number, size in enumerate(gpus))
    return Machine(free, "the machine", found, "none", 2, 2, None)


def tried(model: ModelFacts, where: Machine, wanted: Wanted) -> Fit | None:
    try:
        return fit(model, where, wanted)
    except DoesNotFit:
        return None


@settings(max_examples=300, deadline=None)
@given(models(), memories, cards, asked)
def test_a_plan_stays_within_what_is_free(model: ModelFacts, free: int, gpus: list[int], wanted: Wanted) -> None:
    """Need and reserve together never pass the free memory, of the system and of all GPUs."""
    found = tried(model, of(free, gpus), wanted)
    if found is None:
        return
    assert found.need == need(model, layout(found.plan))
    assert found.need.host_bytes + reserve_bytes(free) <= free
    if found.plan.gpu_layers:
        assert found.need.gpu_bytes + len(gpus) * GIB <= sum(gpus)
    assert found.plan.sequences <= wanted.sequences
    assert found.plan.context_tokens < wanted.context_tokens + 256


@settings(max_examples=300, deadline=None)
@given(models(), memories, memories, cards, asked)
def test_more_memory_never_gives_less(model: ModelFacts, free: int, more: int, gpus: list[int], wanted: Wanted) -> None:
    """With more of the system's memory a plan is as good or better, and what fitted still fits."""
    small, large = tried(model, of(free, gpus), wanted), tried(model, of(free + more, gpus), wanted)
    if small is not None:
        assert large is not None
        assert rank(large.plan) >= rank(small.plan)


@settings(max_examples=300, deadline=None)
@given(models(), memories, st.integers(0, 24 * GIB), st.integers(0, 8 * GIB), asked)
def test_more_memory_on_the_gpu_never_gives_less(
    model: ModelFacts, free: int, card: int, more: int, wanted: Wanted
) -> None:
    """The same for the memory of a GPU."""
    small, large = tried(model, of(free, [card]), wanted), tried(model, of(free, [card + more]), wanted)
    if small is not None:
        assert large is not None
        assert rank(large.plan) >= rank(small.plan)


@settings(max_examples=300, deadline=None)
@given(models(), memories, asked)
def test_it_is_refused_exactly_where_the_least_plan_is_too_large(model: ModelFacts, free: int, wanted: Wanted) -> None:
    """One request, the least context, the smaller cache: if that fits there is a plan, and else there is none."""
    tokens = min(-(-wanted.context_tokens // 256) * 256, LEAST_CONTEXT_TOKENS)
    least = [Layout(tokens, 1, F16, flash=False, gpu_layers=0)]
    if not model.unsure and model.head_sizes[0] % 32 == 0:
        least.append(Layout(tokens, 1, "q8_0", flash=True, gpu_layers=0))
    fits = any(need(model, one).host_bytes + reserve_bytes(free) <= free for one in least)
    assert (tried(model, of(free, []), wanted) is not None) == fits


@pytest.mark.parametrize(
    ("where", "plan"),
    [
        (machine(64), (0, 8192, 16, "f16", False)),
        (machine(24), (0, 8192, 8, "f16", False)),
        (machine(7.5), (0, 8192, 1, "f16", False)),
        (machine(6.5), (0, 8192, 1, "q8_0", True)),
        (machine(24, 48), (33, 8192, 16, "f16", True)),
        (machine(24, 7.5), (33, 8192, 1, "f16", True)),
        (machine(24, 6.0), (33, 8192, 1, "q8_0", True)),
        (machine(24, 0.5), (0, 8192, 8, "f16", False)),
    ],
    ids=["all", "fewer-requests", "one-request", "eight-bits", "gpu", "gpu-one", "gpu-eight-bits", "gpu-full"],
)  # fmt: skip
def test_what_is_given_up_first(where: Machine, plan: tuple[int, int, int, str, bool]) -> None:
    """Requests at once, then 16 bits, then layers on the GPU."""
    found = fit(llama_8b(), where, Wanted(8192, 16)).plan
    assert (found.gpu_layers, found.context_tokens, found.sequences, found.kv_type, found.flash) == plan


def test_layers_leave_the_gpu_before_the_context_shrinks() -> None:
    """A small card takes some of the layers; without one the context shrinks to what there is, and that is said."""
    found = fit(llama_8b(), machine(24, 4), Wanted(8192, 16))
    assert 0 < found.plan.gpu_layers < 33
    assert found.plan.context_tokens == 8192
    assert "the rest does not fit there" in found.reasons[0]
    small = fit(llama_8b(), machine(5.75), Wanted(8192, 16))
    assert LEAST_CONTEXT_TOKENS < small.plan.context_tokens < 8192
    words = f"THE CONTEXT IS {small.plan.context_tokens} TOKENS instead of the 8192"
    assert any(words in reason for reason in small.reasons)


def test_a_refusal_holds_the_figures_and_the_way_out() -> None:
    """What it needs by its parts, what is free, what sets that, and how much is missing."""
    where = replace(machine(4), limit="the control group")
    with pytest.raises(DoesNotFit) as caught:
        fit(llama_8b(), where, Wanted(8192, 16))
    assert "for one request of 1024 tokens (weights 4.2 GiB, cache 68 MiB" in caught.value.fact
    assert "4.0 GiB are free, limited by the control group, of which 512 MiB stay free" in caught.value.fact
    assert "are missing: raise the memory limit of the service or container" in caught.value.hint


def test_flash_attention_on_the_cpu_is_told() -> None:
    """Eight bits on the CPU cost the equality of answers to the last bit; on a GPU nothing of the kind is said."""
    on_cpu = " ".join(fit(llama_8b(), machine(6.5), Wanted(8192, 16)).reasons)
    assert "may depend on what others ask" in on_cpu
    on_gpu = " ".join(fit(llama_8b(), machine(24, 6.0), Wanted(8192, 16)).reasons)
    assert "q8_0" in on_gpu
    assert "may depend" not in on_gpu


def test_what_is_not_known_is_said_and_counted_high() -> None:
    """Recurrent or compressed caches: no eight bits, no fused attention, double compute buffers, and a sentence."""
    odd = llama_8b(unsure=("layers keep a recurrent state",))
    found = fit(odd, machine(64, 48), Wanted(8192, 16))
    assert (found.plan.kv_type, found.plan.flash) == ("f16", False)
    plain = need(llama_8b(), layout(found.plan))
    assert found.need.gpu_compute_bytes > 1.9 * plain.gpu_compute_bytes
    assert "guesses to the high side: layers keep a recurrent state" in found.reasons[-1]


def test_several_gpus_share_by_what_is_free() -> None:
    """Two cards hold what one of the two could not; a card that others have filled keeps the model off it."""
    both = fit(llama_8b(), machine(24, 8, 8), Wanted(8192, 16)).plan
    one = fit(llama_8b(), machine(24, 8), Wanted(8192, 16)).plan
    assert rank(both) > rank(one)


def test_a_processor_quota_bounds_the_threads() -> None:
    """Four cores of eight processors give four threads; a quota of one and a half gives one."""
    assert fit(llama_8b(), machine(24), Wanted(512, 1)).plan.threads == 4
    found = fit(llama_8b(), replace(machine(24), quota_cpus=1.5), Wanted(512, 1))
    assert (found.plan.threads, found.plan.batch_threads) == (1, 1)
    assert "allows 1.5" in found.reasons[-1]


def test_a_context_beyond_the_training_is_told() -> None:
    """The plan keeps to the profile, and says what the model was made for."""
    found = fit(llama_8b(trained_tokens=4096), machine(24), Wanted(8192, 4))
    assert any("longer than the 4096 tokens" in reason for reason in found.reasons)


def test_what_readiness_tells() -> None:
    """Plan, bytes and sentences, as plain JSON."""
    told = explained(fit(llama_8b(), machine(24), Wanted(8192, 16)))
    assert (told["context_tokens"], told["sequences"], told["kv_type"], told["gpu_layers"]) == (8192, 8, "f16", 0)
    assert told["memory"]["host_weights_bytes"] == llama_8b().weights_bytes
    assert told["memory"]["free_bytes"] == 24 * GIB
    assert told["reasons"][0] == "The model runs on the CPU: there is no nvidia-smi."
