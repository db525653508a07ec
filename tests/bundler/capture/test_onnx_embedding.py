"""An ONNX export that is taken as it came: the reference's vectors, and everything that is no embedding model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from bundler.capture.onnx_embedding import TakenFacts, take
from bundler.embedding.child import ConfinedEncoder
from bundler.format.errors import BadInput
from bundler.knowledge.reading import Reading


@pytest.fixture(scope="module")
def folder(minilm_files: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("minilm")
    for name in ("model.safetensors", "tokenizer.json"):
        (made / name).write_bytes(minilm_files[name])
    (made / "config.json").write_text('{"model_type": "bert"}')
    kinds = [f"sentence_transformers.models.{kind}" for kind in ("Transformer", "Pooling", "Normalize")]
    (made / "modules.json").write_text(json.dumps([{"idx": n, "type": kind} for n, kind in enumerate(kinds)]))
    (made / "pooling.json").write_text('{"word_embedding_dimension": 384, "pooling_mode_mean_tokens": true}')
    return made


@pytest.fixture(scope="module")
def exported(folder: Path, load_script: Callable[[str], Any]) -> Any:
    return load_script("bert_export").export(folder / "model.safetensors")


def taken(folder: Path, graph: Path, **more: Any) -> TakenFacts:
    asked = {"pooling": "mean", "modules": None, "pooling_config": None, "max_tokens": 256} | more
    return take(graph, folder / "tokenizer.json", folder / "config.json", **asked)


def written(tmp_path: Path, model: Any) -> Path:
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    return tmp_path / "model.onnx"


def small(operator: str = "", **shapes: Any) -> Any:
    """A table of eight dimensions a token, with what a test changes in it."""
    axes = shapes.get("axes", ["batch", "sequence"])
    inputs = [helper.make_tensor_value_info(name, shapes.get("kind", TensorProto.INT64), axes)
              for name in shapes.get("inputs", ("input_ids", "attention_mask"))]  # fmt: skip
    width, name = shapes.get("width", 8), shapes.get("output", "last_hidden_state")
    rows = shapes.get("rows", np.random.default_rng(1).normal(size=(31_000, width)))
    table = numpy_helper.from_array(np.asarray(rows, np.float32), "table")
    nodes = [helper.make_node("Gather", ["table", "input_ids"], [name])]
    if operator:
        nodes.append(helper.make_node(operator, [], ["noise"], shape=[1]))
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shapes.get("out", [*axes, width]))]
    graph = helper.make_graph(nodes, "g", inputs, outputs, [table])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_the_vectors_are_those_of_the_reference(folder: Path, exported: Any, repo_root: Path, tmp_path: Path) -> None:
    """Taken byte for byte, pooled and normalised here: the same as torch, to seven digits."""
    graph = written(tmp_path, exported)
    facts = taken(folder, graph, pooling="", modules=folder / "modules.json", pooling_config=folder / "pooling.json")
    assert facts == TakenFacts("bert", 384, "last_hidden_state", "mean", "fp32", 1.0)
    reading = Reading(facts.output, facts.pooling, facts.precision)
    encoder = ConfinedEncoder(graph, folder / "tokenizer.json", max_tokens=256, reading=reading)
    cases = json.loads((repo_root / "tests" / "vectors" / "minilm.json").read_text())["cases"]
    assert len(cases) > 10
    rows = encoder.embed([case["text"] for case in cases])
    assert np.allclose(rows, [case["vector"] for case in cases], atol=2e-6)


def test_a_graph_in_half_precision_is_known_as_one(
    folder: Path, load_script: Callable[[str], Any], tmp_path: Path
) -> None:
    """By its weights, since it says nothing; the profile can insist on another and is told."""
    graph = written(tmp_path, load_script("bert_export").export(folder / "model.safetensors", dtype=np.float16))
    assert taken(folder, graph).precision == "fp16"
    with pytest.raises(BadInput, match="is in fp16, the profile asks for fp32"):
        taken(folder, graph, precision="fp32")


def test_a_quantised_graph_is_taken(folder: Path, exported: Any, tmp_path: Path) -> None:
    """The usual quantiser's operators are ONNX's own; the plan says that nobody measured what it costs."""
    quantization = pytest.importorskip("onnxruntime.quantization")
    quantization.quantize_dynamic(str(written(tmp_path, exported)), str(tmp_path / "q.onnx"))
    facts = taken(folder, tmp_path / "q.onnx")
    assert facts.precision == "int8"
    assert "was not measured" in facts.reason()


def test_finished_rows_are_preferred_and_the_graph_may_lack_token_types(folder: Path, tmp_path: Path) -> None:
    """`sentence_embedding` holds whatever layer the author put behind the pooling."""
    model = small()
    axes = numpy_helper.from_array(np.array([1]), "axes")
    model.graph.initializer.append(axes)
    model.graph.node.append(helper.make_node("ReduceSum", ["masked", "axes"], ["sentence_embedding"], keepdims=0))
    nodes = [
        helper.make_node("Unsqueeze", ["attention_mask", "last"], ["wide"]),
        helper.make_node("Cast", ["wide"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["last_hidden_state", "real"], ["masked"]),
    ]
    model.graph.initializer.append(numpy_helper.from_array(np.array([2]), "last"))
    for place, node in enumerate(nodes, 1):
        model.graph.node.insert(place, node)
    model.graph.output.append(helper.make_tensor_value_info("sentence_embedding", TensorProto.FLOAT, ["batch", 8]))
    facts = taken(folder, written(tmp_path, model))
    assert (facts.output, facts.pooling, facts.dimensions) == ("sentence_embedding", "graph", 8)


BAD: dict[str, tuple[Any, str]] = {
    "an input too many": (
        lambda: small(inputs=("input_ids", "attention_mask", "position_ids")), "its inputs are .*position_ids"
    ),
    "an input too few": (lambda: small(inputs=("input_ids",)), "its inputs are"),
    "inputs of 32 bits": (lambda: small(kind=TensorProto.INT32), "is INT32 of 2 dimensions"),
    "a fixed length": (lambda: small(axes=["batch", 128]), "1 of them fixed"),
    "a fixed batch": (lambda: small(axes=[1, "sequence"]), "1 of them fixed"),
    "another output": (lambda: small(output="logits"), "its outputs are {'logits': 3}"),
    "an output of another rank": (lambda: small(out=["batch", 8]), "its outputs are"),
    "dice": (lambda: small("RandomNormal"), "rolls dice"),
    "no numbers": (lambda: small(rows=np.full((31_000, 8), np.nan)), "not finite, or of length 0"),
    "nothing": (lambda: small(rows=np.zeros((31_000, 8))), "not finite, or of length 0"),
    "one row for all": (lambda: small(rows=np.ones((31_000, 8))), "different texts the same row"),
    "too small a table": (lambda: small(rows=np.ones((50, 8))), "fails on a short text"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_embedding_model_is_refused(folder: Path, tmp_path: Path, name: str) -> None:
    """Each with what was expected."""
    make, words = BAD[name]
    with pytest.raises(BadInput, match=words):
        taken(folder, written(tmp_path, make()))


def test_a_fused_graph_is_refused_with_the_way_out(folder: Path, exported: Any, tmp_path: Path) -> None:
    """Exports that one runtime optimised use its own operators."""
    model = onnx.ModelProto.FromString(exported.SerializeToString())
    next(node for node in model.graph.node if node.op_type == "Erf").domain = "com.microsoft"
    with pytest.raises(BadInput, match=r"com\.microsoft:Erf is not ONNX's own") as caught:
        taken(folder, written(tmp_path, model))
    assert "onnx/model.onnx" in caught.value.hint


def test_a_length_that_the_graph_does_not_take_is_refused(folder: Path, exported: Any, tmp_path: Path) -> None:
    """Seen by doing it: positions end at 512."""
    with pytest.raises(BadInput, match="fails on a text of max_tokens = 513"):
        taken(folder, written(tmp_path, exported), max_tokens=513)


@pytest.mark.parametrize(
    ("modules", "pooling", "words"),
    [
        (["Transformer", "Pooling", "Dense"], {"pooling_mode_mean_tokens": True}, "only pooling and normalising"),
        (["Transformer"], {"pooling_mode_mean_tokens": True}, "only pooling and normalising"),
        (["Transformer", "Pooling"], {"pooling_mode_lasttoken": True}, "pooling_mode_lasttoken"),
        (["Transformer", "Pooling"], {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}, "only one"),
    ],
)
def test_another_pooling_is_refused(
    folder: Path, exported: Any, tmp_path: Path, modules: list[str], pooling: dict[str, bool], words: str
) -> None:
    """Vectors that are pooled otherwise would be near the right ones, and wrong."""
    (tmp_path / "modules.json").write_text(json.dumps([{"type": f"sentence_transformers.{m}"} for m in modules]))
    (tmp_path / "pooling.json").write_text(json.dumps(pooling))
    parts = {"modules": tmp_path / "modules.json", "pooling_config": tmp_path / "pooling.json"}
    with pytest.raises(BadInput, match=words):
        taken(folder, written(tmp_path, exported), pooling="", **parts)
