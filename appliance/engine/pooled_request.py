"""What is asked of a model that pools: vectors of texts, or a ranking of documents. Parsed strictly; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from appliance.engine.options import Refused

REQUEST_TEXTS = 2048  # as OpenAI has it
# Of one request, and of all in hand together.
MOST_TOKENS, MOST_VALUES = 2**20, 2**21
# A token in an array takes 4 bytes; a value twice 4 as float32 and up to 24 as JSON. The rest is for growing.
HELD_BYTES = 8 * MOST_TOKENS + 40 * MOST_VALUES
AUTO = "auto"
_ENCODINGS = ("float", "base64")
Text = str | list[int]


@dataclass(frozen=True)
class VectorsAsked:
    """`POST /v1/embeddings`: texts, or the numbers of their tokens."""

    texts: tuple[Text, ...]
    base64: bool


@dataclass(frozen=True)
class RankingAsked:
    """`POST /v1/rerank`: how the documents fit the query; the `top_n` best."""

    query: str
    documents: tuple[str, ...]
    top_n: int


def read_vectors(body: Mapping[str, Any], name: str, width: int, vocabulary: int) -> VectorsAsked:
    """Reads a request for vectors.

    Args:
        body: The request.
        name: The model's.
        width: Numbers in a vector.
        vocabulary: How many tokens there are.

    Raises:
        Refused: It is malformed, or of another model or width.
    """
    _check_model(body, name)
    texts = _texts(body.get("input"), vocabulary)
    if body.get("dimensions") not in (None, width):
        raise Refused(f"{name} makes vectors of {width} dimensions, not {body['dimensions']!r}", "unsupported_option")
    encoding = body.get("encoding_format") or "float"
    if encoding not in _ENCODINGS:
        raise Refused(f"encoding_format is one of {', '.join(_ENCODINGS)}", "invalid_request")
    if len(texts) * width > MOST_VALUES:
        most = MOST_VALUES // width
        raise Refused(f"with vectors of {width} dimensions a request has at most {most} texts", "invalid_request")
    return VectorsAsked(texts, encoding == "base64")


def read_ranking(body: Mapping[str, Any], name: str) -> RankingAsked:
    """Reads a request to rank documents: texts, or objects with a `text`.

    Raises:
        Refused: It is malformed, or of another model.
    """
    _check_model(body, name)
    query, documents, top_n = body.get("query"), body.get("documents"), body.get("top_n")
    if not isinstance(query, str) or not query.strip():
        raise Refused("query must be a text that is not empty", "invalid_request")
    if not isinstance(documents, list) or not 0 < len(documents) <= REQUEST_TEXTS:
        raise Refused(f"documents must be a list of 1 to {REQUEST_TEXTS} texts", "invalid_request")
    texts = [item.get("text") if isinstance(item, dict) else item for item in documents]
    if not all(isinstance(text, str) for text in texts):
        raise Refused("documents must be texts, or objects with a text", "invalid_request")
    if top_n is not None and (type(top_n) is not int or top_n < 1):
        raise Refused("top_n must be a whole number from 1 on", "invalid_request")
    return RankingAsked(query, tuple(map(str, texts)), min(top_n or len(texts), len(texts)))


def check_length(tokens: int, longest: int, what: str) -> None:
    """Raises Refused where a text is longer than the model reads at once, or empty."""
    if not tokens:
        raise Refused(f"{what} is empty", "invalid_request")
    if tokens > longest:
        raise Refused(f"{what} has {tokens} tokens, the local model reads at most {longest}", "context_length_exceeded")


def _check_model(body: Mapping[str, Any], name: str) -> None:
    if body.get("model", AUTO) not in (AUTO, name):
        raise Refused(f"this engine serves {name!r} alone", "model_not_found", 404)


def _texts(value: Any, vocabulary: int) -> tuple[Text, ...]:
    """A text, texts, tokens, or lists of tokens."""
    if isinstance(value, str) or (isinstance(value, list) and value and type(value[0]) is int):
        value = [value]
    if not isinstance(value, list) or not 0 < len(value) <= REQUEST_TEXTS:
        raise Refused(f"input must be a text, tokens, or a list of 1 to {REQUEST_TEXTS} of them", "invalid_request")
    if all(isinstance(item, str) for item in value) or all(_are_tokens(item, vocabulary) for item in value):
        return tuple(value)
    raise Refused(f"input must hold texts, or lists of token numbers below {vocabulary}", "invalid_request")


def _are_tokens(item: Any, vocabulary: int) -> bool:
    return isinstance(item, list) and all(type(token) is int and 0 <= token < vocabulary for token in item)
