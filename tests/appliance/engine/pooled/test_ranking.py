"""`/v1/rerank` of a GGUF model: its scores are what numpy computes from the same weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytestmark = pytest.mark.llm

WORDS = "[PAD] [UNK] [CLS] [SEP] [MASK] boat ship sea life save the a of cloud rain".split()
QUERY = "the ship"
DOCUMENTS = ["a boat of the sea", "rain", "cloud cloud cloud", "save the life of the ship", "the sea"]
HEADS, RANK = 4, 4
Array = NDArray[np.float64]


@pytest.fixture(scope="module")
def ranking(tiny_bert: Any, write_bert: Any, start: Any) -> Iterator[Any]:
    with start(write_bert(tiny_bert, WORDS, HEADS, RANK), "rerank", 64) as running:
        assert running.engine.state == "ready", running.engine.reason
        yield running


def ranked(running: Any, documents: Any, **options: Any) -> list[Any]:
    reply = running.http.post("/rerank", json={"query": QUERY, "documents": documents, **options})
    assert reply.status_code == 200, reply.text
    found: list[Any] = reply.json()["results"]
    return found


def expected(weights: dict[str, Array], document: str) -> float:
    """The score of `[CLS] query [SEP] document [SEP]` (Devlin et al. 2018; the head is RoBERTa's)."""
    words = ["[CLS]", *QUERY.split(), "[SEP]", *document.split(), "[SEP]"]

    def linear(name: str, x: Array) -> Array:
        return np.asarray(x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"], np.float64)

    def norm(name: str, x: Array) -> Array:
        scaled = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-12)
        return np.asarray(scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"], np.float64)

    x = weights["token_embd.weight"][[WORDS.index(word) for word in words]]
    x = norm("token_embd_norm", x + weights["position_embd.weight"][: len(words)] + weights["token_types.weight"][0])
    for layer in ("blk.0", "blk.1"):
        parts = [linear(f"{layer}.attn_{part}", x).reshape(len(words), HEADS, -1) for part in "qkv"]
        scores = np.einsum("ihd,jhd->hij", parts[0], parts[1]) / np.sqrt(parts[0].shape[-1])
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = np.einsum("hij,jhd->ihd", shares / shares.sum(-1, keepdims=True), parts[2]).reshape(len(words), -1)
        x = norm(f"{layer}.attn_output_norm", x + linear(f"{layer}.attn_output", mixed))
        inner = linear(f"{layer}.ffn_up", x)
        inner = 0.5 * inner * (1 + np.tanh(np.sqrt(2 / np.pi) * (inner + 0.044715 * inner**3)))
        x = norm(f"{layer}.layer_output_norm", x + linear(f"{layer}.ffn_down", inner))
    value = linear("cls.output", np.tanh(linear("cls", x[0])))[0]
    return float(1 / (1 + np.exp(-value)))


def test_scores_are_what_numpy_computes(ranking: Any, tiny_bert: Any) -> None:
    """Best first, each with the place of its document, from 0 to 1."""
    weights = {name: tensor.astype(np.float64) for name, tensor in tiny_bert.items()}
    wanted = [expected(weights, document) for document in DOCUMENTS]
    found = ranked(ranking, DOCUMENTS)
    assert [item["index"] for item in found] == sorted(range(len(wanted)), key=lambda number: -wanted[number])
    for item in found:
        assert item["relevance_score"] == pytest.approx(wanted[item["index"]], abs=5e-3)
    assert len({round(score, 2) for score in wanted}) > 2, "scores that are all alike would prove nothing"


def test_alone_or_together_the_score_is_the_same(ranking: Any) -> None:
    """A document's score is its own."""
    together = {item["index"]: item["relevance_score"] for item in ranked(ranking, DOCUMENTS)}
    alone = {number: ranked(ranking, [text])[0]["relevance_score"] for number, text in enumerate(DOCUMENTS)}
    assert together == pytest.approx(alone, abs=1e-4)


def test_the_best_are_cut_out(ranking: Any) -> None:
    """`top_n` leaves the first of the whole ranking; documents may be objects."""
    whole = ranked(ranking, DOCUMENTS)
    objects = [{"text": document} for document in DOCUMENTS]
    assert [item["index"] for item in ranked(ranking, objects, top_n=2)] == [item["index"] for item in whole[:2]]
    assert len(ranked(ranking, DOCUMENTS, top_n=99)) == len(DOCUMENTS)


def test_usage_counts_what_was_read(ranking: Any) -> None:
    """The query is read with every document."""
    reply = ranking.http.post("/rerank", json={"model": "vec", "query": "the ship", "documents": ["rain", "the sea"]})
    assert reply.json()["usage"]["prompt_tokens"] == 6 + 7


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 400, "invalid_request"),
        ({"query": " ", "documents": ["a"]}, 400, "invalid_request"),
        ({"query": "a", "documents": []}, 400, "invalid_request"),
        ({"query": "a", "documents": [1]}, 400, "invalid_request"),
        ({"query": "a", "documents": [{"title": "b"}]}, 400, "invalid_request"),
        ({"query": "a", "documents": ["a"] * 2049}, 400, "invalid_request"),
        ({"query": "a", "documents": ["a"], "top_n": 0}, 400, "invalid_request"),
        ({"query": "a", "documents": ["a"], "top_n": True}, 400, "invalid_request"),
        ({"query": "a", "documents": ["boat", "boat " * 100]}, 400, "context_length_exceeded"),
        ({"query": "boat " * 100, "documents": ["a"]}, 400, "context_length_exceeded"),
        ({"query": "a", "documents": ["a"], "model": "other"}, 404, "model_not_found"),
    ],
)
def test_what_is_not_served_is_refused(ranking: Any, body: dict[str, Any], status: int, code: str) -> None:
    """In OpenAI's form; the engine goes on."""
    reply = ranking.http.post("/rerank", json=body)
    assert (reply.status_code, reply.json()["error"]["code"]) == (status, code)
    assert ranking.engine.restarts == 0
