"""The quantised embedding model: its arithmetic, what it costs on real texts, and how the precision is chosen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from bundler.capture import bert_child, calibrate
from bundler.capture.bert_to_onnx import LEAST_COSINE, BertFacts
from bundler.capture.calibrate import Calibrated, worst
from bundler.capture.quantise import Span, error, merged, quantise, quantise_weight
from bundler.capture.sample_texts import CHECK, TUNING
from bundler.format.errors import BadInput

SEEDS = st.integers(0, 2**32 - 1)
CONFIG = {
    "model_type": "bert", "hidden_act": "gelu", "hidden_size": 384, "num_attention_heads": 12, "num_hidden_layers": 6,
    "intermediate_size": 1536, "max_position_embeddings": 512, "vocab_size": 30522,
}  # fmt: skip


def layer(seed: int, width: int = 24, out: int = 10) -> tuple[NDArray[np.float32], NDArray[np.float32], Span]:
    """A random layer whose third input channel is thirty times as large as the others."""
    random = np.random.default_rng(seed)
    rows = random.normal(size=(200, width)).astype(np.float32)
    rows[:, 2] *= 30
    weight = random.normal(0, 0.3, (width, out)).astype(np.float32)
    return weight, random.normal(size=out).astype(np.float32), merged([rows[:80], rows[80:]], 64)


@given(SEEDS, st.integers(1, 25), st.floats(1e-4, 100))
def test_no_pair_of_weights_can_saturate(seed: int, width: int, size: float) -> None:
    """On CPUs that add two products in 16 bits the sums stay exact, whatever the input."""
    weight = np.random.default_rng(seed).standard_t(2, (width, 5)).astype(np.float32) * np.float32(size)
    levels, step = quantise_weight(weight, np.zeros(5, np.float32))
    whole = np.concatenate([levels.astype(int), np.zeros((width % 2, 5), int)]).reshape(-1, 2, 5)
    for sign in (1, -1):
        assert 255 * np.maximum(sign * whole, 0).sum(axis=1).max() < 2**15
    assert np.abs(levels * step - weight).max() <= 1.6 * step.max()


@given(SEEDS)
def test_a_layer_with_an_outlying_channel_keeps_its_output(seed: int) -> None:
    """Evening out the channels leaves under a thousandth of the variance as error, of all inputs within the span."""
    weight, bias, span = layer(seed)
    assert error(weight, bias, span, quantise(weight, bias, span)) < 1e-3


def test_without_evening_out_the_same_layer_loses_much_more() -> None:
    """The outlying channel would take the levels from the others."""
    weight, bias, span = layer(1)
    made = quantise(weight, bias, span)
    step = np.float32((span.most.max() - span.least.min()) / 255)
    flat = (np.round(span.rows / step) * step) @ weight + bias
    lost = np.square(flat - (span.rows @ weight + bias)).sum()
    assert lost > 5 * np.square(made.apply(span.rows) - (span.rows @ weight + bias)).sum()


def test_a_layer_of_zeros_stays_finite() -> None:
    """Neither weights nor inputs that are all zero divide by zero."""
    zeros = np.zeros((4, 3), np.float32)
    made = quantise(zeros, np.ones(3, np.float32), Span(zeros[:, 0], zeros[:, 0], zeros.T))
    assert np.allclose(made.apply(zeros.T), 1, atol=1e-3)


def test_the_last_bits_of_a_span_do_not_show() -> None:
    """Another CPU measures nearly the same spans and writes the same graph."""
    weight, bias, span = layer(3)
    near = Span(span.least * np.float32(1 + 1e-7), span.most * np.float32(1 + 1e-7), span.rows)
    one, other = quantise(weight, bias, span), quantise(weight, bias, near)
    assert np.array_equal(one.weight, other.weight)
    assert one.step == other.step


def test_the_texts_that_judge_are_not_those_that_tune() -> None:
    """A text that stood in both would flatter the measure."""
    assert not set(TUNING) & set(CHECK)
    assert min(len(TUNING), len(CHECK)) >= 40


def test_the_worst_layers_are_left_out_first() -> None:
    """A share of none is none, and ties are settled by name."""
    errors = {"a": 0.1, "b": 0.4, "c": 0.2, "d": 0.4}
    assert [sorted(worst(errors, share)) for share in (0.0, 0.25, 0.5)] == [[], ["b"], ["b", "d"]]


@pytest.fixture
def inputs(minilm_files: dict[str, bytes], tmp_path: Path) -> Any:
    """Opens the files of all-MiniLM-L6-v2 as the confined child gets them."""
    names = {"safetensors": "model.safetensors", "tokenizer": "tokenizer.json"}
    (tmp_path / "config").write_text(json.dumps(CONFIG))
    for name, file in names.items():
        (tmp_path / name).write_bytes(minilm_files[file])
    pooling = b'{"word_embedding_dimension": 384, "pooling_mode_mean_tokens": true}'
    (tmp_path / "pooling").write_bytes(pooling)
    files = {name: (tmp_path / name).open("rb") for name in ("safetensors", "config", "pooling", "tokenizer")}
    yield files, {"onnx": (tmp_path / "onnx").open("wb")}
    for opened in files.values():
        opened.close()


@pytest.mark.parametrize(("cosine", "expected"), [(LEAST_COSINE, "int8"), (LEAST_COSINE - 0.001, "fp32")])
def test_auto_takes_int8_only_where_it_strays_little(
    inputs: Any, monkeypatch: pytest.MonkeyPatch, cosine: float, expected: str
) -> None:
    """What was measured and what was left out are told with the choice."""
    monkeypatch.setattr(bert_child, "calibrate", lambda *_: Calibrated(b"graph", cosine, ("a", "b")))
    files, out = inputs
    facts = BertFacts(**bert_child.convert_streams({"precision": "auto"}, files, out))
    out["onnx"].close()
    assert facts.precision == expected
    assert f"least cosine to fp32 {cosine:.4f}, at least 0.98 is wanted" in facts.reason()
    assert ("2 layers kept in fp32" in facts.reason()) == (expected == "int8")
    assert (Path(out["onnx"].name).read_bytes() == b"graph") == (expected == "int8")


def test_int8_that_was_asked_for_and_strays_is_refused(inputs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody gets fp32 who wrote int8; the hint names the way out."""
    monkeypatch.setattr(bert_child, "calibrate", lambda *_: Calibrated(b"graph", 0.9, ()))
    files, out = inputs
    with pytest.raises(BadInput, match=r"cosine of 0\.9000") as caught:
        bert_child.convert_streams({"precision": "int8"}, files, out)
    out["onnx"].close()
    assert "auto" in caught.value.hint


