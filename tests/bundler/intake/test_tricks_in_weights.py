"""Weights that bite: pickles in every disguise, safetensors and GGUF whose numbers lie."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bundler.capture import gguf, onnx, tokenizer
from bundler.capture.bert_to_onnx import convert
from bundler.format.errors import BadBundle
from bundler.ingest.readers import read_folder
from bundler.knowledge.assets import read_vectors
from bundler.sources.source import parse

Refused = Callable[..., str]
CONFIG = {
    "model_type": "bert", "hidden_size": 4, "num_attention_heads": 1, "num_hidden_layers": 1, "intermediate_size": 4,
    "max_position_embeddings": 8, "vocab_size": 8, "layer_norm_eps": 1e-12,
}  # fmt: skip
# What each kind of weights is read by: the check that a build makes of it.
READERS: dict[str, Callable[[Path], object]] = {
    "model.gguf": gguf.inspect,
    "model.safetensors": lambda path: converted(path),
    "model.onnx": onnx.check,
    "tokenizer.json": tokenizer.check,
}


def converted(weights: Path) -> object:
    """As a build reads safetensors; the other files are good."""
    folder = weights.parent
    config, pooling, words = (folder / name for name in ("config.json", "pooling.json", "good-tokenizer.json"))
    return convert(weights, config, pooling, folder / "out.onnx", tokenizer=words, precision="fp32")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    (tmp_path / "pooling.json").write_text('{"word_embedding_dimension": 4, "pooling_mode_mean_tokens": true}')
    (tmp_path / "good-tokenizer.json").write_text("{}")
    return tmp_path


# --- pickles


@pytest.mark.parametrize("ending", ["bin", "ckpt", "joblib", "pickle", "pkl", "pt", "pth", "PT", "Bin"])
@pytest.mark.parametrize("scheme", ["file:m", "wheel:a==1/m", "hub:org/repo@main/m", "registry:host.example/a:1/m"])
def test_kinds_that_are_pickles_are_refused_by_name(refused: Refused, scheme: str, ending: str) -> None:
    """Before a byte of them is fetched."""
    refused(lambda: parse(f"{scheme}.{ending}"), "can carry code")


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("form", ["plain", "zip", "npy", "torch"])
def test_a_pickle_under_another_name_is_refused(
    folder: Path, refused: Refused, poison: bytes, name: str, form: str
) -> None:
    """Its bytes are read as what its name says, and nothing is ever unpickled."""
    (folder / name).write_bytes(disguised(poison, form))
    refused(lambda: READERS[name](folder / name), ".")


def test_vectors_with_objects_are_refused(poison: bytes, canary: Path) -> None:
    """An .npy of objects is a pickle; the reader of vectors takes rows of numbers alone."""
    with pytest.raises(BadBundle):
        read_vectors(disguised(poison, "npy"), 4, "vectors.npy")
    assert not canary.exists()


def test_a_pickle_among_documents_is_refused(folder: Path, refused: Refused, poison: bytes) -> None:
    """Such as the `index_metadata.pickle` of a vector store."""
    (folder / "documents").mkdir()
    (folder / "documents" / "index_metadata.pickle").write_bytes(poison)
    refused(lambda: read_folder(folder / "documents"), "index_metadata.pickle is not a document")


def disguised(poison: bytes, form: str) -> bytes:
    out = io.BytesIO()
    if form == "plain":
        return poison
    if form == "npy":
        np.lib.format.write_array_header_1_0(out, {"descr": "|O", "fortran_order": False, "shape": (1,)})
        return out.getvalue() + poison
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("archive/data.pkl" if form == "torch" else "weights.pkl", poison)
        archive.writestr("archive/version", b"3\n")
    return out.getvalue()


# --- safetensors


def tensors(header: Any, data: bytes = b"\0" * 64, length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(start: int, end: int, shape: Any = (16,), dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}


SAFETENSORS: dict[str, tuple[bytes, str]] = {
    "tensors that overlap": (tensors({"a": entry(0, 64), "b": entry(32, 96)}, b"\0" * 96), "expected"),
    "a gap between tensors": (tensors({"a": entry(0, 64), "b": entry(80, 144)}, b"\0" * 144), "expected"),
    "bytes after the last tensor": (tensors({"a": entry(0, 64)}, b"\0" * 80), "the file at"),
    "a tensor beyond the end": (tensors({"a": entry(0, 64)}, b"\0" * 8), "the file at"),
    "an offset beyond all files": (tensors({"a": entry(2**62, 2**62 + 64)}), "expected"),
    "an offset below zero": (tensors({"a": entry(-64, 0)}), "malformed"),
    "a header longer than the file": (tensors({"a": entry(0, 64)}, length=10**6), "a header of"),
    "a header of 2^63 bytes": (tensors({"a": entry(0, 64)}, length=2**63), "a header of"),
    "a header of no bytes": (tensors(b"", length=0), "a header of"),
    "a header that nests": (tensors(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"), "not strict JSON|entry of"),
    "a name twice": (tensors(b'{"a":%s,"a":%s}' % ((json.dumps(entry(0, 64)).encode(),) * 2)), "twice"),
    "a shape that overflows": (tensors({"a": entry(0, 64, (2**62, 2**62, 16))}), "its shape is"),
    "a shape of fractions": (tensors({"a": entry(0, 64, (4.5, 4))}), "malformed"),
    "a type that is none": (tensors({"a": entry(0, 64, dtype="PYOBJECT")}), "unknown type"),
    "a field too many": (tensors({"a": {**entry(0, 64), "code": "import os"}}), "is not dtype"),
    "no tensors": (tensors({}), "0 tensors"),
    "an array as header": (tensors([1]), "not a JSON object"),
    "weights of another model": (tensors({"a": entry(0, 64)}), "missing"),
}


@pytest.mark.parametrize("name", SAFETENSORS)
def test_safetensors_that_lie_are_refused(folder: Path, refused: Refused, name: str) -> None:
    """Every byte belongs to one tensor, or the file is not read."""
    data, words = SAFETENSORS[name]
    (folder / "model.safetensors").write_bytes(data)
    refused(lambda: converted(folder / "model.safetensors"), words)


# --- GGUF


def text(value: str | bytes) -> bytes:
    data = value if isinstance(value, bytes) else value.encode()
    return struct.pack("<Q", len(data)) + data


def pair(key: str, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


BASE = (pair("general.architecture", 8, text("llama")), pair("llama.context_length", 4, struct.pack("<I", 128)))


def tensor(name: str, shape: tuple[int, ...] = (32,), kind: int = 0, offset: int = 0) -> bytes:
    dims = b"".join(struct.pack("<Q", size) for size in shape)
    return text(name) + struct.pack("<I", len(shape)) + dims + struct.pack("<IQ", kind, offset)


def model(
    *pairs: bytes,
    infos: tuple[bytes, ...] = (tensor("t"),),
    data: bytes = b"\0" * 128,
    counts: tuple[int, int] | None = None,
    magic: bytes = b"GGUF",
    version: int = 3,
    cut: int | None = None,
) -> bytes:
    both = counts or (len(infos), len(BASE) + len(pairs))
    head = magic + struct.pack("<IQQ", version, *both) + b"".join([*BASE, *pairs, *infos])
    return (head + b"\0" * (-len(head) % 32) + data)[:cut]


def array(kind: int, count: int, items: bytes = b"") -> bytes:
    return struct.pack("<IQ", kind, count) + items


GGUF: dict[str, tuple[bytes, str]] = {
    "a count of tensors that overflows": (model(counts=(2**63, 2)), "tensors"),
    "a count of keys that overflows": (model(counts=(1, 2**64 - 1)), "key"),
    "more keys than there are": (model(counts=(1, 60_000)), "."),
    "fewer keys than there are": (model(counts=(1, 1)), "."),
    "a text of 2^63 bytes": (model(pair("x", 8, struct.pack("<Q", 2**63))), "at most"),
    "a text of 2^64 - 1 bytes": (model(pair("x", 8, struct.pack("<Q", 2**64 - 1))), "at most"),
    "an array of 2^62 numbers": (model(pair("x", 9, array(10, 2**62))), "at most"),
    "arrays that nest": (model(pair("x", 9, array(9, 1, array(9, 1)))), "array"),
    "an array of a type that is none": (model(pair("x", 9, array(99, 1, b"\0" * 8))), "type"),
    "a key twice": (model(pair("x", 4, b"\0" * 4), pair("x", 4, b"\0" * 4)), "twice"),
    "a value of a type that is none": (model(pair("x", 77, b"\0" * 8)), "type"),
    "a truth that is neither": (model(pair("x", 7, b"\7")), "."),
    "a name that is no text": (model(pair("x", 8, text(b"\xff\xfe"))), "UTF-8|text"),
    "an alignment of 0": (model(pair("general.alignment", 4, struct.pack("<I", 0))), "general.alignment is 0"),
    "an alignment of 24": (model(pair("general.alignment", 4, struct.pack("<I", 24))), "power of two"),
    "an alignment of 2^31": (model(pair("general.alignment", 4, struct.pack("<I", 2**31))), "general.alignment"),
    "an alignment as text": (model(pair("general.alignment", 8, text("32"))), "general.alignment"),
    "two tensors of one name": (model(infos=(tensor("t"), tensor("t", offset=128)), data=b"\0" * 256), "one name"),
    "tensors that overlap": (model(infos=(tensor("t"), tensor("u", offset=64)), data=b"\0" * 256), "expected 128"),
    "a tensor outside the file": (model(infos=(tensor("t", offset=2**40),)), "expected 0"),
    "an offset that wraps": (model(infos=(tensor("t", offset=2**64 - 32),)), "expected 0"),
    "dimensions that overflow": (model(infos=(tensor("t", (2**32, 2**32, 2)),)), "shape"),
    "a dimension of 0": (model(infos=(tensor("t", (32, 0)),)), "shape"),
    "nine dimensions": (model(infos=(tensor("t", (2,) * 9),)), "9 dimensions"),
    "no dimension": (model(infos=(tensor("t", ()),)), "0 dimensions"),
    "a tensor type that is none": (model(infos=(tensor("t", kind=250),)), "unknown type 250"),
    "a row that its type does not hold": (model(infos=(tensor("t", (31,), 2),)), "does not hold"),
    "a tensor's name of 2^40 bytes": (model(infos=(struct.pack("<Q", 2**40) + b"t",)), "name"),
    "half a header": (model(cut=40), "."),
    "half its data": (model(data=b"\0" * 64), "the file at"),
    "data after the end": (model(data=b"\0" * 4096), "the file at"),
    "no tensors": (model(infos=(), data=b""), "no tensors"),
    "big-endian": (model(version=3 << 24), "version"),
    "version 1": (model(version=1), "version"),
    "another magic": (model(magic=b"GGML"), "."),
    "one part of several": (model(pair("split.count", 2, struct.pack("<H", 3))), "one part of a split"),
    "a template of a million characters": (model(pair("tokenizer.chat_template", 8, text("a" * 10**6))), "template"),
}


@pytest.mark.parametrize("name", GGUF)
def test_gguf_that_lies_is_refused(folder: Path, refused: Refused, name: str) -> None:
    """What llama.cpp would have to trust adds up, or the file is not taken."""
    data, words = GGUF[name]
    (folder / "model.gguf").write_bytes(data)
    assert "model.gguf" in refused(lambda: gguf.inspect(folder / "model.gguf"), words)


def test_the_base_of_the_lies_is_good(folder: Path) -> None:
    """What is refused above is refused for the lie."""
    (folder / "model.gguf").write_bytes(model())
    assert gguf.inspect(folder / "model.gguf").architecture == "llama"


@pytest.mark.parametrize("kind", ["fifo", "folder", "device"])
@pytest.mark.parametrize("name", READERS)
def test_what_is_no_file_is_refused(folder: Path, refused: Refused, name: str, kind: str) -> None:
    """A pipe must not hang the builder, and a device not be read."""
    import os

    path = folder / name
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    refused(lambda: READERS[name](path), "not a regular file|is not a file|cannot be read")
