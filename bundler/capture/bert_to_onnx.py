"""Converts an embedding model of the BERT family from safetensors to ONNX, without torch.

The graph takes token ids and returns finished embeddings: encoder, pooling and L2 normalisation. Operators and layout
are those of the usual BERT export, which ONNX Runtime's optimiser knows (Attention, SkipLayerNormalization, BiasGelu).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from bundler.confine import Confinement, run_confined
from bundler.format.errors import BadInput
from bundler.format.limits import GIB, KIB
from bundler.format.record import from_json, to_json

CONFIG_BYTES = 256 * KIB
WEIGHTS_BYTES = 2 * GIB - 64 * KIB  # one protobuf message holds the graph
_HINT = "use a sentence-transformers model of the BERT family with absolute positions, such as all-MiniLM-L6-v2"
# Every other value of these changes what the encoder computes (transformers, BertConfig).
_REQUIRED = {
    "model_type": "bert",
    "hidden_act": "gelu",
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "add_cross_attention": False,
}
_DEFAULTS = {"hidden_act": "gelu", "position_embedding_type": "absolute", "type_vocab_size": 2, "layer_norm_eps": 1e-12}


@dataclass(frozen=True)
class BertShape:
    """The sizes of one BERT encoder and its pooling ("mean" or "cls")."""

    vocabulary: int
    positions: int
    token_types: int
    hidden: int
    intermediate: int
    heads: int
    layers: int
    epsilon: float
    pooling: str


@dataclass(frozen=True)
class BertFacts:
    """What the converted graph offers; inputs longer than `max_tokens` fail."""

    dimensions: int
    pooling: str
    max_tokens: int
    vocabulary: int
    layers: int


def convert(safetensors: Path, config: Path, pooling: Path, target: Path) -> BertFacts:
    """Writes the ONNX file `target`, in a confined child.

    The graph has the inputs `input_ids`, `attention_mask` and `token_type_ids`, int64 (batch, sequence), and the output
    `embedding`, float32 (batch, dimensions), of length 1 in L2.

    Args:
        safetensors: The weights (F32, F16 or BF16).
        config: `config.json` of the model.
        pooling: `1_Pooling/config.json` of sentence-transformers.
        target: Appears only if the conversion succeeds.

    Raises:
        BadInput: Another family, another pooling, or weights that do not fit the configuration; the fact says which.
    """
    size = _size(safetensors)
    if size > WEIGHTS_BYTES:
        raise BadInput(f"{safetensors.name} has {size} bytes, more than one ONNX file holds ({WEIGHTS_BYTES})")
    result = run_confined(
        "bundler.capture.bert_graph:convert_streams",
        {},
        inputs={"safetensors": safetensors, "config": config, "pooling": pooling},
        outputs={"onnx": target},
        # The weights are held as arrays, as initialisers and serialised; half-precision weights double.
        confinement=Confinement(memory_bytes=2 * GIB + 8 * size),
    )
    return from_json(BertFacts, result, "the result of the conversion")


def facts_of(shape: BertShape) -> dict[str, Any]:
    """Returns the JSON form of the facts of a converted graph."""
    facts = BertFacts(shape.hidden, shape.pooling, shape.positions, shape.vocabulary, shape.layers)
    return dict(to_json(facts))


def read_shape(config: IO[bytes], pooling: IO[bytes]) -> BertShape:
    """Reads and checks both configurations.

    Raises:
        BadInput: The model is not one that this converter reproduces; the fact names the field.
    """
    fields = _DEFAULTS | _object(config, "config.json")
    if fields.get("model_type") != "bert":
        raise BadInput(f"config.json: the family is {fields.get('model_type')!r}, only 'bert' is converted", _HINT)
    for name, expected in _REQUIRED.items():
        if fields.get(name, expected) != expected:
            raise BadInput(f"config.json: {name} is {fields[name]!r}, only {expected!r} is converted", _HINT)
    hidden, heads = _size_of(fields, "hidden_size", 65_536), _size_of(fields, "num_attention_heads", 1_024)
    if hidden % heads:
        raise BadInput(f"config.json: hidden_size {hidden} does not divide by num_attention_heads {heads}")
    return BertShape(
        vocabulary=_size_of(fields, "vocab_size", 4_000_000),
        positions=_size_of(fields, "max_position_embeddings", 1_000_000),
        token_types=_size_of(fields, "type_vocab_size", 1_024),
        hidden=hidden,
        intermediate=_size_of(fields, "intermediate_size", 1_000_000),
        heads=heads,
        layers=_size_of(fields, "num_hidden_layers", 256),
        epsilon=_epsilon(fields["layer_norm_eps"]),
        pooling=_pooling(_object(pooling, "1_Pooling/config.json"), hidden),
    )


def _pooling(fields: Mapping[str, Any], hidden: int) -> str:
    on = sorted(name for name, value in fields.items() if name.startswith("pooling_mode_") and value is True)
    known = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}
    if len(on) != 1 or on[0] not in known:
        raise BadInput(f"1_Pooling/config.json: the pooling is {on}, only one of {sorted(known)} is converted", _HINT)
    if fields.get("word_embedding_dimension") != hidden:
        found = fields.get("word_embedding_dimension")
        raise BadInput(f"1_Pooling/config.json: word_embedding_dimension is {found}, hidden_size is {hidden}")
    return known[on[0]]


def _object(file: IO[bytes], what: str) -> dict[str, Any]:
    data = file.read(CONFIG_BYTES + 1)
    if len(data) > CONFIG_BYTES:
        raise BadInput(f"{what} is longer than {CONFIG_BYTES} bytes")
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{what} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise BadInput(f"{what} is not a JSON object")
    return value


def _size_of(fields: Mapping[str, Any], name: str, most: int) -> int:
    value = fields.get(name)
    if type(value) is not int or not 1 <= value <= most:
        raise BadInput(f"config.json: {name} is {value!r}, expected a whole number from 1 to {most}")
    return value


def _epsilon(value: object) -> float:
    if type(value) is not float or not 0 < value < 0.1:
        raise BadInput(f"config.json: layer_norm_eps is {value!r}, expected a number between 0 and 0.1")
    return value


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from error
