"""Checks an ONNX file: standard operators only, nothing outside the file, in a confined child."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bundler.confine import Confinement, run_confined
from bundler.format.errors import BadInput
from bundler.format.limits import GIB
from bundler.format.record import from_json

GRAPH_BYTES = 2 * GIB - 1  # one protobuf message


@dataclass(frozen=True)
class OnnxFacts:
    """What a checked graph takes and gives; `nodes` counts subgraphs too."""

    opset: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: int


def check(path: Path) -> OnnxFacts:
    """Checks the file.

    Raises:
        BadInput: Malformed, an operator of another domain than ONNX's own, a local function, training data, or a tensor
            whose data lies in another file.
    """
    if not path.is_file():
        raise BadInput(f"{path} is not a file")
    size = path.stat().st_size
    if size > GRAPH_BYTES:
        raise BadInput(f"{path.name} has {size} bytes, at most {GRAPH_BYTES}")
    result = run_confined(
        "bundler.capture.onnx_rules:check_stream",
        {"name": path.name},
        inputs={"onnx": path},
        # The bytes, the parsed message, and the checker's own copy.
        confinement=Confinement(memory_bytes=2 * GIB + 4 * size),
    )
    return from_json(OnnxFacts, result, f"the facts of {path.name}")
