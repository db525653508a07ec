"""Reads the knowledge assets of a bundle from bytes, strictly: they are signed, and still bounded and checked."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bundler.format.errors import BadBundle
from bundler.knowledge import evidence, faq, router
from bundler.knowledge.faq import FaqIndex, FaqMatcher
from bundler.knowledge.logistic import Logistic
from bundler.knowledge.passages import Chunk, Sentence
from bundler.knowledge.reading import Vectors
from bundler.knowledge.router import Head, Router
from bundler.knowledge.types import FaqMatch

Read = Callable[[str], bytes]
FORMAT = 1
# Beside every set of vectors stands the digest of the model that made them; sets of older bundles have none.
MADE_WITH = "made_with"


def read_vectors(data: bytes, dimensions: int, what: str) -> Vectors:
    """Reads an `.npy` of rows; never a pickle."""
    try:
        vectors = np.load(io.BytesIO(data), allow_pickle=False)
    except ValueError as error:
        raise BadBundle(f"{what} is no array: {error}") from error
    if vectors.ndim != 2 or vectors.shape[1] != dimensions or vectors.dtype not in (np.float32, np.float16):
        raise BadBundle(f"{what} has shape {vectors.shape}, expected rows of {dimensions}; vectors never mix models")
    return np.ascontiguousarray(vectors, dtype=np.float32)


def read_json(data: bytes, what: str) -> Any:
    value = json.loads(data)
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise BadBundle(f"{what} is not of format {FORMAT}")
    return value


def refuse_other_model(data: bytes, identity: str, what: str) -> None:
    """Refuses vectors that another model made, or the same one in another precision.

    Args:
        data: The JSON that stands beside the vectors.
        identity: Digest of the model that would search them.
        what: Its path, for the message.

    Raises:
        BadBundle: They are another's.
    """
    found = read_json(data, what).get(MADE_WITH, identity)
    if found != identity:
        raise BadBundle(f"the vectors of {what} were made with the embedding model {found}, not {identity}")


def read_lines(data: bytes) -> list[dict[str, Any]]:
    """Reads JSONL. Only a line feed ends a line: a string may hold U+2028 and U+0085, where `splitlines` would cut."""
    return [json.loads(line) for line in data.decode().split("\n") if line]


def load_chunks(read: Read, prefix: str) -> list[Chunk]:
    """Reads the passages; each is cut out of its source's text, so that text and offsets cannot disagree."""
    texts = {row["source"]: row["text"] for row in read_lines(read(f"{prefix}/texts.jsonl"))}
    rows = read_lines(read(f"{prefix}/chunks.jsonl"))
    return [
        Chunk(
            row["source"],
            row["title"],
            row["heading"],
            row["start"],
            row["end"],
            texts[row["source"]][row["start"] : row["end"]],
        )
        for row in rows
    ]


def load_sentences(read: Read, prefix: str) -> list[Sentence]:
    return [Sentence(*row["at"]) for row in read_lines(read(f"{prefix}/sentences.jsonl"))]


def load_ids(read: Read, prefix: str) -> list[str]:
    """Reads the ids of a snapshot's rows, which stand in the order of its passages."""
    return [str(row["id"]) for row in read_lines(read(f"{prefix}/rows.jsonl"))]


def load_gate(read: Read, prefix: str) -> Logistic:
    return _logistic(read(f"{prefix}/search.json"), evidence.FEATURES)


def load_faq(read: Read, prefix: str, dimensions: int) -> FaqMatcher:
    rows = read_lines(read(f"{prefix}/faq.jsonl"))
    entries = [FaqMatch(row["id"], row["question"], row["answer"]) for row in rows]
    wordings = [[row["question"], *row["variants"]] for row in rows]
    vectors = read_vectors(read(f"{prefix}/vectors.npy"), dimensions, f"{prefix}/vectors.npy")
    if len(vectors) != sum(len(group) for group in wordings):
        raise BadBundle(f"{prefix}/vectors.npy does not fit faq.jsonl")
    return FaqMatcher(FaqIndex(entries, wordings, vectors), _logistic(read(f"{prefix}/matcher.json"), faq.FEATURES))


def load_router(read: Read, prefix: str, dimensions: int) -> Router:
    value = read_json(read(f"{prefix}/router.json"), "router.json")
    weights = read_vectors(read(f"{prefix}/weights.npy"), dimensions + 1, f"{prefix}/weights.npy")
    examples = read_vectors(read(f"{prefix}/examples.npy"), dimensions, f"{prefix}/examples.npy")
    if len(weights) != len(value["labels"]) or not 0 <= value["in_scope"] <= len(examples):
        raise BadBundle(f"{prefix}/weights.npy does not fit router.json")
    head = Head(value["labels"], weights, examples[: value["in_scope"]], examples[value["in_scope"] :])
    return Router(head, _logistic(read(f"{prefix}/router.json"), router.FEATURES))


def _logistic(data: bytes, features: Sequence[str]) -> Logistic:
    """Reads a fitted model; one that was fitted for other features than this program computes is refused."""
    value = read_json(data, "the fitted model")["model"]
    if len(value["weights"]) != len(features):
        raise BadBundle(f"the fitted model has {len(value['weights'])} weights, this program computes {len(features)}")
    return Logistic(tuple(value["weights"]), value["bias"], value["threshold"])
