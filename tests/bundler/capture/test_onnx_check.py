"""What an ONNX file may hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from bundler.capture.onnx import OnnxFacts, check
from bundler.capture.onnx_rules import facts_of
from bundler.format.errors import BadInput


def value(name: str, kind: int = TensorProto.FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, [1])


def model(*nodes: Any, tensors: tuple[Any, ...] = (), domains: tuple[str, ...] = ("",), **more: Any) -> Any:
    made = nodes or (helper.make_node("Add", ["x", "w"], ["y"]),)
    stored = tensors or (numpy_helper.from_array(np.array([1], np.float32), "w"),)
    graph = helper.make_graph(list(made), "g", [value("x")], [value("y")], list(stored))
    opsets = [helper.make_opsetid(domain, 17) for domain in domains]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8, **more)


def external(name: str = "w") -> Any:
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="../../etc/passwd")
    return tensor


def branch(tensor: Any) -> Any:
    inner = helper.make_graph([helper.make_node("Constant", [], ["z"], value=tensor)], "inner", [], [value("z")])
    condition = numpy_helper.from_array(np.array(True), "c")
    node = helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)
    return model(node, tensors=(condition,))


def test_a_good_graph(tmp_path: Path) -> None:
    """The facts of a small graph arrive through the confined child; a stored input is not an input."""
    (tmp_path / "m.onnx").write_bytes(model().SerializeToString())
    assert check(tmp_path / "m.onnx") == OnnxFacts(opset=17, inputs=("x",), outputs=("y",), nodes=1)


def test_a_good_graph_with_a_branch() -> None:
    """Subgraphs are fine, and counted."""
    made = branch(numpy_helper.from_array(np.array([1], np.float32), "k"))
    assert facts_of(made.SerializeToString()).nodes == 3


def test_domains_that_nothing_uses_are_harmless() -> None:
    """ONNX Runtime lists all that it knows when it saves a graph."""
    assert facts_of(model(domains=("", "com.microsoft", "ai.onnx.ml")).SerializeToString()).opset == 17


def _function() -> Any:
    made = model()
    body = [helper.make_node("Add", ["a", "b"], ["c"])]
    opsets = [helper.make_opsetid("", 17)]
    made.functions.append(helper.make_function("", "Mine", ["a", "b"], ["c"], body, opsets))
    return made


def _trained() -> Any:
    made = model()
    made.training_info.add()
    return made


def _sparse() -> Any:
    made = model()
    made.graph.sparse_initializer.append(
        onnx.SparseTensorProto(values=external("s"), indices=numpy_helper.from_array(np.array([0]), "i"), dims=[1])
    )
    return made


def _deep() -> Any:
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [], [value("y")])
    for _ in range(20):
        node = helper.make_node("If", ["c"], ["y"], then_branch=graph)  # with both, 2**20 of them
        graph = helper.make_graph([node], "g", [], [value("y")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


BAD = {
    "custom-node": (model(helper.make_node("Add", ["x", "w"], ["y"], domain="com.evil")), "com.evil:Add"),
    "unknown-operator": (model(helper.make_node("Shell", ["x"], ["y"])), "ai.onnx:Shell"),
    "external": (model(tensors=(external(),)), "the data of 'w' lies in another file"),
    "external-in-attribute": (branch(external("k")), "the data of 'k' lies in another file"),
    "external-sparse": (_sparse(), "the data of 's' lies in another file"),
    "functions": (_function(), "local functions"),
    "training": (_trained(), "training information"),
    "two-opsets": (model(domains=("", "ai.onnx")), "own operators 2 times"),
    "no-opset": (model(domains=("",)), "own operators 0 times"),
    "deep": (_deep(), "nest deeper"),
    "invalid": (model(helper.make_node("Add", ["x"], ["y"])), "not valid"),
}
del BAD["no-opset"][0].opset_import[:]


@pytest.mark.parametrize("name", BAD)
def test_a_bad_graph_is_refused(name: str) -> None:
    """Custom operators, local code, data outside the file and invalid graphs are named."""
    made, words = BAD[name]
    with pytest.raises(BadInput, match=words):
        facts_of(made.SerializeToString())


def test_something_else_is_refused(tmp_path: Path) -> None:
    """Bytes that are no protobuf at all; the fact names the file."""
    (tmp_path / "m.onnx").write_bytes(b"\xff" * 100)
    with pytest.raises(BadInput, match=r"m\.onnx: not an ONNX file"):
        check(tmp_path / "m.onnx")


def test_an_absent_file_is_refused(tmp_path: Path) -> None:
    """There is nothing to check."""
    with pytest.raises(BadInput, match="is not a file"):
        check(tmp_path / "m.onnx")
