"""Who gets into the next batch: nobody waits for the whole of another's request, and nothing is lost or doubled."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from appliance.engine.fit import Wanted, fit
from appliance.engine.fitting import read_facts
from appliance.engine.machine import Machine
from appliance.engine.need import F16, Layout, need
from appliance.engine.reading import BytesReader
from appliance.engine.turns import Order, Turns
from bundler.format.service import ModelSpec

orders = st.lists(st.tuples(st.sampled_from("abc"), st.lists(st.integers(1, 8), min_size=1, max_size=12)), max_size=8)


def text(size: int) -> list[int]:
    return [1] * size


@given(orders, st.integers(1, 5))
def test_each_text_is_taken_once_and_batches_hold_their_bounds(asked: list[tuple[str, list[int]]], most: int) -> None:
    """Texts of an order come in their order; a batch has at most so many texts and tokens."""
    turns = Turns(most, 8)
    waiting = [Order(tenant, [text(size) for size in sizes]) for tenant, sizes in asked]
    for order in waiting:
        turns.add(order)
    seen: dict[int, list[int]] = {id(order): [] for order in waiting}
    while not turns.idle:
        batch = turns.batch()
        assert 0 < len(batch) <= most
        assert sum(len(order.texts[number]) for order, number in batch) <= 8
        for order, number in batch:
            seen[id(order)].append(number)
    assert all(seen[id(order)] == list(range(len(order.texts))) for order in waiting)


def test_a_large_request_does_not_hold_up_a_small_one() -> None:
    """Tenants take turns text by text; within a tenant the older request goes first."""
    turns = Turns(4, 100)
    large, small = Order("a", [text(1)] * 50), Order("b", [text(1)] * 2)
    turns.add(large)
    assert [number for _, number in turns.batch()] == [0, 1, 2, 3]
    turns.add(small)
    assert [(order.tenant, number) for order, number in turns.batch()] == [("a", 4), ("b", 0), ("a", 5), ("b", 1)]


def test_a_dropped_order_is_not_computed() -> None:
    """Also where it has begun, or is over."""
    turns = Turns(2, 100)
    first, second = Order("a", [text(1)] * 9), Order("a", [text(1)])
    turns.add(first)
    turns.add(second)
    turns.batch()
    turns.drop(first)
    assert turns.batch() == [(second, 0)]
    turns.drop(second)
    assert turns.idle


def test_every_row_of_a_pooled_batch_is_an_output(smollm_gguf: Path) -> None:
    """Its buffers hold the longest text times the vocabulary twice, which a chat's do not."""
    model = read_facts(BytesReader(smollm_gguf.read_bytes()))
    chat = need(model, Layout(2048, 1, F16, flash=False, gpu_layers=0))
    pooled = need(model, Layout(2048, 1, F16, flash=False, gpu_layers=0, pooled=True))
    assert pooled.host_compute_bytes > chat.host_compute_bytes + 2048 * model.vocabulary * 4
    assert (pooled.host_cache_bytes, pooled.host_weights_bytes) == (chat.host_cache_bytes, chat.host_weights_bytes)


def test_a_pooled_model_gives_up_the_length_of_texts_and_nothing_else(smollm_gguf: Path) -> None:
    """With little memory the longest text is shorter, and that is told; 8 bits would save nothing."""
    model, wanted = read_facts(BytesReader(smollm_gguf.read_bytes())), Wanted(8192, 1, pooled=True)
    small = Machine(1900 * 2**20, "the machine", (), "none", 2, 2, None)
    found = fit(model, small, wanted)
    assert 1024 <= found.plan.context_tokens < 8192
    assert (found.plan.kv_type, found.plan.sequences, found.plan.flash) == (F16, 1, False)
    assert "THE CONTEXT IS" in " ".join(found.reasons)


def test_a_pooled_model_is_fitted_for_its_longest_text() -> None:
    """One context; chats get as many as there is room for."""
    spec = ModelSpec("m", "a", "ab" * 32, 512, 0, "rerank")
    assert Wanted.of(spec) == Wanted(512, 1, pooled=True)
    assert Wanted.of(ModelSpec("m", "a", "ab" * 32, 512, 48)) == Wanted(512, 16)
