"""The confined child of `bert_to_onnx`: reads the model, writes the graph in the precision that is right for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import IO, Any

from bundler.capture.bert_graph import build
from bundler.capture.bert_to_onnx import LEAST_COSINE, BertFacts, read_shape
from bundler.capture.calibrate import calibrate
from bundler.capture.safetensors import Safetensors
from bundler.format.errors import BadInput
from bundler.format.record import to_json


def convert_streams(
    request: Mapping[str, Any], inputs: Mapping[str, IO[bytes]], outputs: Mapping[str, IO[bytes]]
) -> dict[str, Any]:
    """Reads `safetensors`, `config`, `pooling` and `tokenizer`, writes `onnx`; returns the facts."""
    shape = read_shape(inputs["config"], inputs["pooling"])
    facts = BertFacts(shape.hidden, shape.pooling, shape.positions, shape.vocabulary, shape.layers)
    weights, wanted = Safetensors(inputs["safetensors"]), request["precision"]
    if wanted in ("fp32", "fp16"):
        outputs["onnx"].write(build(shape, weights, wanted))
        return dict(to_json(replace(facts, precision=wanted)))
    exact = build(shape, weights)
    found = calibrate(shape, weights, exact, inputs["tokenizer"].read())
    good = found.least_cosine >= LEAST_COSINE
    if wanted == "int8" and not good:
        raise BadInput(
            f"in int8 a check text comes to a cosine of {found.least_cosine:.4f} to fp32, at least {LEAST_COSINE} is "
            "wanted",
            'write precision = "auto" or "fp32"',
        )
    outputs["onnx"].write(found.graph if good else exact)
    measured = replace(facts, least_cosine=found.least_cosine, left_out=found.left_out)
    return dict(to_json(replace(measured, precision="int8" if good else "fp32")))
