"""What an ONNX graph may hold; runs in the confined child of `onnx`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import IO, Any

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # protobuf ships no type information

from bundler.capture.onnx import OnnxFacts
from bundler.format.errors import BadInput
from bundler.format.record import to_json

STANDARD = ("", "ai.onnx")
_DEPTH = 16
_TYPES = frozenset(onnx.TensorProto.DataType.values()) - {onnx.TensorProto.UNDEFINED}
WORDS_MOST = 1_000_000
_HINT = "take the export that was not optimised for one runtime, often onnx/model.onnx"


def check_stream(
    request: Mapping[str, Any], inputs: Mapping[str, IO[bytes]], _outputs: Mapping[str, IO[bytes]]
) -> dict[str, Any]:
    """Reads the input `onnx`, returns the facts."""
    try:
        return dict(to_json(facts_of(inputs["onnx"].read())))
    except BadInput as error:
        raise BadInput(f"{request['name']}: {error.fact}", error.hint) from error


def facts_of(data: bytes) -> OnnxFacts:
    """Checks a serialised model and returns its facts; raises BadInput as `bundler.capture.onnx.check`."""
    return checked(data)[1]


def checked(data: bytes) -> tuple[Any, OnnxFacts]:
    """Checks a serialised model; returns it with its facts.

    Raises:
        BadInput: As `bundler.capture.onnx.check`.
    """
    try:
        # Not onnx.load: that follows external data into other files.
        model = onnx.load_model_from_string(data)
    except DecodeError as error:
        raise BadInput(f"not an ONNX file: {error}") from error
    opset = _check_domains(model)
    _check_words(model)
    graphs = list(all_graphs(model.graph))
    for graph in graphs:
        _check_graph(graph)
    try:
        onnx.checker.check_model(data)
    except onnx.checker.ValidationError as error:
        raise BadInput(f"the graph is not valid: {str(error).splitlines()[0]}") from error
    stored = {tensor.name for tensor in model.graph.initializer}
    facts = OnnxFacts(
        opset=opset,
        inputs=tuple(value.name for value in model.graph.input if value.name not in stored),
        outputs=tuple(value.name for value in model.graph.output),
        nodes=sum(len(graph.node) for graph in graphs),
    )
    return model, facts


def _check_domains(model: Any) -> int:
    # Runtimes that save a graph list every domain that they know; what counts is which operators are used.
    if model.functions or model.training_info:
        raise BadInput("it carries local functions or training information, which are refused")
    versions = [opset.version for opset in model.opset_import if opset.domain in STANDARD]
    if len(versions) != 1:
        raise BadInput(f"it imports ONNX's own operators {len(versions)} times, expected once")
    return int(versions[0])


def _check_words(model: Any) -> None:
    """What a graph says of itself travels to every box and is read by its runtime."""
    said = len(model.doc_string) + len(model.graph.doc_string)
    said += sum(len(item.key) + len(item.value) for item in model.metadata_props)
    if said > WORDS_MOST:
        raise BadInput(f"it says more of itself than a graph may: {said} characters, at most {WORDS_MOST}")


def all_graphs(graph: Any, depth: int = 0) -> Iterator[Any]:
    """Yields a graph and every graph inside it; raises BadInput where they nest too deep."""
    if depth > _DEPTH:
        raise BadInput(f"its subgraphs nest deeper than {_DEPTH} levels")
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from all_graphs(inner, depth + 1)


def _check_graph(graph: Any) -> None:
    for node in graph.node:
        if node.domain not in STANDARD or not onnx.defs.has(node.op_type):
            raise BadInput(f"the operator {node.domain or 'ai.onnx'}:{node.op_type} is not ONNX's own", _HINT)
    for tensor in all_tensors(graph):
        if tensor.data_location != onnx.TensorProto.DEFAULT or tensor.external_data:
            raise BadInput(f"the data of {tensor.name!r} lies in another file", "save the model as one file")
        if tensor.data_type not in _TYPES:
            raise BadInput(f"the tensor {tensor.name!r} is of the unknown type {tensor.data_type}")


def all_tensors(graph: Any) -> Iterator[Any]:
    """Yields every tensor that a graph stores, but those of graphs inside it."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            yield from ([attribute.t] if attribute.HasField("t") else [])
            yield from attribute.tensors
            for sparse in (
                *([attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []),
                *attribute.sparse_tensors,
            ):
                yield from (sparse.values, sparse.indices)
