"""An embedding model from a model hub, by the hub's real client: its ONNX export as it is, or the reason why not."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bundler.embedding import make_encoder
from bundler.format.errors import BadInput
from bundler.gather import Sources
from bundler.profile.read import read_profile

PROFILE = """
[bundle]
name = "hub"
title = "An embedding model from a hub"
[embedding]
name = "minilm"
source = "hub:org/minilm@main/"
licence = "Apache-2.0"
{more}
[[faq]]
name = "faq"
source = "file:faq.jsonl"
"""
KINDS = [{"type": f"sentence_transformers.models.{kind}"} for kind in ("Transformer", "Pooling", "Normalize")]


@pytest.fixture
def sources(local_hub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Sources]:
    """The sources of a profile whose model the local hub has, with these files."""
    monkeypatch.setenv("HF_ENDPOINT", local_hub.endpoint)
    monkeypatch.delenv("HF_TOKEN", raising=False)

    def made(files: dict[str, bytes], more: str = "") -> Sources:
        local_hub.add("org/minilm", files, card={"license": "apache-2.0"})
        (tmp_path / "p.toml").write_text(PROFILE.format(more=more))
        (tmp_path / "work").mkdir()
        return Sources(read_profile(tmp_path / "p.toml"), tmp_path / "cache", tmp_path / "work", lambda _: None)

    return made


def test_an_export_is_taken_as_the_hub_has_it(
    sources: Callable[..., Sources],
    minilm_files: dict[str, bytes],
    load_script: Callable[[str], Any],
    tmp_path: Path,
    repo_root: Path,
) -> None:
    """Byte for byte, pinned by commit, with the reference's vectors."""
    (tmp_path / "w").write_bytes(minilm_files["model.safetensors"])
    graph = load_script("bert_export").export(tmp_path / "w").SerializeToString()
    asked = sources(
        {
            "onnx/model.onnx": graph,
            "tokenizer.json": minilm_files["tokenizer.json"],
            "config.json": b'{"model_type": "bert"}',
            "modules.json": json.dumps(KINDS).encode(),
            "1_Pooling/config.json": b'{"pooling_mode_mean_tokens": true}',
        },
        'onnx = "onnx/model.onnx"',
    )
    found = asked.found()
    item, _ = found["hub:org/minilm@main/onnx/model.onnx"]
    assert (item.sha256, len(item.resolved)) == (hashlib.sha256(graph).hexdigest(), 40)
    taken = asked.converted(found)
    assert taken is not None
    assert taken.graph.read_bytes() == graph
    assert taken.spec().sha256 == item.sha256
    cases = json.loads((repo_root / "tests" / "vectors" / "minilm.json").read_text())["cases"]
    rows = make_encoder(taken).embed([case["text"] for case in cases])
    assert np.allclose(rows, [case["vector"] for case in cases], atol=2e-6)


def test_another_family_in_safetensors_is_refused_with_the_way_out(
    sources: Callable[..., Sources], minilm_files: dict[str, bytes]
) -> None:
    """The family is named, and the key that takes its export."""
    asked = sources(
        {
            "model.safetensors": minilm_files["model.safetensors"],
            "tokenizer.json": minilm_files["tokenizer.json"],
            "config.json": b'{"model_type": "xlm-roberta"}',
            "1_Pooling/config.json": b'{"pooling_mode_mean_tokens": true, "word_embedding_dimension": 384}',
        }
    )
    with pytest.raises(BadInput, match="the family is 'xlm-roberta'") as caught:
        asked.converted(asked.found())
    assert 'onnx = "onnx/model.onnx"' in caught.value.hint
