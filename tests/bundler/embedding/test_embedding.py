"""The embedding model of a profile: its precision, what the box is told of it, and what is refused."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from bundler.capture.bert_to_onnx import BertFacts
from bundler.embedding.conversions import MOST, Conversions
from bundler.embedding.model import EMBEDDING_FILES, Converted, convert_embedding, make_encoder
from bundler.format.errors import BadInput
from bundler.profile.model import EmbeddingEntry
from bundler.sources.source import Fetched

CONFIG = {
    "model_type": "bert", "hidden_act": "gelu", "hidden_size": 384, "num_attention_heads": 12, "num_hidden_layers": 6,
    "intermediate_size": 1536, "max_position_embeddings": 512, "vocab_size": 30522,
}  # fmt: skip


def entry(precision: str = "fp32", max_tokens: int = 128) -> EmbeddingEntry:
    return EmbeddingEntry("minilm", "file:model/", "Apache-2.0", "", max_tokens, precision)


@pytest.fixture
def files(minilm_files: dict[str, bytes], tmp_path: Path) -> dict[str, Fetched]:
    """The model's files as a source delivers them."""
    pooling = {"word_embedding_dimension": 384, "pooling_mode_mean_tokens": True}
    texts = {"config.json": json.dumps(CONFIG).encode(), "1_Pooling/config.json": json.dumps(pooling).encode()}
    fetched = {}
    for name in EMBEDDING_FILES:
        data, path = texts.get(name) or minilm_files[name], tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        fetched[name] = Fetched(path, f"file:{name}", len(data), hashlib.sha256(data).hexdigest(), "")
    return fetched


def converted(files: dict[str, Fetched], work: Path, wanted: EmbeddingEntry) -> Converted:
    return convert_embedding(wanted, files, work, lambda _: None)


def test_the_box_is_told_what_the_encoder_is(files: dict[str, Fetched], tmp_path: Path) -> None:
    """Precision and length of the spec are those that the vectors are made with."""
    made = converted(files, tmp_path, entry())
    spec, encoder = made.spec(), make_encoder(made)
    assert (spec.precision, spec.max_tokens, spec.dimensions) == ("fp32", 128, 384)
    assert (encoder.precision, encoder.dimensions) == (spec.precision, spec.dimensions)
    assert encoder.count_tokens("word " * 300) == 128
    assert made.reason() == "minilm: fp32, as the profile says"


def test_a_length_that_the_model_does_not_take_is_refused(files: dict[str, Fetched], tmp_path: Path) -> None:
    """Longer texts would fail on the box, one by one."""
    with pytest.raises(BadInput, match="max_tokens is 513, the model takes 512"):
        converted(files, tmp_path, entry(max_tokens=513))


def test_a_rebuild_takes_the_graph_that_is_kept(files: dict[str, Fetched], tmp_path: Path) -> None:
    """Of the same files and precision; where the disk changed it, or the precision is another, it is made anew."""
    kept, said = Conversions(tmp_path / "kept"), list[str]()

    def graph_of(wanted: EmbeddingEntry, work: str) -> tuple[bytes, str]:
        (tmp_path / work).mkdir()
        made = convert_embedding(wanted, files, tmp_path / work, said.append, kept)
        return made.graph.read_bytes(), made.reason()

    first = graph_of(entry(), "first")
    assert graph_of(entry(), "second") == first
    assert len(said) == 1
    graph = next((tmp_path / "kept").glob("*.onnx"))
    graph.write_bytes(graph.read_bytes()[:-1] + b"?")
    assert graph_of(entry(), "third") == first
    assert len(said) == 2
    assert graph_of(entry("fp16"), "fourth") != first
    assert len(said) == 3


def test_only_the_newest_graphs_are_kept(tmp_path: Path) -> None:
    """What nothing asks for any more does not fill the builder's disk."""
    kept, graph = Conversions(tmp_path / "kept"), tmp_path / "graph"
    graph.write_bytes(b"graph")
    facts = BertFacts(1, "mean", 1, 1, 1)
    for number in range(MOST + 2):
        kept.keep(f"{number}", graph, facts)
        os.utime(tmp_path / "kept" / f"{number}.json", (number, number))
    assert len(list((tmp_path / "kept").iterdir())) == 2 * MOST
    assert kept.take("0", tmp_path / "out") is None
    assert kept.take(f"{MOST + 1}", tmp_path / "out") == facts
    assert (tmp_path / "out").read_bytes() == b"graph"


@pytest.mark.parametrize("record", [b"{}", b"[]", b'{"facts":{"other":1},"sha256":""}', b"not JSON"])
def test_a_damaged_record_is_as_good_as_none(tmp_path: Path, record: bytes) -> None:
    """It is only a cache: the model is converted anew."""
    kept, graph = Conversions(tmp_path / "kept"), tmp_path / "graph"
    graph.write_bytes(b"graph")
    kept.keep("one", graph, BertFacts(1, "mean", 1, 1, 1))
    (tmp_path / "kept" / "one.json").write_bytes(record)
    assert kept.take("one", tmp_path / "out") is None
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("modules", "words"),
    [
        (
            ["Transformer", "Pooling", "Dense", "Normalize"],
            r"comes \['Pooling', 'Dense', 'Normalize'\]",
        ),
        (["Transformer"], "only pooling and normalising"),
        (["Pooling", "Transformer"], "only pooling and normalising"),
        (None, "modules.json is not JSON"),
    ],
)
def test_a_model_that_does_more_than_pooling_is_not_converted(
    files: dict[str, Fetched], tmp_path: Path, modules: list[str] | None, words: str
) -> None:
    """Vectors without the layer that follows (LaBSE has one) would be those of another model."""
    kinds = [{"type": f"sentence_transformers.models.{kind}"} for kind in modules or ()]
    (tmp_path / "modules.json").write_text("{" if modules is None else json.dumps(kinds))
    with pytest.raises(BadInput, match=words):
        converted(files, tmp_path, entry())
    assert not (tmp_path / "embedding.onnx").exists()
