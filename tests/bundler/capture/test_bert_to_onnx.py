"""The converted embedding model against vectors of torch, small random encoders against numpy, and what is refused."""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from tokenizers import Tokenizer

from bundler.capture.bert_graph import build
from bundler.capture.bert_to_onnx import BertFacts, convert, read_shape
from bundler.capture.onnx import check
from bundler.capture.safetensors import Safetensors
from bundler.format.errors import BadInput

TOLERANCE = 1e-4
CONFIG = {
    "model_type": "bert", "hidden_act": "gelu", "hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 2,
    "intermediate_size": 12, "max_position_embeddings": 6, "vocab_size": 11, "type_vocab_size": 2,
    "layer_norm_eps": 1e-12, "position_embedding_type": "absolute",
}  # fmt: skip
MEAN = {"word_embedding_dimension": 8, "pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}
CLS = {"word_embedding_dimension": 8, "pooling_mode_mean_tokens": False, "pooling_mode_cls_token": True}


@pytest.fixture(scope="module")
def reference(repo_root: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((repo_root / "tests" / "vectors" / "minilm.json").read_text(encoding="utf-8"))
    return document


@pytest.fixture(scope="module")
def model(minilm_files: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns all-MiniLM-L6-v2, converted."""
    folder = tmp_path_factory.mktemp("minilm")
    (folder / "model.safetensors").write_bytes(minilm_files["model.safetensors"])
    (folder / "config.json").write_text(json.dumps(MINILM))
    (folder / "pooling.json").write_text(json.dumps(MEAN | {"word_embedding_dimension": 384}))
    (folder / "tokenizer.json").write_bytes(minilm_files["tokenizer.json"])
    weights, config, pooling, graph = parts_of(folder)
    facts = convert(weights, config, pooling, graph, tokenizer=folder / "tokenizer.json", precision="fp32")
    assert facts == BertFacts(dimensions=384, pooling="mean", max_tokens=512, vocabulary=30522, layers=6)
    return folder / "model.onnx"


def parts_of(folder: Path) -> list[Path]:
    return [folder / name for name in ("model.safetensors", "config.json", "pooling.json", "model.onnx")]


MINILM = CONFIG | {
    "hidden_size": 384, "num_attention_heads": 12, "num_hidden_layers": 6, "intermediate_size": 1536,
    "max_position_embeddings": 512, "vocab_size": 30522,
}  # fmt: skip


class Embedder:
    """The converted graph with its tokenizer, as a box uses them."""

    def __init__(self, graph: Path, tokenizer: bytes, max_tokens: int) -> None:
        self.session = onnxruntime.InferenceSession(graph.read_bytes(), providers=["CPUExecutionProvider"])
        self.tokenizer = Tokenizer.from_buffer(tokenizer)
        self.tokenizer.enable_truncation(max_tokens)
        self.tokenizer.enable_padding()

    def embed(self, texts: list[str]) -> NDArray[np.float32]:
        tokens = self.tokenizer.encode_batch(texts)
        parts = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
        feed = {name: np.array([getattr(t, part) for t in tokens], np.int64) for name, part in parts.items()}
        found: NDArray[np.float32] = self.session.run(["embedding"], feed)[0]
        return found


@pytest.fixture(scope="module")
def embedder(model: Path, minilm_files: dict[str, bytes], reference: dict[str, Any]) -> Embedder:
    return Embedder(model, minilm_files["tokenizer.json"], reference["max_tokens"])


def _parts(reference: dict[str, Any]) -> tuple[list[str], NDArray[np.float64]]:
    return [case["text"] for case in reference["cases"]], np.array([case["vector"] for case in reference["cases"]])


def test_the_vectors_belong_to_this_model(reference: dict[str, Any], minilm_files: dict[str, bytes]) -> None:
    """The reference was made from the same weights, over enough texts, some of them longer than the limit."""
    assert reference["model_sha256"] == hashlib.sha256(minilm_files["model.safetensors"]).hexdigest()
    texts, vectors = _parts(reference)
    assert len(texts) >= 40
    assert vectors.shape == (len(texts), 384)
    tokenizer = Tokenizer.from_buffer(minilm_files["tokenizer.json"])
    tokenizer.no_truncation()
    tokenizer.no_padding()
    lengths = [len(tokens.ids) for tokens in tokenizer.encode_batch(texts)]
    assert min(lengths) == 2
    assert sum(length > reference["max_tokens"] for length in lengths) >= 3


def test_one_text_at_a_time(embedder: Embedder, reference: dict[str, Any]) -> None:
    """Each text alone gives the vector of torch."""
    texts, vectors = _parts(reference)
    found = np.concatenate([embedder.embed([text]) for text in texts])
    assert np.abs(found - vectors).max() < TOLERANCE


def test_a_batch_of_very_different_lengths(embedder: Embedder, reference: dict[str, Any]) -> None:
    """Padding changes nothing: all texts at once, the empty one beside one that is cut."""
    texts, vectors = _parts(reference)
    found = embedder.embed(texts)
    assert np.abs(found - vectors).max() < TOLERANCE
    assert found.dtype == np.float32
    assert np.abs(np.linalg.norm(found, axis=1) - 1).max() < 1e-5


def test_the_graph_is_fused_already(model: Path) -> None:
    """Each step of a layer is one operator, and all of them are ONNX's own."""
    nodes = onnx.load(str(model)).graph.node
    kinds = Counter(node.op_type for node in nodes)
    assert (kinds["Attention"], kinds["LayerNormalization"], kinds["Gelu"], kinds["Gemm"]) == (6, 13, 6, 24)
    assert {node.domain for node in nodes} == {""}


def test_half_precision_agrees_with_torch(
    minilm_files: dict[str, bytes], reference: dict[str, Any], model: Path
) -> None:
    """The graph for GPUs gives nearly the same vectors; here a CPU computes them."""
    half = model.parent / "half.onnx"
    weights, config, pooling, _ = parts_of(model.parent)
    facts = convert(weights, config, pooling, half, tokenizer=model.parent / "tokenizer.json", precision="fp16")
    assert (facts.precision, facts.reason()) == ("fp16", "fp16, as the profile says")
    assert half.stat().st_size < 0.55 * model.stat().st_size
    texts, vectors = _parts(reference)
    embedder = Embedder(half, minilm_files["tokenizer.json"], 64)  # longer ones take the CPU long
    found = np.concatenate([embedder.embed([text]) for text in texts[:43]])
    assert (found * vectors[:43]).sum(axis=1).min() > 0.9999


def test_the_interface_is_fixed(embedder: Embedder, model: Path) -> None:
    """Names, types and free axes are those that the encoder relies on; our own checker accepts the file."""
    takes = [(value.name, value.type, value.shape) for value in embedder.session.get_inputs()]
    names = ("input_ids", "attention_mask", "token_type_ids")
    assert takes == [(name, "tensor(int64)", ["batch", "sequence"]) for name in names]
    gives = [(value.name, value.type, value.shape) for value in embedder.session.get_outputs()]
    assert gives == [("embedding", "tensor(float)", ["batch", 384])]
    assert check(model).outputs == ("embedding",)


def weights(seed: int = 1, config: dict[str, Any] = CONFIG) -> dict[str, NDArray[np.float32]]:
    """A random encoder of the shape in `config`, under the names of a BERT checkpoint."""
    hidden, inner, random = config["hidden_size"], config["intermediate_size"], np.random.default_rng(seed)
    shapes = {
        "embeddings.word_embeddings.weight": (config["vocab_size"], hidden),
        "embeddings.position_embeddings.weight": (config["max_position_embeddings"], hidden),
        "embeddings.token_type_embeddings.weight": (config["type_vocab_size"], hidden),
        "embeddings.LayerNorm.weight": (hidden,), "embeddings.LayerNorm.bias": (hidden,),
    }  # fmt: skip
    for at in (f"encoder.layer.{number}" for number in range(config["num_hidden_layers"])):
        linears = {"attention.self.query": (hidden, hidden), "attention.self.key": (hidden, hidden),
                   "attention.self.value": (hidden, hidden), "attention.output.dense": (hidden, hidden),
                   "intermediate.dense": (inner, hidden), "output.dense": (hidden, inner)}  # fmt: skip
        for name, shape in linears.items():
            shapes |= {f"{at}.{name}.weight": shape, f"{at}.{name}.bias": shape[:1]}
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes |= {f"{at}.{name}.weight": (hidden,), f"{at}.{name}.bias": (hidden,)}
    return {name: random.normal(0, 0.5, shape).astype(np.float32) for name, shape in shapes.items()}


def packed(tensors: dict[str, NDArray[Any]]) -> bytes:
    kinds = {"float32": "F32", "float16": "F16", "int64": "I64"}
    header, data = {}, b""
    for name, value in tensors.items():
        offsets = [len(data), len(data) + value.nbytes]
        header[name] = {"dtype": kinds[value.dtype.name], "shape": list(value.shape), "data_offsets": offsets}
        data += value.tobytes()
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def by_numpy(w: dict[str, NDArray[np.float32]], ids: list[int], kinds: list[int], pooling: str) -> NDArray[np.float64]:
    """BERT for one text in float64, written from the paper and not from the graph."""

    def normalise(x: NDArray[Any], name: str) -> NDArray[Any]:
        y = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-12)
        return np.asarray(y * w[f"{name}.weight"] + w[f"{name}.bias"])

    def linear(x: NDArray[Any], name: str) -> NDArray[Any]:
        return np.asarray(x @ w[f"{name}.weight"].T.astype(np.float64) + w[f"{name}.bias"])

    x = w["embeddings.word_embeddings.weight"][ids].astype(np.float64)
    x += w["embeddings.position_embeddings.weight"][: len(ids)] + w["embeddings.token_type_embeddings.weight"][kinds]
    x = normalise(x, "embeddings.LayerNorm")
    for at in ("encoder.layer.0", "encoder.layer.1"):
        q, k, v = (linear(x, f"{at}.attention.self.{name}") for name in ("query", "key", "value"))
        heads = []
        for part in (slice(0, 4), slice(4, 8)):
            share = np.exp(q[:, part] @ k[:, part].T / 2)
            heads.append(share / share.sum(-1, keepdims=True) @ v[:, part])
        dense = linear(np.concatenate(heads, -1), f"{at}.attention.output.dense")
        x = normalise(dense + x, f"{at}.attention.output.LayerNorm")
        inner = linear(x, f"{at}.intermediate.dense")
        inner = inner * 0.5 * (1 + np.vectorize(math.erf)(inner / math.sqrt(2)))
        x = normalise(linear(inner, f"{at}.output.dense") + x, f"{at}.output.LayerNorm")
    pooled = x[0] if pooling == "cls" else x.mean(0)
    return np.asarray(pooled / np.linalg.norm(pooled))


def graph_of(tensors: dict[str, NDArray[Any]], pooling: dict[str, Any] = MEAN, **changes: Any) -> bytes:
    config = io.BytesIO(json.dumps(CONFIG | changes).encode())
    shape = read_shape(config, io.BytesIO(json.dumps(pooling).encode()))
    return build(shape, Safetensors(io.BytesIO(packed(tensors))))


def run(graph: bytes, rows: list[tuple[list[int], list[int]]]) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    width = max(len(ids) for ids, _ in rows)
    feed = {name: np.zeros((len(rows), width), np.int64) for name in ("input_ids", "attention_mask", "token_type_ids")}
    for row, (ids, kinds) in enumerate(rows):
        feed["input_ids"][row, : len(ids)], feed["token_type_ids"][row, : len(ids)] = ids, kinds
        feed["attention_mask"][row, : len(ids)] = 1
    found: NDArray[np.float32] = session.run(None, feed)[0]
    return found


ROWS = [([1, 2, 3, 4, 5, 6], [0, 0, 0, 1, 1, 1]), ([7], [0]), ([10, 0, 10], [0, 1, 0])]


@pytest.mark.parametrize("pooling", [MEAN, CLS], ids=["mean", "cls"])
@pytest.mark.parametrize("prefix", ["", "bert."])
@pytest.mark.parametrize("kind", ["float32", "float16"])
def test_small_encoders_agree_with_numpy(pooling: dict[str, Any], prefix: str, kind: str) -> None:
    """Both poolings, both checkpoint layouts and half precision, in one padded batch with both token types."""
    tensors = {name: value.astype(kind) for name, value in weights().items()}
    graph = graph_of({prefix + name: value for name, value in tensors.items()}, pooling)
    exact = {name: value.astype(np.float32) for name, value in tensors.items()}
    name = "cls" if pooling is CLS else "mean"
    expected = np.array([by_numpy(exact, ids, kinds, name) for ids, kinds in ROWS])
    assert np.abs(run(graph, ROWS) - expected).max() < 1e-5


def test_the_same_input_gives_the_same_bytes() -> None:
    """A rebuild changes no chunk of the bundle."""
    assert graph_of(weights()) == graph_of(weights())


def test_what_no_embedding_uses_is_left_out() -> None:
    """The pooler, the pre-training head and stored position ids are not part of the graph."""
    extra: dict[str, NDArray[Any]] = {
        "pooler.dense.weight": np.zeros((8, 8), np.float32),
        "cls.predictions.bias": np.zeros(11, np.float32),
        "embeddings.position_ids": np.arange(6),
    }
    assert graph_of(weights() | extra) == graph_of(weights())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "roberta"}, "the family is 'roberta'"),
        ({"model_type": None}, "the family is None"),
        ({"auto_map": {"AutoModel": "modeling.Model"}}, "auto_map names code of the model's own"),
        ({"hidden_act": "gelu_new"}, "hidden_act is 'gelu_new'"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type"),
        ({"is_decoder": True}, "is_decoder is True"),
        ({"add_cross_attention": True}, "add_cross_attention"),
        ({"hidden_size": "8"}, "hidden_size is '8'"),
        ({"hidden_size": 2**40}, "hidden_size is"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0"),
        ({"num_hidden_layers": True}, "num_hidden_layers is True"),
        ({"num_attention_heads": 3}, "does not divide"),
        ({"layer_norm_eps": 0.0}, "layer_norm_eps is"),
        ({"vocab_size": 12}, "word_embeddings.weight has the shape"),
        ({"num_hidden_layers": 3}, r"encoder\.layer\.2\.attention\.self\.query\.weight is missing"),
        ({"num_hidden_layers": 1}, "tensors are not part of a BERT encoder"),
    ],
)
def test_other_models_are_refused(changes: dict[str, Any], words: str) -> None:
    """A configuration that this converter would not reproduce is refused with its field."""
    with pytest.raises(BadInput, match=words):
        graph_of(weights(), **changes)


