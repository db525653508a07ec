"""What sentence-transformers puts after an encoder (`modules.json`): only pooling and normalising are done here.

A layer more, such as LaBSE's `Dense`, and vectors without it would be vectors of another model.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from bundler.confine import run_confined
from bundler.format import strict_json
from bundler.format.errors import BadInput
from bundler.format.limits import MIB

BYTES = MIB
_KNOWN = ("Transformer", "Pooling", "Normalize")


def check(path: Path) -> None:
    """Raises BadInput where a model does more after its encoder than pooling and normalising; reads it confined."""
    run_confined("bundler.capture.modules:check_stream", {}, inputs={"modules": path})


def check_stream(
    _request: Mapping[str, Any], inputs: Mapping[str, IO[bytes]], _outputs: Mapping[str, IO[bytes]]
) -> dict[str, Any]:
    """The child's side of `check`: reads the input `modules`."""
    data = inputs["modules"].read(BYTES + 1)
    if len(data) > BYTES:
        raise BadInput(f"modules.json is longer than {BYTES} bytes")
    try:
        require(strict_json.parse(data))
    except ValueError as error:
        raise BadInput(f"modules.json is not JSON: {error}") from error
    return {}


def require(modules: object) -> None:
    """Raises BadInput unless an encoder and its pooling come first, and then nothing but normalising."""
    items = modules if isinstance(modules, list) else []
    names = [str(item.get("type", "")).rpartition(".")[2] for item in items if isinstance(item, dict)]
    if names[:2] != list(_KNOWN[:2]) or not set(names) <= set(_KNOWN) or len(names) != len(items):
        raise BadInput(
            f"modules.json: after the encoder comes {names[1:]}, only pooling and normalising are done here",
            "take an ONNX export that gives sentence_embedding",
        )