def test_layers_are_left_out_until_it_strays_little(inputs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a bound that nothing meets every share is tried, and the best graph is told."""
    monkeypatch.setattr(calibrate, "LEAST_COSINE", 0.9999)
    monkeypatch.setattr(calibrate, "CHECK", CHECK[5:12])
    monkeypatch.setattr(calibrate, "TUNING", TUNING[:20])
    files, out = inputs
    facts = BertFacts(**bert_child.convert_streams({"precision": "auto"}, files, out))
    out["onnx"].close()
    assert len(facts.left_out) == 12
    assert 0.99 < facts.least_cosine < 0.9999


def test_the_real_model_keeps_its_meaning_in_int8(encoder_parts: tuple[bytes, bytes]) -> None:
    """On the texts that judge, and in a quarter of the size of fp32 and a bit."""
    from bundler.knowledge.encoder import Encoder

    encoder = Encoder(*encoder_parts, max_tokens=256)
    assert (encoder.precision, encoder.provider) == ("int8", "CPUExecutionProvider")
    assert len(encoder_parts[0]) < 40_000_000
    questions = ["How do I reset my password?", "Reset of a forgotten password", "The river froze in January"]
    vectors = encoder.embed(questions)
    assert vectors[0] @ vectors[1] > 0.7 > 0.3 > vectors[0] @ vectors[2]
