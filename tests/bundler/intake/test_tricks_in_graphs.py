"""Graphs and tokenizers that bite: operators of others, data elsewhere, depth, claims, patterns without end."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from bundler.capture import tokenizer
from bundler.capture.onnx import check

Refused = Callable[..., str]


def value(name: str) -> Any:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [1])


def graph(*nodes: Any, tensors: tuple[Any, ...] = ()) -> Any:
    made = nodes or (helper.make_node("Identity", ["x"], ["y"]),)
    return helper.make_graph(list(made), "g", [value("x")], [value("y")], list(tensors))


def model(*nodes: Any, tensors: tuple[Any, ...] = (), **more: Any) -> Any:
    opsets = [helper.make_opsetid("", 17)]
    return helper.make_model(graph(*nodes, tensors=tensors), opset_imports=opsets, ir_version=8, **more)


def elsewhere(location: str, **more: str) -> Any:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    for key, text in {"location": location, **more}.items():
        tensor.external_data.add(key=key, value=text)
    return model(tensors=(tensor,))


def deep() -> bytes:
    inner = graph()
    for _ in range(20):
        node = helper.make_node("If", ["c"], ["y"], then_branch=inner)
        inner = graph(node)
    made: bytes = helper.make_model(
        inner, opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    ).SerializeToString()
    return made


def nested_messages() -> bytes:
    """A protobuf whose graphs nest 5 000 deep, which a reader that recurses falls over."""
    data = b""
    for _ in range(5_000):
        attribute = b"\x32" + varint(len(data)) + data  # AttributeProto.g = 6
        node = b"\x2a" + varint(len(attribute)) + attribute  # NodeProto.attribute = 5
        data = b"\x0a" + varint(len(node)) + node  # GraphProto.node = 1
    return b"\x3a" + varint(len(data)) + data  # ModelProto.graph = 7


def varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out, number = out + bytes([number & 127 | 128]), number >> 7
    return out + bytes([number])


def function() -> bytes:
    made = model()
    body = [helper.make_node("Add", ["a", "b"], ["c"])]
    made.functions.append(helper.make_function("", "Add", ["a", "b"], ["c"], body, [helper.make_opsetid("", 17)]))
    data: bytes = made.SerializeToString()
    return data


def trained() -> bytes:
    made = model()
    made.training_info.add()
    data: bytes = made.SerializeToString()
    return data


def claims(dims: list[int], kind: int = TensorProto.FLOAT, data: bytes = b"\0" * 4) -> bytes:
    made: bytes = model(tensors=(TensorProto(name="w", data_type=kind, dims=dims, raw_data=data),)).SerializeToString()
    return made


GRAPHS: dict[str, tuple[Callable[[], bytes], str]] = {
    "an operator of another": (
        lambda: model(helper.make_node("Add", ["x", "x"], ["y"], domain="com.evil")).SerializeToString(), "com.evil:Add"
    ),
    "Python in an operator": (
        lambda: model(
            helper.make_node("PyOp", ["x"], ["y"], domain="ai.onnx.contrib", code="import os")
        ).SerializeToString(),
        "ai.onnx.contrib:PyOp",
    ),
    "an operator that ONNX has not": (
        lambda: model(helper.make_node("Shell", ["x"], ["y"])).SerializeToString(), "ai.onnx:Shell"
    ),
    "a function that is named as an operator": (function, "local functions"),
    "training": (trained, "training information"),
    "data at an absolute path": (lambda: elsewhere("/etc/shadow").SerializeToString(), "lies in another file"),
    "data above the folder": (lambda: elsewhere("../../etc/shadow").SerializeToString(), "lies in another file"),
    "data beside it": (lambda: elsewhere("model.onnx_data", offset="0").SerializeToString(), "lies in another file"),
    "data at an address": (lambda: elsewhere("http://evil.example/w").SerializeToString(), "lies in another file"),
    "graphs 20 deep": (deep, "nest deeper"),
    "messages 5 000 deep": (nested_messages, "not an ONNX file|nest deeper"),
    "a tensor that claims 2^60 values": (lambda: claims([2**60]), "not valid"),
    "a tensor whose sizes overflow": (lambda: claims([2**32, 2**32]), "not valid|adds up"),
    "a tensor of a size below zero": (lambda: claims([-1]), "not valid|adds up"),
    "a tensor of a type that is none": (lambda: claims([1], 99), "unknown type 99"),
    "no protobuf": (lambda: b"\xff" * 1000, "not an ONNX file"),
    "half of one": (lambda: model().SerializeToString()[:-5], "not an ONNX file|not valid"),
    "nothing": (lambda: b"", "."),
    "a length of 2^63": (lambda: b"\x3a" + b"\xff" * 8 + b"\x7f", "not an ONNX file"),
    "64 MB of what it says of itself": (
        lambda: model(doc_string="x" * (64 << 20)).SerializeToString(), "says more of itself"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", GRAPHS)
def test_a_graph_that_bites_is_refused(tmp_path: Path, refused: Refused, name: str) -> None:
    """In the child, with the operator, the tensor or the place named."""
    make, words = GRAPHS[name]
    (tmp_path / "m.onnx").write_bytes(make())
    assert "m.onnx" in refused(lambda: check(tmp_path / "m.onnx"), words)


def test_the_base_of_the_graphs_is_good(tmp_path: Path) -> None:
    """What is refused above is refused for the trick."""
    stored = numpy_helper.from_array(np.zeros(1, np.float32), "w")
    (tmp_path / "m.onnx").write_bytes(model(tensors=(stored,)).SerializeToString())
    assert check(tmp_path / "m.onnx").nodes == 1
    assert onnx.ModelProto.FromString(claims([1])).graph.initializer[0].dims[0] == 1


GOOD: dict[str, Any] = {"version": "1.0", "model": {"type": "WordLevel", "vocab": {"a": 0, "b": 1}, "unk_token": "a"}}


def split(pattern: str) -> bytes:
    part = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return json.dumps({**GOOD, "pre_tokenizer": part}).encode()


def charsmap(data: str) -> bytes:
    return json.dumps({**GOOD, "normalizer": {"type": "Precompiled", "precompiled_charsmap": data}}).encode()


TOKENIZERS: dict[str, tuple[Callable[[], bytes], str]] = {
    "100 000 deep": (lambda: b'{"model":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "not JSON|refuses"),
    "longer than a tokenizer is": (lambda: b'{"model":"' + b"x" * (65 << 20) + b'"}', "longer"),
    "a part that names code": (
        lambda: json.dumps({**GOOD, "auto_map": {"AutoTokenizer": "evil.py"}}).encode(), "auto_map"
    ),
    "a model of another": (lambda: json.dumps({**GOOD, "model": {"type": "Python", "code": "x"}}).encode(), "refuses"),
    "a normaliser of another": (
        lambda: json.dumps({**GOOD, "normalizer": {"type": "Custom", "class": "os.system"}}).encode(), "refuses"
    ),
    "a map of characters that is garbage": (
        lambda: charsmap("////"), "."
    ),
    "a map of characters that lies": (
        lambda: charsmap("/////wAAAAA="),
        ".",
    ),
    "no number": (lambda: b'{"model":{"type":"WordLevel","vocab":{"a":NaN},"unk_token":"a"}}', "refuses|not JSON"),
    "ids of 2^40": (
        lambda: json.dumps({**GOOD, "model": {**GOOD["model"], "vocab": {"a": 2**40}}}).encode(), "refuses"
    ),
    "no vocabulary": (
        lambda: json.dumps({"model": {"type": "WordLevel", "vocab": {}, "unk_token": "a"}}).encode(), "empty"
    ),
    "a pattern that tries every way": (lambda: split(r"(a+)+$"), r"it takes|it fails|processor time|longer than"),
    "a pattern that never ends": (lambda: split(r"(a|aa)+$"), r"it takes|it fails|processor time|longer than"),
    "a pattern that is none": (lambda: split("("), "refuses"),
    "a pickle": (lambda: b"\x80\x04N.", "not JSON"),
    "an endless text": (lambda: struct.pack("<Q", 2**63) * 100, "not JSON"),
}  # fmt: skip


@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_tokenizer_that_bites_is_refused(tmp_path: Path, refused: Refused, name: str) -> None:
    """Also one whose pattern takes an hour for a line that anybody may send to the box."""
    make, words = TOKENIZERS[name]
    (tmp_path / "tokenizer.json").write_bytes(make())
    assert "tokenizer.json" in refused(lambda: tokenizer.check(tmp_path / "tokenizer.json"), words)


def test_the_base_of_the_tokenizers_is_good(tmp_path: Path) -> None:
    """And a harmless pattern is taken."""
    (tmp_path / "tokenizer.json").write_bytes(split(r"\s+"))
    assert tokenizer.check(tmp_path / "tokenizer.json").vocabulary == 2


def test_ten_million_words_are_refused_by_their_length(tmp_path: Path, refused: Refused) -> None:
    """Such a vocabulary is longer than any tokenizer.json may be."""
    words = ",".join(f'"w{number}":{number}' for number in range(4_500_000))
    (tmp_path / "tokenizer.json").write_text('{"model":{"type":"WordLevel","unk_token":"w0","vocab":{' + words + "}}}")
    refused(lambda: tokenizer.check(tmp_path / "tokenizer.json"), "longer than")
