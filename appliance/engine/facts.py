"""What the header of a GGUF tells about the memory that its model will take. Pure.

Widths are read from the shapes of tensors where there are any: metadata may hold one number for layers that differ.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from bundler.format.errors import BadInput
from bundler.format.gguf_header import Header, TensorInfo

_LAYER = re.compile(r"blk\.(\d+)\.")
_RECURRENT = ("ssm_", "time_mix_", "shortconv.", "linear_attn", "kda_")
# Values of state for each value of the embedding: above RWKV (66), Kimi's delta layers (244), lightning (128).
_CAREFUL_STATE = 256


@dataclass(frozen=True)
class ModelFacts:
    """What counts for memory; widths are in values for each token.

    Attributes:
        architecture: As llama.cpp names it.
        trained_tokens: The context that the model was trained for.
        layers: Number of blocks, those for drafts included.
        layer_bytes: Weights of each block.
        input_bytes: Weights that stay in system memory: the embedding and what is in no block.
        output_bytes: The last norm and the output matrix; a tied one counts again, as llama.cpp may load it twice.
        largest_bytes: The largest tensor: read whole before it is laid out for the processor.
        embedding: Width of the residual stream.
        vocabulary: Number of tokens.
        heads: Most attention heads of any layer.
        query_width: Widest query.
        feed_forward: Widest inner layer, all experts in use together.
        key_widths: Keys cached for each layer; 0 where it has none.
        value_widths: Values cached for each layer.
        state_bytes: Recurrent state of each layer, for each sequence.
        head_sizes: Size of a head's key and value, 0 where the header does not say.
        sliding: Whether some layers look back over a window only.
        unsure: Why the figures are upper bounds by guess and not by formula; empty where they are known.
    """

    architecture: str
    trained_tokens: int
    layers: int
    layer_bytes: tuple[int, ...]
    input_bytes: int
    output_bytes: int
    largest_bytes: int
    embedding: int
    vocabulary: int
    heads: int
    query_width: int
    feed_forward: int
    key_widths: tuple[int, ...]
    value_widths: tuple[int, ...]
    state_bytes: tuple[int, ...]
    head_sizes: tuple[int, int]
    sliding: bool
    unsure: tuple[str, ...]

    @property
    def weights_bytes(self) -> int:
        return sum(self.layer_bytes) + self.input_bytes + self.output_bytes


def model_facts(header: Header) -> ModelFacts:
    """Picks the facts out of a checked header.

    Raises:
        BadInput: The header lacks what every model has.
    """
    keys = _Keys(header)
    layers, embedding = keys.number("block_count"), keys.number("embedding_length")
    if not 0 < layers <= 4096 or not embedding:
        raise BadInput(f"{keys.architecture}.block_count is {layers}, embedding_length {embedding}, expected numbers")
    blocks = _blocks(header.tensors, layers)
    outside = [tensor for tensor in header.tensors if not _LAYER.match(tensor.name)]
    output = sum(tensor.length for tensor in outside if tensor.name.startswith("output"))
    embedded = sum(tensor.length for tensor in outside if tensor.name == "token_embd.weight")
    tied = not any(tensor.name == "output.weight" for tensor in outside)
    read = [_Block(block, keys, number) for number, block in enumerate(blocks)]
    return ModelFacts(
        architecture=keys.architecture,
        trained_tokens=keys.number("context_length"),
        layers=layers,
        layer_bytes=tuple(sum(tensor.length for tensor in block.values()) for block in blocks),
        input_bytes=sum(tensor.length for tensor in outside) - output,
        output_bytes=output + embedded * tied,
        largest_bytes=max(tensor.length for tensor in header.tensors),
        embedding=embedding,
        vocabulary=keys.vocabulary(),
        heads=max(keys.of_layer("attention.head_count", number) for number in range(layers)),
        query_width=max(block.query for block in read),
        feed_forward=max(block.feed_forward for block in read),
        key_widths=tuple(block.keys for block in read),
        value_widths=tuple(block.values for block in read),
        state_bytes=tuple(block.state_bytes for block in read),
        head_sizes=(keys.head_size("key_length", 0), keys.head_size("value_length", 0)),
        sliding=keys.number("attention.sliding_window") > 0,
        unsure=_unsure(keys, read),
    )


class _Keys:
    """Metadata under the name of the architecture."""

    def __init__(self, header: Header) -> None:
        self._header = header
        self.architecture = header.text("general.architecture") or ""

    def number(self, key: str) -> int:
        return self.of_layer(key, 0)

    def tells(self, key: str) -> bool:
        name = f"{self.architecture}.{key}"
        return name in self._header.metadata or name in self._header.arrays

    def of_layer(self, key: str, layer: int) -> int:
        """Returns a number that a header gives once, or once a layer; 0 where it is absent."""
        name = f"{self.architecture}.{key}"
        array = self._header.arrays.get(name, ())
        return max(0, array[layer] if layer < len(array) else self._header.integer(name))

    def head_size(self, key: str, layer: int) -> int:
        stated = self.of_layer(f"attention.{key}", layer)
        heads = self.of_layer("attention.head_count", layer)
        return stated or (self.number("embedding_length") // heads if heads else 0)

    def vocabulary(self) -> int:
        return max(self._header.counts.get("tokenizer.ggml.tokens", 0), self.number("vocab_size"))


class _Block:
    """The widths of one layer, from the shapes of its tensors, else from metadata."""

    def __init__(self, tensors: dict[str, TensorInfo], keys: _Keys, number: int) -> None:
        heads = keys.of_layer("attention.head_count", number)
        cached_heads = (
            keys.of_layer("attention.head_count_kv", number) if keys.tells("attention.head_count_kv") else heads
        )
        key_size, value_size = keys.head_size("key_length", number), keys.head_size("value_length", number)
        self.recurrent = any(name.startswith(_RECURRENT) for name in tensors)
        attends = any(name.startswith("attn_k") for name in tensors) or "attn_qkv.weight" in tensors
        cached_heads = cached_heads if attends or not self.recurrent else 0
        split = "attn_k.weight" in tensors
        self.query = max(heads * max(key_size, value_size), _rows(tensors, "attn_q.weight"))
        self.keys = _rows(tensors, "attn_k.weight") if split else cached_heads * key_size
        # Without a matrix of its own the value is the key.
        self.values = (_rows(tensors, "attn_v.weight") or self.keys) if split else cached_heads * value_size
        self.known = split or "attn_qkv.weight" in tensors or self.recurrent or not self.keys
        self.feed_forward = _feed_forward(tensors, keys, number)
        self.state_bytes = _state_bytes(keys) if self.recurrent else 0


def _blocks(tensors: tuple[TensorInfo, ...], layers: int) -> list[dict[str, TensorInfo]]:
    blocks: list[dict[str, TensorInfo]] = [{} for _ in range(layers)]
    for tensor in tensors:
        if found := _LAYER.match(tensor.name):
            number = int(found[1])
            if number >= layers:
                raise BadInput(f"the tensor {tensor.name} is of layer {number}, the model has {layers}")
            blocks[number][tensor.name[found.end() :]] = tensor
    return blocks


def _rows(tensors: dict[str, TensorInfo], name: str) -> int:
    shape = tensors[name].shape if name in tensors else ()
    return shape[1] if len(shape) > 1 else 0


def _feed_forward(tensors: dict[str, TensorInfo], keys: _Keys, number: int) -> int:
    """The widest inner layer: a dense one, or all experts that a token uses, with what they give out."""
    dense = max(
        (_rows(tensors, name) for name in tensors if name.startswith("ffn_") and "_exps" not in name), default=0
    )
    used = keys.of_layer("expert_used_count", number)
    expert = max((_rows(tensors, name) for name in tensors if "_exps" in name), default=0)
    inner = keys.of_layer("ssm.inner_size", number)
    return max(dense, keys.of_layer("feed_forward_length", number), used * expert, 2 * inner)


def _state_bytes(keys: _Keys) -> int:
    """The recurrent state of a layer in f32 (llama.cpp, llama-hparams.cpp: n_embd_r and n_embd_s)."""
    inner, state = keys.number("ssm.inner_size"), keys.number("ssm.state_size")
    if not inner or not state:
        return 4 * _CAREFUL_STATE * keys.number("embedding_length")
    convolved = inner + 2 * keys.number("ssm.group_count") * state
    return 4 * (max(1, keys.number("ssm.conv_kernel")) * convolved + state * inner)


def _unsure(keys: _Keys, blocks: list[_Block]) -> tuple[str, ...]:
    found = []
    if keys.number("attention.kv_lora_rank") or keys.number("attention.key_length_mla"):
        found.append("attention keeps a compressed cache (MLA)")
    if any(block.recurrent for block in blocks):
        found.append("layers keep a recurrent state")
    if any(not block.known for block in blocks) and not found:
        found.append("attention tensors have names that are not known here")
    if not keys.number("attention.head_count") and not any(block.recurrent for block in blocks):
        found.append("the header does not tell the number of attention heads")
    return tuple(found)
