"""Builds the ONNX graph of a BERT encoder with pooling; runs in the confined child of `bert_to_onnx`.

Its operators are ONNX's own and each is a whole step: LayerNormalization, Gelu, Attention, and Gemm over all tokens of
a batch at once. ONNX Runtime needs to fuse nothing, and a box whose runtime fuses otherwise computes the same.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from bundler.capture.bert_to_onnx import PRECISION_KEY, BertShape
from bundler.capture.quantise import QuantisedLinear
from bundler.capture.safetensors import Safetensors
from bundler.format.errors import BadInput

OPSET = 23  # the first with Attention; Gelu came with 20, LayerNormalization with 17
IR_VERSION = 11  # onnx.helper.VERSION_TABLE: opset 23
# In float32 exp(score - 10000) is 0, as with the least float that transformers uses; float16 holds it too.
MASKED = -10_000.0
# What checkpoints carry beside the encoder and no embedding uses.
_UNUSED = ("pooler.", "cls.", "embeddings.position_ids")


class Linears(Protocol):
    """Decides how a linear layer is computed."""

    def quantised(self, name: str, weight: NDArray[np.float32], bias: NDArray[np.float32]) -> QuantisedLinear | None:
        """Returns the layer in int8; None leaves it as it is. `weight` has shape (in, out)."""

    def watch(self, name: str, value: str) -> None:
        """Hears which value of the graph is the input of the layer."""


class AsTheyAre:
    """No layer is quantised."""

    def quantised(self, _name: str, _weight: NDArray[np.float32], _bias: NDArray[np.float32]) -> None:
        return None

    def watch(self, name: str, value: str) -> None:
        """Nobody wants to know."""


def build(shape: BertShape, weights: Safetensors, precision: str = "fp32", linears: Linears | None = None) -> bytes:
    """Returns the serialised graph, the same bytes for the same input.

    Args:
        shape: What the configuration says.
        weights: The tensors.
        precision: Noted in the graph; "fp16" computes everything but the pooling in half precision.
        linears: How linear layers are computed; as they are if None.

    Raises:
        BadInput: A tensor is missing, misshapen, or one that this encoder would not use.
    """
    graph = _Graph(weights, precision, linears or AsTheyAre())
    _embed(graph, shape)
    _mask(graph)
    for number in range(shape.layers):
        _layer(graph, shape, number)
    _pool(graph, shape)
    graph.refuse_unused()
    return graph.serialise(shape, precision)


class _Graph:
    """Nodes and initialisers under construction.

    Attributes:
        kind: What the graph computes in.
        table: What the word embeddings are stored in, which are most of a small model.
        hidden: Name of the current hidden states, (tokens, hidden).
    """

    def __init__(self, weights: Safetensors, precision: str, linears: Linears) -> None:
        self._weights, self._linears = weights, linears
        self.kind = np.dtype(np.float16 if precision == "fp16" else np.float32)
        self.table = np.dtype(np.float32 if precision == "fp32" else np.float16)
        self._prefix = "bert." if any(name.startswith("bert.") for name in weights.tensors) else ""
        self._used: set[str] = set()
        self._nodes: list[Any] = []
        self._tensors: list[Any] = []
        self.hidden = ""

    def read(self, name: str, *shape: int) -> NDArray[np.float32]:
        self._used.add(name)
        return self._weights.floats(self._prefix + name, shape)

    def weight(self, name: str, *shape: int) -> str:
        return self.number(name, self.read(name, *shape))

    def number(self, name: str, value: NDArray[Any]) -> str:
        """Stores numbers in the precision of the graph."""
        return self.constant(name, value.astype(self.kind))

    def constant(self, name: str, value: NDArray[Any]) -> str:
        self._tensors.append(numpy_helper.from_array(np.array(value, order="C"), name))
        return name

    def node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self._nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def split(self, value: str, outputs: list[str]) -> list[str]:
        count = len(outputs)
        self._nodes.append(helper.make_node("Split", [value], outputs, name=outputs[0], axis=-1, num_outputs=count))
        return outputs

    def linear(self, value: str, name: str, layers: list[str], inner: int, outer: int) -> str:
        """The linear layers named, side by side; torch keeps (out, in), Gemm wants (in, out)."""
        weight = np.concatenate([self.read(f"{layer}.weight", outer, inner).T for layer in layers], axis=1)
        bias = np.concatenate([self.read(f"{layer}.bias", outer) for layer in layers])
        self._linears.watch(name, value)
        quantised = self._linears.quantised(name, weight, bias)
        if quantised is not None:
            return self._in_int8(value, name, quantised)
        parts = [self.number(f"{name}/weight", weight), self.number(f"{name}/bias", bias)]
        return self.node("Gemm", [value, *parts], f"{name}/sum")

    def _in_int8(self, value: str, name: str, layer: QuantisedLinear) -> str:
        """QuantizeLinear, then Gemm of dequantised values, which ONNX Runtime computes in integers (QGemm)."""
        even = self.node("Mul", [value, self.constant(f"{name}/evening", layer.evening)], f"{name}/even")
        grid = [self.constant(f"{name}/step", layer.step), self.constant(f"{name}/zero", layer.zero)]
        small = self.node("QuantizeLinear", [even, *grid], f"{name}/uint8")
        parts = [self.node("DequantizeLinear", [small, *grid], f"{name}/input")]
        steps = {"weight": layer.weight_step, "bias": layer.weight_step * layer.step}
        for part, axis, number in (("weight", 1, layer.weight), ("bias", 0, layer.bias)):
            step = self.constant(f"{name}/{part}_step", steps[part])
            zero = self.constant(f"{name}/{part}_zero", np.zeros(len(layer.bias), number.dtype))
            stored = self.constant(f"{name}/{part}_{number.dtype}", number)
            parts.append(self.node("DequantizeLinear", [stored, step, zero], f"{name}/{part}", axis=axis))
        return self.node("Gemm", parts, f"{name}/sum")

    def normalise(self, value: str, name: str, shape: BertShape) -> str:
        scale, bias = (self.weight(f"{name}.{part}", shape.hidden) for part in ("weight", "bias"))
        return self.node("LayerNormalization", [value, scale, bias], name, axis=-1, epsilon=shape.epsilon)

    def refuse_unused(self) -> None:
        names = {name.removeprefix(self._prefix) for name in self._weights.tensors}
        left = sorted(name for name in names - self._used if not name.startswith(_UNUSED))
        if left:
            raise BadInput(f"safetensors: {len(left)} tensors are not part of a BERT encoder, such as {left[0]}")

    def serialise(self, shape: BertShape, precision: str) -> bytes:
        axes = ["batch", "sequence"]
        names = ("input_ids", "attention_mask", "token_type_ids")
        inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, axes) for name in names]
        output = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", shape.hidden])
        graph = helper.make_graph(self._nodes, "bert", inputs, [output], self._tensors)
        opset = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION, producer_name="lifeboat")
        helper.set_model_props(model, {PRECISION_KEY: precision})
        data: bytes = model.SerializeToString()
        onnx.checker.check_model(data, full_check=True)
        return data


def _embed(graph: _Graph, shape: BertShape) -> None:
    table = graph.read("embeddings.word_embeddings.weight", shape.vocabulary, shape.hidden)
    words = graph.constant("embeddings.word_embeddings.weight", table.astype(graph.table))
    kinds = graph.weight("embeddings.token_type_embeddings.weight", shape.token_types, shape.hidden)
    places = graph.weight("embeddings.position_embeddings.weight", shape.positions, shape.hidden)
    first, second = graph.constant("zero", np.array([0])), graph.constant("one", np.array([1]))
    third = graph.constant("two", np.array([2]))
    size = graph.node("Shape", ["input_ids"], "size")
    graph.node("Slice", [size, first, second], "batch")
    length = graph.node("Slice", [size, second, third], "length")
    places = graph.node("Slice", [places, first, length, first], "embeddings/places")
    word = graph.node("Gather", [words, "input_ids"], "embeddings/words")
    if graph.table != graph.kind:
        word = graph.node("Cast", [word], "embeddings/words_float", to=TensorProto.FLOAT)
    kind = graph.node("Gather", [kinds, "token_type_ids"], "embeddings/types")
    both = graph.node("Add", [word, kind], "embeddings/words_types")
    total = graph.node("Add", [both, places], "embeddings/sum")
    graph.constant("flat", np.array([-1, shape.hidden]))
    for name, width in (("by_text", shape.hidden), ("by_text_qkv", 3 * shape.hidden)):
        graph.node("Concat", ["size", graph.constant(f"{name}/width", np.array([width]))], name, axis=0)
    graph.hidden = graph.normalise(
        graph.node("Reshape", [total, "flat"], "embeddings/flat"), "embeddings.LayerNorm", shape
    )


def _mask(graph: _Graph) -> None:
    wide = graph.node("Unsqueeze", ["attention_mask", graph.constant("mask/axes", np.array([1, 2]))], "mask/wide")
    real = graph.node("Cast", [wide], "mask/float", to=helper.np_dtype_to_tensor_dtype(graph.kind))
    one, least = graph.number("mask/one", np.array(1.0)), graph.number("mask/least", np.array(MASKED))
    added = graph.node("Mul", [graph.node("Sub", [one, real], "mask/inverse"), least], "mask/added")
    # The specification would let (batch, 1, 1, length) stand for it; ONNX Runtime's kernel refuses that.
    whole = graph.node("Concat", ["batch", "one", "length", "length"], "mask/shape", axis=0)
    graph.node("Expand", [added, whole], "mask")


def _layer(graph: _Graph, shape: BertShape, number: int) -> None:
    at = f"encoder.layer.{number}"
    mixed = _attention(graph, shape, f"{at}.attention.self")
    name = f"{at}.attention.output"
    dense = graph.linear(mixed, f"{name}.dense", [f"{name}.dense"], shape.hidden, shape.hidden)
    summed = graph.node("Add", [dense, graph.hidden], f"{name}/sum")
    graph.hidden = graph.normalise(summed, f"{name}.LayerNorm", shape)
    name = f"{at}.intermediate.dense"
    inner = graph.linear(graph.hidden, name, [name], shape.hidden, shape.intermediate)
    # Exact form, x / 2 (1 + erf(x / sqrt 2)), not the tanh one (Hendrycks and Gimpel 2016).
    curve = graph.node("Gelu", [inner], f"{at}/gelu", approximate="none")
    outer = graph.linear(curve, f"{at}.output.dense", [f"{at}.output.dense"], shape.intermediate, shape.hidden)
    summed = graph.node("Add", [outer, graph.hidden], f"{at}.output/sum")
    graph.hidden = graph.normalise(summed, f"{at}.output.LayerNorm", shape)


def _attention(graph: _Graph, shape: BertShape, at: str) -> str:
    """Scaled dot-product attention, softmax(Q K^T / sqrt(d) + mask) V, by heads (Vaswani et al. 2017, equation 1)."""
    names = [f"{at}.{part}" for part in ("query", "key", "value")]
    flat = graph.linear(graph.hidden, f"{at}.qkv", names, shape.hidden, shape.hidden)
    parts = graph.split(
        graph.node("Reshape", [flat, "by_text_qkv"], f"{at}/by_text"), [f"{name}/part" for name in names]
    )
    heads = {"q_num_heads": shape.heads, "kv_num_heads": shape.heads}
    mixed = graph.node("Attention", [*parts, "mask"], f"{at}/mixed", **heads)
    return graph.node("Reshape", [mixed, "flat"], f"{at}/flat")


def _pool(graph: _Graph, shape: BertShape) -> None:
    states = graph.node("Reshape", [graph.hidden, "by_text"], "pool/states")
    if graph.kind != np.float32:
        states = graph.node("Cast", [states], "pool/float32", to=TensorProto.FLOAT)
    pooled = _mean(graph, states) if shape.pooling == "mean" else _first(graph, states)
    last = graph.constant("pool/last", np.array([-1]))
    norm = graph.node("ReduceL2", [pooled, last], "pool/norm", keepdims=1)
    least = graph.constant("pool/least_norm", np.array(1e-12, np.float32))  # torch.nn.functional.normalize
    graph.node("Div", [pooled, graph.node("Max", [norm, least], "pool/length")], "embedding")


def _mean(graph: _Graph, states: str) -> str:
    mask = graph.node("Cast", ["attention_mask"], "pool/mask_float", to=TensorProto.FLOAT)
    wide = graph.node("Unsqueeze", [mask, "two"], "pool/mask")
    kept = graph.node("Mul", [states, wide], "pool/kept")
    total = graph.node("ReduceSum", [kept, "one"], "pool/total", keepdims=0)
    count = graph.node("ReduceSum", [wide, "one"], "pool/count", keepdims=0)
    least = graph.constant("pool/least_count", np.array(1e-9, np.float32))  # sentence_transformers Pooling
    return graph.node("Div", [total, graph.node("Max", [count, least], "pool/some")], "pool/mean")


def _first(graph: _Graph, states: str) -> str:
    return graph.node("Gather", [states, graph.constant("pool/cls", np.array(0))], "pool/first", axis=1)
