"""Models that pool, written as GGUF in f32: all-MiniLM-L6-v2 from its own weights, and a tiny BERT of random ones."""

from __future__ import annotations

import asyncio
import json
import struct
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx2
import numpy as np
import pytest
from numpy.typing import NDArray
from openai import OpenAI

from appliance.engine.parent import Engine
from appliance.engine.reading import BytesReader
from bundler.format.service import ModelSpec

Weights = dict[str, NDArray[np.float32]]
MEAN, CLS, RANK = 1, 2, 4
WORDS = "[PAD] [UNK] [CLS] [SEP] [MASK] boat ship sea life save the a of cloud rain".split()
_NAMES = {
    "embeddings.word_embeddings.weight": "token_embd.weight",
    "embeddings.position_embeddings.weight": "position_embd.weight",
    "embeddings.token_type_embeddings.weight": "token_types.weight",
    "embeddings.LayerNorm": "token_embd_norm",
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
    "encoder.layer.": "blk.",
}


@dataclass(frozen=True)
class Running:
    """A started engine, its event loop, and clients of its socket."""

    engine: Engine
    openai: OpenAI
    http: httpx2.Client
    run: Callable[[Coroutine[Any, Any, Any]], Any]


Start = Callable[[bytes, str, int], AbstractContextManager[Running]]
Write = Callable[[Weights, Sequence[str], int, int], bytes]


def _text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def _value(value: Any) -> bytes:
    if isinstance(value, bool):
        return struct.pack("<I?", 7, value)
    if isinstance(value, int):
        return struct.pack("<II", 4, value)
    if isinstance(value, float):
        return struct.pack("<If", 6, value)
    if isinstance(value, str):
        return struct.pack("<I", 8) + _text(value)
    kind, items = (8, [_text(item) for item in value]) if isinstance(value[0], str) else (5, [])
    packed = b"".join(items) or struct.pack(f"<{len(value)}i", *value)
    return struct.pack("<IIQ", 9, kind, len(value)) + packed


def gguf(metadata: Mapping[str, Any], tensors: Weights) -> bytes:
    """Returns a GGUF file of version 3 (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md)."""
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata))
    head += b"".join(_text(key) + _value(value) for key, value in metadata.items())
    data = bytearray()
    for name, tensor in tensors.items():
        shape = tensor.shape[::-1]
        head += _text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, 0, len(data))
        data += tensor.astype("<f4").tobytes()
        data += bytes(-len(data) % 32)
    return head + bytes(-len(head) % 32) + bytes(data)


@pytest.fixture(scope="session")
def write_bert() -> Write:
    """Writes a BERT: weights by llama.cpp's names, the vocabulary as WordPiece has it, heads, and the pooling type."""

    def write(weights: Weights, words: Sequence[str], heads: int, pooling: int) -> bytes:
        layers = len({name.split(".")[1] for name in weights if name.startswith("blk.")})
        special = {name: words.index(f"[{name.upper()}]") for name in ("unk", "cls", "sep", "pad", "mask")}
        # As llama.cpp's own converter writes WordPiece: words begin with U+2581, what goes on a word does not.
        control = [word[0] == "[" and word[-1] == "]" and len(word) > 2 for word in words]
        whole = [word if is_control else "\u2581" + word for word, is_control in zip(words, control, strict=True)]
        tokens = [word[2:] if word.startswith("##") else told for word, told in zip(words, whole, strict=True)]
        metadata: dict[str, Any] = {
            "general.architecture": "bert",
            "general.file_type": 0,
            "bert.context_length": len(weights["position_embd.weight"]),
            "bert.embedding_length": weights["token_embd.weight"].shape[1],
            "bert.feed_forward_length": len(weights["blk.0.ffn_up.weight"]),
            "bert.block_count": layers,
            "bert.attention.head_count": heads,
            "bert.attention.layer_norm_epsilon": 1e-12,
            "bert.attention.causal": False,
            "bert.pooling_type": pooling,
            "tokenizer.ggml.model": "bert",
            "tokenizer.ggml.pre": "default",
            "tokenizer.ggml.token_type_count": len(weights["token_types.weight"]),
            "tokenizer.ggml.tokens": tokens,
            "tokenizer.ggml.token_type": [3 if is_control else 1 for is_control in control],
            "tokenizer.ggml.unknown_token_id": special["unk"],
            "tokenizer.ggml.bos_token_id": special["cls"],
            "tokenizer.ggml.cls_token_id": special["cls"],
            "tokenizer.ggml.seperator_token_id": special["sep"],
            "tokenizer.ggml.padding_token_id": special["pad"],
            "tokenizer.ggml.mask_token_id": special["mask"],
        }
        return gguf(metadata, weights)

    return write


