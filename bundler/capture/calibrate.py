"""Chooses how an embedding model is quantised and measures the cost; runs in the confined child of `bert_to_onnx`.

The graph in float32 shows what reaches each linear layer on `TUNING`. Then all layers are quantised, and if some text
of `CHECK` strays too far from float32, fewer: the layers that lose most are left out first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper
from tokenizers import Tokenizer

from bundler.capture.bert_graph import build
from bundler.capture.bert_to_onnx import LEAST_COSINE, BertShape
from bundler.capture.quantise import Floats, QuantisedLinear, Span, error, merged, quantise
from bundler.capture.safetensors import Safetensors
from bundler.capture.sample_texts import CHECK, TUNING

SHARES_LEFT_OUT = (0.0, 0.25, 0.5)
_KEPT_ROWS = 256
_TOKENS = 256
_ERRORS_ONLY = 3


@dataclass(frozen=True)
class Calibrated:
    """A quantised graph: its bytes, the least cosine to float32 on `CHECK`, and the layers that were left out."""

    graph: bytes
    least_cosine: float
    left_out: tuple[str, ...]


def calibrate(shape: BertShape, weights: Safetensors, exact: bytes, tokenizer: bytes) -> Calibrated:
    """Returns the quantised graph that strays least of those tried, the first that strays little enough.

    Args:
        shape: The model.
        weights: Its tensors.
        exact: Its graph in float32.
        tokenizer: `tokenizer.json`.
    """
    tokens = _tokeniser(tokenizer, shape.positions)
    expected = _embeddings(exact, tokens, CHECK)
    watched = _Watched()
    spans = _spans(build(shape, weights, "fp32", watched), watched.values, [tokens(text) for text in TUNING])
    layers = _Layers(spans)
    tried: list[Calibrated] = []
    for share in SHARES_LEFT_OUT:
        layers.left_out = worst(layers.errors, share)
        graph = build(shape, weights, "int8", layers)
        cosine = float((_embeddings(graph, tokens, CHECK) * expected).sum(axis=1).min())
        tried.append(Calibrated(graph, cosine, tuple(sorted(layers.left_out))))
        if cosine >= LEAST_COSINE:
            break
    return max(tried, key=lambda item: item.least_cosine)


def worst(errors: Mapping[str, float], share: float) -> frozenset[str]:
    """Returns the given share of the layers, those with the largest errors."""
    ordered = sorted(errors, key=lambda name: (-errors[name], name))
    return frozenset(ordered[: round(share * len(ordered))])


@dataclass
class _Watched:
    """Notes the inputs of the layers while a graph is built."""

    values: dict[str, str] = field(default_factory=dict)

    def quantised(self, _name: str, _weight: Floats, _bias: Floats) -> None:
        return None

    def watch(self, name: str, value: str) -> None:
        self.values[name] = value


@dataclass
class _Layers:
    """Quantises the layers; what each loses is known once a graph was built."""

    spans: Mapping[str, Span]
    left_out: frozenset[str] = frozenset()
    errors: dict[str, float] = field(default_factory=dict)

    def quantised(self, name: str, weight: Floats, bias: Floats) -> QuantisedLinear | None:
        layer = quantise(weight, bias, self.spans[name])
        if name not in self.errors:
            self.errors[name] = error(weight, bias, self.spans[name], layer)
        return None if name in self.left_out else layer

    def watch(self, name: str, value: str) -> None:
        """The span of the layer is known already."""


def _spans(graph: bytes, values: Mapping[str, str], texts: Sequence[Sequence[int]]) -> dict[str, Span]:
    """Runs the texts one by one, so that no padding is measured."""
    model = onnx.load_model_from_string(graph)
    names = sorted(set(values.values()))
    model.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    session = _session(model.SerializeToString())
    seen = [session.run(names, _feeds(ids)) for ids in texts]
    found = {name: merged([rows[place] for rows in seen], _KEPT_ROWS) for place, name in enumerate(names)}
    return {name: found[value] for name, value in values.items()}


def _embeddings(graph: bytes, tokens: Any, texts: Sequence[str]) -> NDArray[np.float32]:
    session = _session(graph)
    return np.concatenate([session.run(["embedding"], _feeds(tokens(text)))[0] for text in texts])


def _session(graph: bytes) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # the child may start none
    options.log_severity_level = _ERRORS_ONLY
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def _feeds(ids: Sequence[int]) -> dict[str, NDArray[np.int64]]:
    row = np.array([ids], dtype=np.int64)
    return {"input_ids": row, "attention_mask": np.ones_like(row), "token_type_ids": np.zeros_like(row)}


def _tokeniser(tokenizer: bytes, positions: int) -> Any:
    made = Tokenizer.from_str(tokenizer.decode())
    made.enable_truncation(min(_TOKENS, positions))
    made.no_padding()
    return lambda text: made.encode(text).ids