@pytest.mark.parametrize(
    ("pooling", "words"),
    [
        (MEAN | {"pooling_mode_cls_token": True}, "the pooling is"),
        (MEAN | {"pooling_mode_mean_tokens": False}, "the pooling is"),
        ({"word_embedding_dimension": 8, "pooling_mode_max_tokens": True}, "pooling_mode_max_tokens"),
        (MEAN | {"word_embedding_dimension": 16}, "word_embedding_dimension is 16"),
    ],
)
def test_other_poolings_are_refused(pooling: dict[str, Any], words: str) -> None:
    """None, two, an unknown one, or one of another width."""
    with pytest.raises(BadInput, match=words):
        graph_of(weights(), pooling)


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b"\xff", b"[" * 100_000, b" " * 300_000])
def test_a_configuration_must_be_a_small_json_object(text: bytes) -> None:
    """Anything else is refused before a weight is read."""
    with pytest.raises(BadInput, match=r"config\.json"):
        read_shape(io.BytesIO(text), io.BytesIO(b"{}"))


def test_a_refusal_leaves_no_file(tmp_path: Path) -> None:
    """The confined conversion of something else names the reason and writes nothing."""
    parts = {"model.safetensors": packed(weights()), "config.json": json.dumps(CONFIG | {"model_type": "t5"}).encode(),
             "pooling.json": json.dumps(MEAN).encode()}  # fmt: skip
    for name, data in parts.items():
        (tmp_path / name).write_bytes(data)
    model, config, pooling, graph = parts_of(tmp_path)
    with pytest.raises(BadInput, match="the family is 't5'") as caught:
        convert(model, config, pooling, graph, tokenizer=config)
    assert "onnx = " in caught.value.hint
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(parts)


def test_a_missing_weight_file_is_bad_input(tmp_path: Path) -> None:
    """The fact names the path."""
    with pytest.raises(BadInput, match="nowhere"):
        convert(tmp_path / "nowhere", tmp_path / "a", tmp_path / "b", tmp_path / "c", tokenizer=tmp_path / "d")
