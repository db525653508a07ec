"""The encoder under several callers: batches are shared, vectors and errors are not; other models' are refused."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from bundler.format.errors import BadBundle, BadInput, Busy
from bundler.knowledge.assets import refuse_other_model
from bundler.knowledge.encoder import CPU, CUDA, Encoder, identity_of, preferred_providers

QUESTIONS = [
    f"Where is the {thing} of floor {floor}?" for thing in ("printer", "exit", "kitchen") for floor in range(9)
]
LONG = "The quick brown fox jumps over the lazy dog. " * 30


def close(one: Any, other: Any) -> bool:
    """The same vectors but for roundings, which the length of a batch's longest text can turn."""
    return bool((np.asarray(one) * np.asarray(other)).sum(axis=-1).min() > 0.9995)


def test_calls_from_many_threads_get_their_own_vectors(encoder: Encoder) -> None:
    """Texts of different lengths, asked at once, give what each gives alone."""
    texts = [*QUESTIONS, LONG, "", "a"]
    alone = [encoder.embed([text])[0] for text in texts]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda text: encoder.embed([text])[0], texts))
    assert close(together, alone)
    assert close(encoder.embed(texts), alone)


def test_no_texts_are_no_rows(encoder: Encoder) -> None:
    """An empty call is answered without a model."""
    assert encoder.embed([]).shape == (0, 384)


class Gate:
    """Stands between an encoder and its session: counts batches, holds them back, fails on a token."""

    def __init__(self, encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open, self.entered, self.sizes = threading.Event(), threading.Event(), list[int]()
        self._run = encoder._run
        self.poison: int | None = None
        monkeypatch.setattr(encoder, "_run", self.run)

    def run(self, ids: Sequence[Sequence[int]]) -> Any:
        self.entered.set()
        assert self.open.wait(60)
        self.sizes.append(len(ids))
        if any(self.poison in row for row in ids):
            raise RuntimeError("a poisoned batch")
        return self._run(ids)


@pytest.fixture
def single(encoder_parts: tuple[bytes, bytes], monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Encoder, Gate]]:
    """An encoder that runs one batch at a time, and only when the test lets it."""
    made = Encoder(*encoder_parts, max_tokens=256, threads=1)
    gate = Gate(made, monkeypatch)
    yield made, gate
    gate.open.set()


def test_waiting_calls_share_a_batch(single: tuple[Encoder, Gate]) -> None:
    """While one batch runs the others gather, and go together."""
    made, gate = single
    first = made.submit(made.tokenise(["one question"]))
    assert gate.entered.wait(60)
    others = [made.submit(made.tokenise([text])) for text in QUESTIONS[:9]]
    gate.open.set()
    assert all(future.result(60).shape == (1, 384) for future in [first, *others])
    assert gate.sizes == [1, 9]


