"""Converts an embedding model of the BERT family from safetensors to ONNX, without torch.

The graph takes token ids and returns finished embeddings: encoder, pooling and L2 normalisation. It is in one
precision, which it names itself: "fp32", "int8" (linear layers in integers, for CPUs), or "fp16" (for GPUs).
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
from bundler.format.record import from_json

PRECISION_KEY = "lifeboat.precision"  # a metadata property of the graph
# What "auto" asks of int8: the least cosine to fp32 over the check texts. Quantised naively (one scale a weight, scales
# of inputs taken at run time) all-MiniLM-L6-v2 comes to 0.82 on texts like these; as we do it, to 0.99.
LEAST_COSINE = 0.98
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
    """What the converted graph offers; inputs longer than `max_tokens` fail.

    Attributes:
        precision: What the graph is in; never "auto".
        least_cosine: Of int8 to fp32 over the check texts, -1.0 where int8 was not tried.
        left_out: Linear layers that stay in fp32 in an int8 graph.
    """

    dimensions: int
    pooling: str
    max_tokens: int
    vocabulary: int
    layers: int
    precision: str = "fp32"
    least_cosine: float = -1.0
    left_out: tuple[str, ...] = ()

    def reason(self) -> str:
        """Says the precision and why, in one line for the operator."""
        if self.least_cosine < 0:
            return f"{self.precision}, as the profile says"
        measured = f"least cosine to fp32 {self.least_cosine:.4f}, at least {LEAST_COSINE} is wanted"
        kept = f", {len(self.left_out)} layers kept in fp32" if self.left_out and self.precision == "int8" else ""
        return f"{self.precision} (int8: {measured}{kept})"


def convert(
    safetensors: Path, config: Path, pooling: Path, target: Path, *, tokenizer: Path, precision: str = "auto"
) -> BertFacts:
    """Writes the ONNX file `target`, in a confined child.

    The graph has the inputs `input_ids`, `attention_mask` and `token_type_ids`, int64 (batch, sequence), and the output
    `embedding`, float32 (batch, dimensions), of length 1 in L2.

    Args:
        safetensors: The weights (F32, F16 or BF16).
        config: `config.json` of the model.
        pooling: `1_Pooling/config.json` of sentence-transformers.
        target: Appears only if the conversion succeeds.
        tokenizer: `tokenizer.json`, with which general texts are tried in int8.
        precision: "auto", "fp32", "int8" or "fp16"; "auto" is int8 where that strays little enough, else fp32.

    Raises:
        BadInput: Another family, another pooling, weights that do not fit the configuration, or int8 asked for where it
            strays too far; the fact says which.
    """
    size = _size(safetensors)
    if size > WEIGHTS_BYTES:
        raise BadInput(f"{safetensors.name} has {size} bytes, more than one ONNX file holds ({WEIGHTS_BYTES})")
    result = run_confined(
        "bundler.capture.bert_child:convert_streams",
        {"precision": precision},
        inputs={"safetensors": safetensors, "config": config, "pooling": pooling, "tokenizer": tokenizer},
        outputs={"onnx": target},
        # The weights are held as arrays, as initialisers and serialised, half-precision weights double; and for int8
        # in two graphs, one of which the runtime holds too. A minute of processor time a model of 100 MB, and more.
        confinement=Confinement(memory_bytes=4 * GIB + 16 * size, cpu_s=1800, wall_s=3600),
    )
    return from_json(BertFacts, result, "the result of the conversion")


def read_shape(config: IO[bytes], pooling: IO[bytes]) -> BertShape:
    """Reads and checks both configurations.

    Raises:
        BadInput: The model is not one that this converter reproduces; the fact names the field.
    """
    fields = _DEFAULTS | _object(config, "config.json")
    if fields.get("model_type") != "bert":
        raise BadInput(
            f"config.json: the family is {fields.get('model_type')!r}, only 'bert' is converted",
            'take its ONNX export, where its source offers one: onnx = "onnx/model.onnx" in [embedding]',
        )
    if "auto_map" in fields:
        raise BadInput(
            "config.json: auto_map names code of the model's own, and none is run: what it computes is not known",
            'take its ONNX export, where its source offers one: onnx = "onnx/model.onnx" in [embedding]',
        )
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
