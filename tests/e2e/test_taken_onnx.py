"""A bundle whose embedding model is an ONNX export as it came: built, installed, and it answers; no parser at home."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from appliance.host.box import load_knowledge
from appliance.store import versions
from appliance.store.layout import StateLayout
from appliance.store.seal import Seal

pytestmark = pytest.mark.timeout(300)

PROFILE = """
[bundle]
name = "taken"
title = "A box whose embedding model came as ONNX"

[embedding]
name = "minilm-onnx"
source = "file:model/"
licence = "Apache-2.0"
onnx = "onnx/model.onnx"
max_tokens = 256

[[documents]]
name = "handbook"
source = "file:demo/documents"

[[faq]]
name = "helpdesk"
source = "file:demo/faq.jsonl"

[[router]]
name = "tickets"
source = "file:demo/routes.jsonl"

[selftest]
cases = ["file:demo/selftest-faq.jsonl", "file:demo/selftest-documents.jsonl"]
faq_percent = 85
documents_percent = 70
refuse_percent = 85
"""
# Runs the program in a process where loading a foreign graph or tokenizer is a crash.
WATCHED = """
import sys
import onnxruntime, tokenizers, onnx
def refuse(*_words, **_more):
    raise SystemExit("a parser of foreign bytes ran in the builder's own process")
class Refused:
    __init__ = refuse
    from_str = from_buffer = from_file = from_bytes = staticmethod(refuse)
onnxruntime.InferenceSession = tokenizers.Tokenizer = Refused
onnx.load = onnx.load_model_from_string = refuse
from bundler.cli import main
sys.argv[0] = "lifeboat"
main()
"""


@pytest.fixture
def folder(tmp_path: Path, repo_root: Path, minilm_files: dict[str, bytes], load_script: Callable[[str], Any]) -> Path:
    """A profile, its content, and the model as a hub offers it: rows of tokens, and the pooling beside them."""
    shutil.copytree(repo_root / "profiles" / "demo", tmp_path / "demo")
    model = tmp_path / "model"
    (model / "onnx").mkdir(parents=True)
    (model / "1_Pooling").mkdir()
    (model / "model.safetensors").write_bytes(minilm_files["model.safetensors"])
    graph = load_script("bert_export").export(model / "model.safetensors")
    (model / "onnx" / "model.onnx").write_bytes(graph.SerializeToString())
    (model / "tokenizer.json").write_bytes(minilm_files["tokenizer.json"])
    (model / "config.json").write_text('{"model_type": "bert"}')
    kinds = [f"sentence_transformers.models.{kind}" for kind in ("Transformer", "Pooling", "Normalize")]
    (model / "modules.json").write_text(json.dumps([{"type": kind} for kind in kinds]))
    (model / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    (tmp_path / "taken.toml").write_text(PROFILE)
    (tmp_path / "pass").write_text("correct horse\n")
    return tmp_path


def _lifeboat(folder: Path, *words: str | Path) -> Any:
    environment = {**os.environ, "LIFEBOAT_HOME": str(folder / "home"), "NO_COLOR": "1"}
    keys = ("--passphrase-file", str(folder / "pass"))
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, *map(str, words), *keys, "--json"],
        env=environment, capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_it_is_built_installed_and_answers(folder: Path) -> None:
    """The graph travels byte for byte, the self-test holds on builder and box, and no parser runs in the builder."""
    repository, state = folder / "repository", folder / "state"
    _lifeboat(folder, "init", "--name", "Northquay")
    built = _lifeboat(folder, "build", folder / "taken.toml", "--repository", repository, "--yes")
    assert built["changed"]
    code = _lifeboat(folder, "site", "add", "bristol", "--repository", repository)["code"]
    (folder / "code").write_text(code)
    words = ("install", repository, "--state", state, "--site", "bristol", "--site-code-file", folder / "code")
    done = subprocess.run(
        [sys.executable, "-m", "appliance", *map(str, words)], capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stderr
    layout = StateLayout(state)
    secrets = Seal(layout.keys).open()
    with versions.open_version(layout, secrets, versions.read_current(layout, secrets)) as bundle:
        spec = bundle.index.service.embedding
        assert spec is not None
        assert (spec.output, spec.pooling, spec.precision) == ("last_hidden_state", "mean", "fp32")
        graph = (folder / "model" / "onnx" / "model.onnx").read_bytes()
        assert bundle.read(spec.asset) == graph
        assert spec.sha256 == hashlib.sha256(graph).hexdigest()
        knowledge, encoder = load_knowledge(bundle)
        assert knowledge is not None
        assert encoder is not None
        assert knowledge.search("How do I set up the scanner?", 3)
