"""Writes a BERT encoder as ONNX in the way of torch's exporter: plain operators, rows of tokens, no pooling.

It stands in for the `onnx/model.onnx` of a model hub, which this project does not ship: the same inputs and outputs,
the same operators of opset 14, and the domains that a runtime lists when it saves a graph.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from bundler.capture.safetensors import Safetensors

OPSET, IR_VERSION = 14, 8
OUTPUT = "last_hidden_state"


class Export:
    """A graph under construction.

    Args:
        weights: The tensors.
        heads: Attention heads.
        dtype: What weights are stored in and computed in.
    """

    def __init__(self, weights: Safetensors, heads: int, dtype: Any = np.float32) -> None:
        self.weights, self.heads, self.dtype = weights, heads, dtype
        self.nodes: list[Any] = []
        self.tensors: list[Any] = []

    def value(self, name: str, array: Any) -> str:
        self.tensors.append(numpy_helper.from_array(np.array(array, order="C"), name))
        return name

    def weight(self, name: str, *, turned: bool = False) -> str:
        array = self.weights.floats(name, self.weights.tensors[name].shape).astype(self.dtype)
        return self.value(name, array.T if turned else array)

    def number(self, number: float) -> str:
        return self.value(f"number_{len(self.tensors)}", np.array(number, self.dtype))

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"/{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def linear(self, value: str, name: str) -> str:
        product = self.node("MatMul", value, self.weight(f"{name}.weight", turned=True))
        return self.node("Add", product, self.weight(f"{name}.bias"))

    def normalised(self, value: str, name: str) -> str:
        """LayerNorm as it was exported before opset 17."""
        centred = self.node("Sub", value, self.node("ReduceMean", value, axes=[-1]))
        square = self.node("ReduceMean", self.node("Pow", centred, self.number(2.0)), axes=[-1])
        spread = self.node("Sqrt", self.node("Add", square, self.number(1e-12)))
        scaled = self.node("Mul", self.node("Div", centred, spread), self.weight(f"{name}.weight"))
        return self.node("Add", scaled, self.weight(f"{name}.bias"))

    def by_heads(self, value: str) -> str:
        shape = self.value(f"shape_{len(self.tensors)}", np.array([0, 0, self.heads, -1]))
        return self.node("Transpose", self.node("Reshape", value, shape), perm=[0, 2, 1, 3])

    def attention(self, value: str, at: str, mask: str, width: int) -> str:
        query, key, rows = (
            self.by_heads(self.linear(value, f"{at}.self.{part}")) for part in ("query", "key", "value")
        )
        scores = self.node("MatMul", query, self.node("Transpose", key, perm=[0, 1, 3, 2]))
        scores = self.node("Add", self.node("Div", scores, self.number(np.sqrt(width / self.heads))), mask)
        mixed = self.node("MatMul", self.node("Softmax", scores, axis=-1), rows)
        flat = self.value(f"shape_{len(self.tensors)}", np.array([0, 0, width]))
        joined = self.node("Reshape", self.node("Transpose", mixed, perm=[0, 2, 1, 3]), flat)
        summed = self.node("Add", self.linear(joined, f"{at}.output.dense"), value)
        return self.normalised(summed, f"{at}.output.LayerNorm")

    def layer(self, value: str, number: int, mask: str, width: int) -> str:
        at = f"encoder.layer.{number}"
        value = self.attention(value, f"{at}.attention", mask, width)
        inner = self.linear(value, f"{at}.intermediate.dense")
        curve = self.node("Erf", self.node("Div", inner, self.number(np.sqrt(2.0))))
        wide = self.node("Mul", self.node("Mul", inner, self.node("Add", curve, self.number(1.0))), self.number(0.5))
        summed = self.node("Add", self.linear(wide, f"{at}.output.dense"), value)
        return self.normalised(summed, f"{at}.output.LayerNorm")

    def embedded(self) -> str:
        words = self.node("Gather", self.weight("embeddings.word_embeddings.weight"), "input_ids")
        kinds = self.node("Gather", self.weight("embeddings.token_type_embeddings.weight"), "token_type_ids")
        length = self.node("Gather", self.node("Shape", "input_ids"), self.value("one", np.array(1)))
        places = self.node("Range", self.value("zero", np.array(0)), length, "one")
        rows = self.node("Gather", self.weight("embeddings.position_embeddings.weight"), places)
        summed = self.node("Add", self.node("Add", words, kinds), rows)
        return self.normalised(summed, "embeddings.LayerNorm")

    def mask(self) -> str:
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(self.dtype))
        wide = self.node("Unsqueeze", "attention_mask", self.value("axes", np.array([1, 2])))
        absent = self.node("Sub", self.number(1.0), self.node("Cast", wide, to=kind))
        return self.node("Mul", absent, self.number(-10_000.0))


def export(safetensors: Path, *, layers: int = 6, heads: int = 12, dtype: Any = np.float32) -> Any:
    """Returns the model as an ONNX message."""
    with safetensors.open("rb") as file:
        made = Export(Safetensors(file), heads, dtype)
        value, mask = made.embedded(), made.mask()
        width = made.weights.tensors["embeddings.word_embeddings.weight"].shape[1]
        for number in range(layers):
            value = made.layer(value, number, mask, width)
    made.nodes[-1].output[0] = OUTPUT
    axes = ["batch_size", "sequence_length"]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, axes)
        for name in ("input_ids", "attention_mask", "token_type_ids")
    ]
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    output = helper.make_tensor_value_info(OUTPUT, kind, [*axes, width])
    graph = helper.make_graph(made.nodes, "main_graph", inputs, [output], made.tensors)
    opsets = [helper.make_opsetid(domain, version) for domain, version in (("", OPSET), ("com.microsoft", 1))]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="pytorch")
    onnx.checker.check_model(model)
    return model


def main() -> None:
    """Command line."""
    import argparse

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("safetensors", type=Path, help="weights of a BERT encoder")
    parser.add_argument("target", type=Path, help="the ONNX file to write")
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--heads", type=int, default=12)
    chosen = parser.parse_args()
    chosen.target.write_bytes(export(chosen.safetensors, layers=chosen.layers, heads=chosen.heads).SerializeToString())


if __name__ == "__main__":
    main()
