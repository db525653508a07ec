"""The confined child of `onnx_embedding`: what an embedding graph may be, and a trial of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import IO, Any

import numpy as np
import onnx
from onnx import TensorProto

from bundler import confined_child
from bundler.capture.modules import require
from bundler.capture.onnx_embedding import TakenFacts
from bundler.capture.onnx_rules import all_graphs, all_tensors, checked
from bundler.format.errors import BadInput
from bundler.format.limits import KIB
from bundler.format.record import to_json
from bundler.knowledge.encoder import Encoder
from bundler.knowledge.reading import CLS, GRAPH_POOLS, MAX, MEAN, Reading

# Finished rows are the author's own pooling, with whatever layer follows it; rows of tokens are pooled here.
_FINISHED, _STATES = ("sentence_embedding",), ("last_hidden_state", "token_embeddings")
_NEEDED, _KNOWN = {"input_ids", "attention_mask"}, {"input_ids", "attention_mask", "token_type_ids"}
# A loop can be made to run for ever by one text that a trial does not hold; and equal texts must get equal rows.
_REFUSED = {
    "Loop": "loops", "Scan": "loops", "RandomNormal": "rolls dice", "RandomNormalLike": "rolls dice",
    "RandomUniform": "rolls dice", "RandomUniformLike": "rolls dice", "Multinomial": "rolls dice",
    "Bernoulli": "rolls dice",
}  # fmt: skip
_POOLING = {"pooling_mode_mean_tokens": MEAN, "pooling_mode_cls_token": CLS, "pooling_mode_max_tokens": MAX}
_WHOLE_BITS = {TensorProto.INT8: 1.0, TensorProto.UINT8: 1.0, TensorProto.INT4: 0.5, TensorProto.UINT4: 0.5}
_FLOATS = {TensorProto.FLOAT: 4.0, TensorProto.FLOAT16: 2.0, TensorProto.BFLOAT16: 2.0, TensorProto.DOUBLE: 8.0}
_TEXT_BYTES = 256 * KIB
# Int8 with scales that are taken at run time sees its neighbours a little; anything else must not at all.
_LEAST_COSINE = {"fp32": 0.999, "fp16": 0.998, "int8": 0.95}
_TEXTS = (
    "The printer on the second floor is out of paper.",
    "How do I reset my password?",
    "Backups run every night at two, and somebody reads the report in the morning before anybody else is there.",
    "ok",
)


def take_streams(
    request: Mapping[str, Any], inputs: Mapping[str, IO[bytes]], _outputs: Mapping[str, IO[bytes]]
) -> dict[str, Any]:
    """Reads `graph`, `tokenizer`, `config`, and `modules` and `pooling` where they are given; returns the facts."""
    data = inputs["graph"].read()
    try:
        model, _ = checked(data)
        _check_operators(model)
        _check_inputs(model)
        name, rank = _output(model)
        pooling = GRAPH_POOLS if rank == 2 else _pooling(request["pooling"], inputs)
        precision = _precision(model)
        config = _object(inputs["config"], "config.json")
        del model
        reading = Reading(name, pooling, precision)
        encoder = Encoder(
            data, inputs["tokenizer"].read(), max_tokens=request["max_tokens"], reading=reading,
            pool=confined_child.pool(),
        )  # fmt: skip
        least = _tried(encoder, request["max_tokens"], precision)
    except BadInput as error:
        raise BadInput(f"{request['name']}: {error.fact}", error.hint) from error
    family = config.get("model_type")
    facts = TakenFacts(
        family if isinstance(family, str) else "", encoder.dimensions, name, pooling, precision, round(least, 6)
    )
    return dict(to_json(facts))


def _check_operators(model: Any) -> None:
    for graph in all_graphs(model.graph):
        for node in graph.node:
            if node.op_type in _REFUSED:
                raise BadInput(f"it {_REFUSED[node.op_type]} ({node.op_type}), which no embedding model needs")


def _check_inputs(model: Any) -> None:
    stored = {tensor.name for tensor in model.graph.initializer}
    inputs = {value.name: value.type.tensor_type for value in model.graph.input if value.name not in stored}
    if not _NEEDED <= inputs.keys() <= _KNOWN:
        raise BadInput(
            f"its inputs are {sorted(inputs)}, expected {sorted(_NEEDED)} and perhaps token_type_ids",
            "export the encoder alone, for feature extraction",
        )
    for name, kind in inputs.items():
        fixed = [dim.dim_value for dim in kind.shape.dim if dim.HasField("dim_value")]
        if kind.elem_type != TensorProto.INT64 or len(kind.shape.dim) != 2 or fixed:
            found = onnx.helper.tensor_dtype_to_string(kind.elem_type).removeprefix("TensorProto.")
            raise BadInput(
                f"its input {name} is {found} of {len(kind.shape.dim)} dimensions, {len(fixed)} of them fixed; "
                "expected INT64 of two that vary",
                "export it with a dynamic batch and sequence",
            )


def _output(model: Any) -> tuple[str, int]:
    outputs = {value.name: len(value.type.tensor_type.shape.dim) for value in model.graph.output}
    for names, rank in ((_FINISHED, 2), (_STATES, 3)):
        for name in names:
            if outputs.get(name) == rank:
                return name, rank
    raise BadInput(
        f"its outputs are {outputs} (by rank), expected {_FINISHED[0]} of rank 2 or {_STATES[0]} of rank 3",
        "export the encoder alone, for feature extraction",
    )


def _pooling(wanted: str, inputs: Mapping[str, IO[bytes]]) -> str:
    if wanted:
        return wanted
    require(_json(inputs["modules"], "modules.json"))
    fields = _object(inputs["pooling"], "1_Pooling/config.json")
    on = sorted(key for key, value in fields.items() if key.startswith("pooling_mode_") and value is True)
    if len(on) != 1 or on[0] not in _POOLING:
        raise BadInput(f"1_Pooling/config.json: the pooling is {on}, only one of {sorted(_POOLING)} is done here")
    return _POOLING[on[0]]


def _precision(model: Any) -> str:
    """What most bytes of the weights are in."""
    whole, half, full = 0.0, 0.0, 0.0
    for graph in all_graphs(model.graph):
        for tensor in all_tensors(graph):
            count = float(np.prod([float(size) for size in tensor.dims]))
            whole += count * _WHOLE_BITS.get(tensor.data_type, 0.0)
            share = count * _FLOATS.get(tensor.data_type, 0.0)
            half += share if tensor.data_type in (TensorProto.FLOAT16, TensorProto.BFLOAT16) else 0.0
            full += share if tensor.data_type in (TensorProto.FLOAT, TensorProto.DOUBLE) else 0.0
    # A quantised model often keeps its table of words as it was, which is most of a small one.
    if whole > (half + full) / 4:
        return "int8"
    return "fp16" if half > full else "fp32"


def _tried(encoder: Encoder, max_tokens: int, precision: str) -> float:
    """Embeds texts alone, together, and at the full length; returns the least cosine of the first two."""
    try:
        together = encoder.embed(_TEXTS)
        alone = np.concatenate([encoder.embed([text]) for text in _TEXTS])
    except Exception as error:  # the runtime raises classes of its own, one a cause
        raise BadInput(f"it fails on a short text: {_short(error)}") from error
    try:
        longest = encoder.embed(["word " * 2 * max_tokens])
    except Exception as error:  # the same
        raise BadInput(
            f"it fails on a text of max_tokens = {max_tokens} tokens: {_short(error)}", "lower max_tokens"
        ) from error
    rows = np.concatenate([together, alone, longest])
    if not np.isfinite(rows).all() or not np.allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-3):
        raise BadInput("it gives rows that are not finite, or of length 0")
    if (together @ together.T)[np.triu_indices(len(_TEXTS), 1)].min() > 0.9999:
        raise BadInput("it gives different texts the same row")
    least = float((together * alone).sum(axis=1).min())
    if least < _LEAST_COSINE[precision]:
        raise BadInput(
            f"a text comes to a cosine of {least:.4f} to itself beside others, at least {_LEAST_COSINE[precision]} is "
            "wanted: the graph does not heed attention_mask"
        )
    return least


def _short(error: Exception) -> str:
    return str(error).splitlines()[0][:300] if str(error) else type(error).__name__


def _object(file: IO[bytes], what: str) -> dict[str, Any]:
    value = _json(file, what)
    if not isinstance(value, dict):
        raise BadInput(f"{what} is not a JSON object")
    return value


def _json(file: IO[bytes], what: str) -> Any:
    data = file.read(_TEXT_BYTES + 1)
    if len(data) > _TEXT_BYTES:
        raise BadInput(f"{what} is longer than {_TEXT_BYTES} bytes")
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{what} is not JSON: {error}") from error