@pytest.fixture(scope="session")
def minilm_gguf(minilm_files: dict[str, bytes], write_bert: Write) -> bytes:
    """all-MiniLM-L6-v2 as GGUF, in f32."""
    data = minilm_files["model.safetensors"]
    size = int.from_bytes(data[:8], "little")
    weights = {}
    for name, tensor in json.loads(data[8 : 8 + size]).items():
        if name.startswith(("embeddings.", "encoder.")) and tensor["dtype"] == "F32":
            start, end = (8 + size + offset for offset in tensor["data_offsets"])
            known = name
            for theirs, ours in _NAMES.items():
                known = known.replace(theirs, ours)
            weights[known] = np.frombuffer(data[start:end], np.float32).reshape(tensor["shape"])
    vocabulary: dict[str, int] = json.loads(minilm_files["tokenizer.json"])["model"]["vocab"]
    return write_bert(weights, sorted(vocabulary, key=lambda word: vocabulary[word]), 12, MEAN)


@pytest.fixture(scope="session")
def tiny_bert() -> Weights:
    """Two layers of 32 values, of random numbers, with a head that ranks."""
    random, wide, inner = np.random.default_rng(7), 32, 64

    def matrix(*shape: int) -> NDArray[np.float32]:
        return random.normal(0, 0.4, shape).astype(np.float32)

    weights = {
        "token_embd.weight": matrix(len(WORDS), wide),
        "position_embd.weight": matrix(64, wide),
        "token_types.weight": matrix(1, wide),
        "cls.weight": matrix(wide, wide),
        "cls.bias": matrix(wide),
        "cls.output.weight": matrix(1, wide),
        "cls.output.bias": matrix(1),
    }
    linear = {"attn_q": wide, "attn_k": wide, "attn_v": wide, "attn_output": wide, "ffn_up": inner, "ffn_down": wide}
    norms = ["token_embd_norm"]
    for layer in ("blk.0", "blk.1"):
        norms += [f"{layer}.attn_output_norm", f"{layer}.layer_output_norm"]
        for name, rows in linear.items():
            weights[f"{layer}.{name}.weight"] = matrix(rows, inner if name == "ffn_down" else wide)
            weights[f"{layer}.{name}.bias"] = matrix(rows)
    for name in norms:
        weights |= {f"{name}.weight": 1 + matrix(wide), f"{name}.bias": matrix(wide)}
    return weights


@pytest.fixture(scope="session")
def start() -> Start:
    """Starts an engine of a GGUF: what it serves, and its longest text."""

    @contextmanager
    def started(data: bytes, serves: str, context_tokens: int) -> Iterator[Running]:
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, daemon=True)
        thread.start()

        def run(work: Coroutine[Any, Any, Any]) -> Any:
            return asyncio.run_coroutine_threadsafe(work, loop).result(120)

        spec = ModelSpec("vec", "models/vec.gguf", "ab" * 32, context_tokens, 0, serves)
        with TemporaryDirectory() as folder:
            engine = Engine(spec, BytesReader(data), runtime_dir=Path(folder), threads=2, queue_requests=32)
            run(engine.start())
            transport = httpx2.HTTPTransport(uds=str(engine.socket))
            try:
                with httpx2.Client(transport=transport, timeout=120, base_url="http://engine/v1") as http:
                    client: Any = http
                    openai = OpenAI(base_url="http://engine/v1", api_key="none", max_retries=0, http_client=client)
                    yield Running(engine, openai, http, run)
            finally:
                run(engine.stop())
                loop.call_soon_threadsafe(loop.stop)
                thread.join(10)
                loop.close()

    return started
