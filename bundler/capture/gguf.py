"""Inspects a GGUF model strictly: what llama.cpp would have to trust is checked here, in a confined child.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from bundler.confine import run_confined
from bundler.format.errors import BadInput
from bundler.format.gguf_header import Header, read_header
from bundler.format.gguf_types import FILE_TYPES
from bundler.format.record import from_json, to_json
from bundler.format.service import CHAT, RERANK

CHAT_TEMPLATE_CHARS = 256 * 1024
RANKING_HEAD = "cls."
# llama.cpp's names of architectures that read a text at once and make no next token (llama-model.cpp `create_memory`).
ENCODERS = frozenset(
    "bert modern-bert neo-bert nomic-bert nomic-bert-moe jina-bert-v2 jina-bert-v3 eurobert gemma-embedding".split()
)
PAIRED = frozenset({"t5", "t5encoder"})


@dataclass(frozen=True)
class TensorSpan:
    """Where a tensor's data lies; `offset` counts from the start of the file, both in bytes."""

    name: str
    offset: int
    length: int


@dataclass(frozen=True)
class GgufFacts:
    """What a model file says of itself, after its counts, offsets and sizes have been found to add up.

    Attributes:
        context_length: Tokens that the model was trained for.
        quantisation: The file type, such as "Q4_K_M".
        vocabulary: Number of tokens, 0 where the file carries none.
        data_offset: Where the header ends and tensor data begins, in bytes.
        length_bytes: Size of the file.
    """

    architecture: str
    name: str | None
    context_length: int
    quantisation: str
    licence: str | None
    chat_template: str | None
    tokenizer: str | None
    vocabulary: int
    parameters: int
    data_offset: int
    length_bytes: int
    tensors: tuple[TensorSpan, ...]


def inspect(path: Path) -> GgufFacts:
    """Reads the header of a GGUF file in a confined child; tensor data is not read.

    Raises:
        BadInput: Not GGUF 2 or 3, a part of a split model, or anything in it does not add up.
    """
    result = run_confined("bundler.capture.gguf:inspect_stream", {"name": path.name}, inputs={"gguf": path})
    return from_json(GgufFacts, result, f"the facts of {path.name}")


def unfit(facts: GgufFacts, serves: str) -> str | None:
    """Returns why a model cannot do what a profile wants of it, or None."""
    ranks = any(tensor.name.startswith(RANKING_HEAD) for tensor in facts.tensors)
    if serves == RERANK and not ranks:
        return 'serves is "rerank", and the model has no head that ranks (no tensor cls.*)'
    if serves == CHAT and facts.architecture in ENCODERS:
        return f'a model of architecture {facts.architecture} cannot chat: serves is "embedding" or "rerank"'
    if facts.architecture in PAIRED:
        return f"a model of architecture {facts.architecture} is not served"
    return None


def cut_points(facts: GgufFacts) -> tuple[int, ...]:
    """Returns the offsets at which chunks must begin: the end of the header and each tensor's start, ascending."""
    return tuple(sorted({facts.data_offset, *(tensor.offset for tensor in facts.tensors)}))


def inspect_stream(
    request: Mapping[str, Any], inputs: Mapping[str, IO[bytes]], _outputs: Mapping[str, IO[bytes]]
) -> dict[str, Any]:
    """The child's side of `inspect`: reads the input `gguf`, returns the facts."""
    try:
        header = read_header(inputs["gguf"])
        return dict(to_json(facts_of(header)))
    except BadInput as error:
        raise BadInput(f"{request['name']}: {error.fact}", error.hint) from error


def facts_of(header: Header) -> GgufFacts:
    """Picks what a bundle needs to know of a checked header.

    Raises:
        BadInput: The architecture or its context length is missing, or the file is one part of several.
    """
    if header.integer("split.count") > 1:
        raise BadInput("the file is one part of a split model", "join the parts with llama-gguf-split --merge")
    architecture = header.text("general.architecture")
    if not architecture:
        raise BadInput("general.architecture is missing")
    context = header.integer(f"{architecture}.context_length")
    if not 0 < context < 2**31:
        raise BadInput(f"{architecture}.context_length is {context}, expected a positive number")
    template = header.text("tokenizer.chat_template")
    if template is not None and len(template) > CHAT_TEMPLATE_CHARS:
        raise BadInput(f"the chat template has {len(template)} characters, at most {CHAT_TEMPLATE_CHARS}")
    file_type = header.integer("general.file_type", -1)
    return GgufFacts(
        architecture=architecture,
        name=header.text("general.name"),
        context_length=context,
        quantisation=FILE_TYPES.get(file_type, f"file type {file_type}"),
        licence=header.text("general.license"),
        chat_template=template,
        tokenizer=header.text("tokenizer.ggml.model"),
        vocabulary=header.counts.get("tokenizer.ggml.tokens", 0),
        parameters=sum(tensor.values for tensor in header.tensors),
        data_offset=header.data_offset,
        length_bytes=header.length_bytes,
        tensors=tuple(TensorSpan(t.name, header.data_offset + t.offset, t.length) for t in header.tensors),
    )
