"""What embedding models have in common: how vectors come out of a graph, and what a user of one may rely on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bundler.format.errors import BadBundle
from bundler.format.service import EmbeddingSpec

Vectors = NDArray[np.float32]
FINISHED_OUTPUT = "embedding"
GRAPH_POOLS, MEAN, CLS, MAX = "graph", "mean", "cls", "max"
POOLINGS = (MEAN, CLS, MAX)
# torch.nn.functional.normalize, and sentence_transformers' Pooling.
_LEAST_NORM, _LEAST_COUNT = 1e-12, 1e-9


class Embeds(Protocol):
    """Turns texts into rows of length 1; `Encoder` and its stand-ins.

    Attributes:
        dimensions: Of a row.
        precision: "fp32", "int8" or "fp16".
        identity: Vectors of another are not comparable.
    """

    dimensions: int
    precision: str
    identity: str

    def count_tokens(self, text: str) -> int:
        """Returns the tokens of a text after cutting, special tokens included."""

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Returns a row a question, wording or other text that is compared with texts of its kind."""

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        """Returns a row a passage, which questions are compared with."""


@dataclass(frozen=True)
class Reading:
    """How a graph is read.

    Attributes:
        output: The output that is taken; "" for a graph of ours, which gives finished rows as `embedding`.
        pooling: One of POOLINGS for an output of a row a token, GRAPH_POOLS for one of a row a text.
        precision: Of a graph that does not say its own.
        query_prefix: Goes before each text of `embed`.
        passage_prefix: Goes before each text of `embed_passages`.
    """

    output: str = ""
    pooling: str = GRAPH_POOLS
    precision: str = "fp32"
    query_prefix: str = ""
    passage_prefix: str = ""


OURS = Reading()


def reading_of(spec: EmbeddingSpec) -> Reading:
    """Returns how the graph of a bundle is read; raises BadBundle for a pooling that this program does not know."""
    if spec.output and spec.pooling not in (*POOLINGS, GRAPH_POOLS):
        raise BadBundle(f"the pooling of the embedding model is {spec.pooling!r}", "a newer program may know it")
    if not spec.output:
        return Reading(query_prefix=spec.query_prefix, passage_prefix=spec.passage_prefix)
    return Reading(spec.output, spec.pooling, spec.precision, spec.query_prefix, spec.passage_prefix)


def pooled(values: NDArray[Any], mask: NDArray[np.int64], pooling: str) -> Vectors:
    """Returns a row of length 1 a text.

    Args:
        values: (texts, tokens, dimensions), or (texts, dimensions) where the graph pools.
        mask: (texts, tokens), 1 for a token and 0 for what fills up.
        pooling: One of POOLINGS, or GRAPH_POOLS.
    """
    rows: Vectors = values.astype(np.float32, copy=False)
    if pooling == CLS:
        rows = rows[:, 0]
    elif pooling == MEAN:
        wide = mask[:, :, np.newaxis].astype(np.float32)
        rows = (rows * wide).sum(axis=1) / np.maximum(wide.sum(axis=1), _LEAST_COUNT)
    elif pooling == MAX:
        rows = np.where(mask[:, :, np.newaxis] == 1, rows, -np.inf).max(axis=1)
    result: Vectors = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), _LEAST_NORM)
    return result
