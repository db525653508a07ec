"""Builds the ONNX graph of a BERT encoder with pooling; runs in the confined child of `bert_to_onnx`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import IO, Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from bundler.capture.bert_to_onnx import BertShape, facts_of, read_shape
from bundler.capture.safetensors import Safetensors
from bundler.format.errors import BadInput

# The newest in which ONNX Runtime's attention fusion knows Cast, Unsqueeze, Add, Mul and Sub
# (core/optimizer/attention_fusion_helper.h, MatchInputMaskSubgraph).
OPSET = 12
IR_VERSION = 7  # onnx.helper.VERSION_TABLE: opset 12
# In float32 exp(score - 10000) is 0, as with the least float that transformers uses; ONNX Runtime's attention
# fusion looks for this value (core/optimizer/attention_fusion_helper.h).
MASKED = -10_000.0
PLACES = "embeddings/places"
# What checkpoints carry beside the encoder and no embedding uses.
_UNUSED = ("pooler.", "cls.", "embeddings.position_ids")


def convert_streams(
    _request: Mapping[str, Any], inputs: Mapping[str, IO[bytes]], outputs: Mapping[str, IO[bytes]]
) -> dict[str, Any]:
    """Reads `safetensors`, `config` and `pooling`, writes `onnx`; returns the facts."""
    shape = read_shape(inputs["config"], inputs["pooling"])
    outputs["onnx"].write(build(shape, Safetensors(inputs["safetensors"])))
    return facts_of(shape)


def build(shape: BertShape, weights: Safetensors) -> bytes:
    """Returns the serialised graph, the same bytes for the same input.

    Raises:
        BadInput: A tensor is missing, misshapen, or one that this encoder would not use.
    """
    graph = _Graph(weights)
    _embed(graph, shape)
    _mask(graph)
    for number in range(shape.layers):
        _layer(graph, shape, number)
    _pool(graph, shape.pooling)
    graph.refuse_unused()
    return graph.serialise(shape)


class _Graph:
    """Nodes and initialisers under construction; `hidden` names the current hidden states."""

    def __init__(self, weights: Safetensors) -> None:
        self._weights = weights
        self._prefix = "bert." if any(name.startswith("bert.") for name in weights.tensors) else ""
        self._used: set[str] = set()
        self._nodes: list[Any] = []
        self._tensors: list[Any] = []
        self.hidden = ""

    def weight(self, name: str, *shape: int) -> str:
        return self._put(name, self._read(name, shape))

    def transposed(self, name: str, rows: int, columns: int) -> str:
        """Turns a linear layer round: torch keeps (out, in), MatMul wants (in, out)."""
        return self._put(name, np.ascontiguousarray(self._read(name, (rows, columns)).T))

    def constant(self, name: str, value: NDArray[Any]) -> str:
        return self._put(name, value)

    def node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self._nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def linear(self, value: str, name: str, inner: int, outer: int) -> str:
        product = self.node("MatMul", [value, self.transposed(f"{name}.weight", outer, inner)], f"{name}/product")
        return self.node("Add", [product, self.weight(f"{name}.bias", outer)], f"{name}/sum")

    def normalise(self, value: str, name: str, shape: BertShape) -> str:
        scale, bias = (self.weight(f"{name}.{part}", shape.hidden) for part in ("weight", "bias"))
        mean = self.node("ReduceMean", [value], f"{name}/mean", axes=[-1], keepdims=1)
        off = self.node("Sub", [value, mean], f"{name}/off")
        square = self.node("Pow", [off, self.constant(f"{name}/two", np.array(2, np.float32))], f"{name}/square")
        spread = self.node("ReduceMean", [square], f"{name}/variance", axes=[-1], keepdims=1)
        least = self.constant(f"{name}/epsilon", np.array(shape.epsilon, np.float32))
        spread = self.node("Sqrt", [self.node("Add", [spread, least], f"{name}/safe")], f"{name}/spread")
        scaled = self.node("Mul", [self.node("Div", [off, spread], f"{name}/unit"), scale], f"{name}/scaled")
        return self.node("Add", [scaled, bias], name)

    def refuse_unused(self) -> None:
        names = {name.removeprefix(self._prefix) for name in self._weights.tensors}
        left = sorted(name for name in names - self._used if not name.startswith(_UNUSED))
        if left:
            raise BadInput(f"safetensors: {len(left)} tensors are not part of a BERT encoder, such as {left[0]}")

    def serialise(self, shape: BertShape) -> bytes:
        axes = ["batch", "sequence"]
        names = ("input_ids", "attention_mask", "token_type_ids")
        inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, axes) for name in names]
        output = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", shape.hidden])
        # Without this the sequence axis is lost at the Slice, and with it the SkipLayerNormalization fusion.
        hints = [helper.make_tensor_value_info(PLACES, TensorProto.FLOAT, ["sequence", shape.hidden])]
        graph = helper.make_graph(self._nodes, "bert", inputs, [output], self._tensors, value_info=hints)
        opset = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION, producer_name="lifeboat")
        data: bytes = model.SerializeToString()
        onnx.checker.check_model(data, full_check=True)
        return data

    def _read(self, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        self._used.add(name)
        return self._weights.floats(self._prefix + name, shape)

    def _put(self, name: str, value: NDArray[Any]) -> str:
        self._tensors.append(numpy_helper.from_array(value, name))
        return name


def _embed(graph: _Graph, shape: BertShape) -> None:
    words = graph.weight("embeddings.word_embeddings.weight", shape.vocabulary, shape.hidden)
    kinds = graph.weight("embeddings.token_type_embeddings.weight", shape.token_types, shape.hidden)
    places = graph.weight("embeddings.position_embeddings.weight", shape.positions, shape.hidden)
    first, second = graph.constant("zero", np.array([0])), graph.constant("one", np.array([1]))
    third = graph.constant("two", np.array([2]))
    length = graph.node("Slice", [graph.node("Shape", ["input_ids"], "size"), second, third], "length")
    places = graph.node("Slice", [places, first, length, first], PLACES)
    word = graph.node("Gather", [words, "input_ids"], "embeddings/words")
    kind = graph.node("Gather", [kinds, "token_type_ids"], "embeddings/types")
    both = graph.node("Add", [word, kind], "embeddings/words_types")
    total = graph.node("Add", [both, places], "embeddings/sum")
    graph.hidden = graph.normalise(total, "embeddings.LayerNorm", shape)


def _mask(graph: _Graph) -> None:
    # Two steps of one axis each: the attention fusion knows no other form.
    wide = graph.node("Unsqueeze", ["attention_mask"], "mask/heads", axes=[1])
    wide = graph.node("Unsqueeze", [wide], "mask/wide", axes=[2])
    real = graph.node("Cast", [wide], "mask/float", to=TensorProto.FLOAT)
    one = graph.constant("mask/one", np.array(1, np.float32))
    least = graph.constant("mask/least", np.array(MASKED, np.float32))
    graph.node("Mul", [graph.node("Sub", [one, real], "mask/inverse"), least], "mask")


def _layer(graph: _Graph, shape: BertShape, number: int) -> None:
    at = f"encoder.layer.{number}"
    mixed = _attention(graph, shape, f"{at}.attention.self")
    dense = graph.linear(mixed, f"{at}.attention.output.dense", shape.hidden, shape.hidden)
    summed = graph.node("Add", [dense, graph.hidden], f"{at}.attention.output/sum")
    graph.hidden = graph.normalise(summed, f"{at}.attention.output.LayerNorm", shape)
    inner = graph.linear(graph.hidden, f"{at}.intermediate.dense", shape.hidden, shape.intermediate)
    outer = graph.linear(_gelu(graph, inner, at), f"{at}.output.dense", shape.intermediate, shape.hidden)
    summed = graph.node("Add", [outer, graph.hidden], f"{at}.output/sum")
    graph.hidden = graph.normalise(summed, f"{at}.output.LayerNorm", shape)


def _attention(graph: _Graph, shape: BertShape, at: str) -> str:
    """Scaled dot-product attention, softmax(Q K^T / sqrt(d) + mask) V, by heads (Vaswani et al. 2017, equation 1)."""
    size = shape.hidden // shape.heads
    query = _heads(graph, shape, f"{at}.query", [0, 2, 1, 3])
    key = _heads(graph, shape, f"{at}.key", [0, 2, 3, 1])
    value = _heads(graph, shape, f"{at}.value", [0, 2, 1, 3])
    root = graph.constant(f"{at}/root", np.array(math.sqrt(size), np.float32))
    score = graph.node("Div", [graph.node("MatMul", [query, key], f"{at}/product"), root], f"{at}/score")
    share = graph.node("Softmax", [graph.node("Add", [score, "mask"], f"{at}/masked")], f"{at}/share", axis=3)
    mixed = graph.node("MatMul", [share, value], f"{at}/mixed")
    turned = graph.node("Transpose", [mixed], f"{at}/turned", perm=[0, 2, 1, 3])
    joined = graph.constant(f"{at}/joined_shape", np.array([0, 0, shape.hidden]))
    return graph.node("Reshape", [turned, joined], f"{at}/joined")


def _heads(graph: _Graph, shape: BertShape, name: str, order: list[int]) -> str:
    flat = graph.linear(graph.hidden, name, shape.hidden, shape.hidden)
    split = graph.constant(f"{name}/shape", np.array([0, 0, shape.heads, shape.hidden // shape.heads]))
    return graph.node("Transpose", [graph.node("Reshape", [flat, split], f"{name}/split")], f"{name}/heads", perm=order)


def _gelu(graph: _Graph, value: str, at: str) -> str:
    """Exact form, x / 2 (1 + erf(x / sqrt 2)), not the tanh one (Hendrycks and Gimpel 2016)."""
    numbers = {"root_two": math.sqrt(2), "one": 1.0, "half": 0.5}
    root, one, half = (graph.constant(f"{at}/{k}", np.array(v, np.float32)) for k, v in numbers.items())
    curve = graph.node("Erf", [graph.node("Div", [value, root], f"{at}/scaled")], f"{at}/erf")
    gate = graph.node("Mul", [value, graph.node("Add", [curve, one], f"{at}/gate")], f"{at}/gated")
    return graph.node("Mul", [gate, half], f"{at}/gelu")


def _pool(graph: _Graph, pooling: str) -> None:
    pooled = _mean(graph) if pooling == "mean" else _first(graph)
    norm = graph.node("ReduceL2", [pooled], "pool/norm", axes=[-1], keepdims=1)
    least = graph.constant("pool/least_norm", np.array(1e-12, np.float32))  # torch.nn.functional.normalize
    graph.node("Div", [pooled, graph.node("Max", [norm, least], "pool/length")], "embedding")


def _mean(graph: _Graph) -> str:
    mask = graph.node("Cast", ["attention_mask"], "pool/float", to=TensorProto.FLOAT)
    wide = graph.node("Unsqueeze", [mask], "pool/mask", axes=[2])
    kept = graph.node("Mul", [graph.hidden, wide], "pool/kept")
    total = graph.node("ReduceSum", [kept], "pool/total", axes=[1], keepdims=0)
    count = graph.node("ReduceSum", [wide], "pool/count", axes=[1], keepdims=0)
    least = graph.constant("pool/least_count", np.array(1e-9, np.float32))  # sentence_transformers Pooling
    return graph.node("Div", [total, graph.node("Max", [count, least], "pool/some")], "pool/mean")


def _first(graph: _Graph) -> str:
    return graph.node("Gather", [graph.hidden, graph.constant("pool/cls", np.array(0))], "pool/first", axis=1)