def test_one_call_uses_every_core(encoder_parts: tuple[bytes, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """A large call alone has as many batches under way as there are threads, and a question has one."""
    made = Encoder(*encoder_parts, max_tokens=256, threads=3)
    meet = threading.Barrier(3, timeout=60)
    run = made._run

    def together(ids: Sequence[Sequence[int]]) -> Any:
        if len(ids[0]) > 100:
            meet.wait()
        return run(ids)

    monkeypatch.setattr(made, "_run", together)
    assert made.embed([LONG] * 6).shape == (6, 384)
    assert made.embed(["a question"]).shape == (1, 384)


def test_an_error_hits_only_the_request_that_it_belongs_to(single: tuple[Encoder, Gate]) -> None:
    """The neighbours of a failed batch are computed again without it."""
    made, gate = single
    made.submit(made.tokenise(["one question"]))
    assert gate.entered.wait(60)
    gate.poison = 999
    good = [made.submit(made.tokenise([text])) for text in QUESTIONS[:3]]
    bad = made.submit([[101, 999, 999, 999, 999, 999, 999, 102]])
    gate.open.set()
    with pytest.raises(RuntimeError, match="poisoned"):
        bad.result(60)
    assert all(future.result(60).shape == (1, 384) for future in good)
    gate.poison = None
    assert made.embed(["it goes on"]).shape == (1, 384)


def test_what_nobody_waits_for_is_not_computed(single: tuple[Encoder, Gate]) -> None:
    """A cancelled request gives up what has not begun."""
    made, gate = single
    first = made.submit(made.tokenise(["one question"]))
    assert gate.entered.wait(60)
    given_up = made.submit(made.tokenise([LONG] * 50))
    assert given_up.cancel()
    last = made.submit(made.tokenise(["another question"]))
    gate.open.set()
    assert [future.result(60).shape for future in (first, last)] == [(1, 384)] * 2
    with pytest.raises(CancelledError):
        given_up.result()
    assert gate.sizes == [1, 1]


def test_a_full_queue_refuses(single: tuple[Encoder, Gate], monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound a large request is refused at once, and a question still gets in."""
    made, gate = single
    monkeypatch.setattr(made._batcher, "_most_tokens", 1000)
    running: list[Future[Any]] = [made.submit(made.tokenise([LONG]))]
    assert gate.entered.wait(60)
    running.append(made.submit(made.tokenise([LONG] * 3)))
    with pytest.raises(Busy, match="768 tokens wait"):
        made.submit(made.tokenise([LONG] * 2))
    running.append(made.submit(made.tokenise(["a question"])))
    gate.open.set()
    assert [len(future.result(60)) for future in running] == [1, 3, 1]


def test_bytes_that_are_no_model_are_bad_input(encoder_parts: tuple[bytes, bytes]) -> None:
    """Graph or tokenizer, the message says that it does not load."""
    for onnx, tokenizer in ((b"no graph", encoder_parts[1]), (encoder_parts[0], b"{}")):
        with pytest.raises(BadInput, match="does not load"):
            Encoder(onnx, tokenizer, max_tokens=256)


def test_a_graph_that_names_no_precision_is_fp32(encoder_parts: tuple[bytes, bytes]) -> None:
    """As older bundles have it."""
    rows = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", 3])
    out = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", 3])
    node = helper.make_node("Cast", ["input_ids"], ["embedding"], to=TensorProto.FLOAT)
    graph = helper.make_graph([node], "old", [rows], [out])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 12)], ir_version=7)
    assert Encoder(model.SerializeToString(), encoder_parts[1], max_tokens=8).precision == "fp32"


def test_the_identity_follows_everything_that_decides_a_vector() -> None:
    """Graph, tokenizer and length each change it."""
    made = {
        identity_of(b"a", b"b", 3),
        identity_of(b"ab", b"", 3),
        identity_of(b"a", b"b", 4),
        identity_of(b"b", b"a", 3),
    }
    assert len(made) == 4


def test_vectors_of_another_model_are_refused() -> None:
    """Those of bundles that noted no model are taken."""
    refuse_other_model(b'{"format": 1}', "this", "old.json")
    refuse_other_model(b'{"format": 1, "made_with": "this"}', "this", "same.json")
    with pytest.raises(BadBundle, match=r"made with the embedding model that, not this"):
        refuse_other_model(b'{"format": 1, "made_with": "that"}', "this", "other.json")


@pytest.mark.parametrize(
    ("precision", "available", "expected"),
    [
        ("int8", (CUDA, CPU), (CPU,)),
        ("fp16", (CUDA, CPU), (CUDA, CPU)),
        ("fp32", (CUDA, CPU), (CUDA, CPU)),
        ("fp16", ("AzureExecutionProvider", CPU), (CPU,)),
    ],
)
def test_int8_is_for_cpus(precision: str, available: tuple[str, ...], expected: tuple[str, ...]) -> None:
    """A GPU is used where there is one and the graph is made for it."""
    assert preferred_providers(precision, available) == expected


def test_a_provider_that_is_not_there_shows(encoder_parts: tuple[bytes, bytes]) -> None:
    """What is told is what the session runs on, not what was asked for."""
    if CUDA in onnxruntime.get_available_providers():
        pytest.skip("this machine has a GPU: the provider asked for is there")
    with pytest.warns(UserWarning, match="CUDAExecutionProvider"):
        made = Encoder(*encoder_parts, max_tokens=256, providers=(CUDA, CPU))
    assert made.provider == CPU
