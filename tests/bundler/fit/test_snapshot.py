"""A store's rows become a collection that ranks as the store did, and only vectors of the profile's model are taken."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from appliance.host import trial_child
from bundler.capture.stores.rows import Row, StoreFacts
from bundler.fit import snapshot
from bundler.format.errors import BadBundle, BadInput
from bundler.format.service import EmbeddingSpec, LadderSpec, LimitsSpec, Service
from bundler.format.store import CollectionSpec, StoreSpec
from bundler.knowledge import same_answers
from bundler.knowledge.base import KnowledgeBase
from bundler.knowledge.encoder import Encoder
from bundler.profile.table import Table
from bundler.profile.vectors import VectorsEntry, read_vectors

TEXTS = [
    "Servers are backed up every four hours. Laptops are backed up each night at 01:30.",
    "Daily copies are kept for 35 days, and monthly copies for 13 months.",
    "The A0 plotter stands on floor 3.",
    "It is loaded with paper by the studio assistant on Mondays.",
    "The VPN client is called Fernlink.",
    "The office is open from 8 to 17.",
    "Invoices go to accounts, who pay within 30 days.",
    "Visitors get a badge at the reception, which closes at noon on Fridays.",
]
ROWS = [
    Row(f"id {number}", text, {"source": f"s{number // 2}.md", "title": f"Title {number // 2}"})
    for number, text in enumerate(TEXTS)
]


def entry(**options: Any) -> VectorsEntry:
    issues: list[str] = []
    written = {"name": "notes", "source": "file:x.jsonl", "embedding": "minilm", **options}
    (made,) = read_vectors([Table(written, "[[vectors]]", issues)])
    assert issues == []
    return made


def facts(vectors: Any, metric: str = "cosine") -> StoreFacts:
    return StoreFacts("jsonl", "1", "", metric, vectors.shape[1], len(vectors), {})


@pytest.fixture(scope="module")
def made(encoder: Encoder) -> Any:
    return encoder.embed(TEXTS)


def compiled(folder: Path, vectors: Any, encoder: Encoder, metric: str, *, whole: bool = False) -> dict[str, bytes]:
    texts = snapshot.place(entry(), ROWS)
    asked, _ = snapshot.questions(texts, vectors, metric, encoder)
    snapshot.write_assets(folder, texts, vectors, asked, encoder, whole=whole)
    return {f"vectors/notes/{path.name}": path.read_bytes() for path in folder.iterdir()}


def service(metric: str, *, whole: bool = False) -> Service:
    return Service(
        "p", "P", (), None, (CollectionSpec("notes", "vectors/notes", StoreSpec(metric, whole)),), (), (), (),
        LadderSpec((), (), (), "", "", ""), LimitsSpec(1, 1, 1), None, (),
    )  # fmt: skip


def loaded(assets: Mapping[str, bytes], encoder: Encoder, metric: str, *, whole: bool = False) -> KnowledgeBase:
    return KnowledgeBase.load(service(metric, whole=whole), assets.__getitem__, encoder)


@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
@pytest.mark.parametrize("whole", [False, True], ids=["sentences", "whole"])
def test_a_named_search_ranks_as_the_store_did(
    tmp_path: Path, encoder: Encoder, made: Any, metric: str, whole: bool
) -> None:
    """By each metric, of vectors that are not of length 1, where the three rank differently."""
    lengths = np.linspace(0.2, 4, len(TEXTS), dtype=np.float32)[:, None]
    vectors = made * lengths
    base = loaded(compiled(tmp_path, vectors, encoder, metric, whole=whole), encoder, metric, whole=whole)
    query = encoder.embed(["How long are copies kept?"])[0].astype(np.float64)
    scores = {
        "cosine": made @ query,
        "ip": vectors @ query,
        "l2": -((vectors - query) ** 2).sum(axis=1),
    }[metric]
    hits = base.search("How long are copies kept?", 8, "notes")
    assert [hit.id for hit in hits] == [f"id {row}" for row in np.argsort(-scores)]
    assert [hit.score for hit in hits] == pytest.approx(sorted(scores, reverse=True), abs=2e-4)
    assert hits[0].collection == "notes"


def test_the_metrics_rank_differently(encoder: Encoder, made: Any) -> None:
    """Else the test above would show nothing."""
    vectors = made * np.linspace(0.2, 4, len(TEXTS), dtype=np.float32)[:, None]
    query = encoder.embed(["How long are copies kept?"])
    orders = [[row for row, _ in snapshot.exact(vectors, metric, query, 8)[0]] for metric in ("cosine", "ip", "l2")]
    assert len({tuple(order) for order in orders}) == 3


@pytest.mark.parametrize("whole", [False, True], ids=["sentences", "whole"])
def test_a_snapshot_answers_with_verbatim_quotes(tmp_path: Path, encoder: Encoder, made: Any, whole: bool) -> None:
    """Rows of one source are one text, in the order of the store; a quote stands at its offsets there."""
    assets = compiled(tmp_path, made, encoder, "cosine", whole=whole)
    evidence = loaded(assets, encoder, "cosine", whole=whole).evidence("How long are monthly copies kept?")
    assert evidence.answerable
    quote = evidence.citations[0]
    texts = [json.loads(line) for line in assets["vectors/notes/texts.jsonl"].splitlines()]
    text = next(row["text"] for row in texts if row["source"] == quote.source)
    assert text[quote.start : quote.end] == quote.quote
    assert "13 months" in quote.quote
    assert text == f"{TEXTS[0]}\n\n{TEXTS[1]}"


def test_vectors_of_the_profile_s_model_are_taken(encoder: Encoder, made: Any) -> None:
    """Whatever their length, and rounded as a store may have rounded them."""
    for vectors in (made, made * 7, made.astype(np.float16).astype(np.float32)):
        found = snapshot.agreement(ROWS, vectors, encoder)
        assert found.holds
        snapshot.refuse_other_model(entry(), facts(vectors), found, encoder)


@pytest.mark.parametrize("how", ["random", "shuffled", "turned", "other texts"])
def test_vectors_of_another_model_are_refused(encoder: Encoder, made: Any, how: str) -> None:
    """Of the same dimension, and even of the same model for other rows: with the cosines, and the way out."""
    generator = np.random.default_rng(0)
    vectors = {
        "random": generator.normal(size=made.shape).astype(np.float32),
        "shuffled": made[::-1],
        "turned": made @ np.linalg.qr(generator.normal(size=(made.shape[1],) * 2))[0].astype(np.float32),
        "other texts": encoder.embed([f"passage number {n}: {text[:10]}" for n, text in enumerate(TEXTS)]),
    }[how]
    found = snapshot.agreement(ROWS, vectors, encoder)
    with pytest.raises(BadInput, match=r"come out at a cosine of .* expected at least 0\.97 and 0\.85") as refused:
        snapshot.refuse_other_model(entry(), facts(vectors), found, encoder)
    assert "reembed = true" in refused.value.hint


def test_another_dimension_is_refused(encoder: Encoder, made: Any) -> None:
    """Before anything is compared."""
    with pytest.raises(BadInput, match="have 10 dimensions, those of minilm have 384") as refused:
        snapshot.refuse_other_model(entry(), facts(made[:, :10]), None, encoder)
    assert "reembed = true" in refused.value.hint
    assert snapshot.other_dimensions(entry(), facts(made), 384) == ""
    assert snapshot.other_dimensions(entry(reembed=True), facts(made), 10) == ""


def test_some_wrong_rows_are_enough(encoder: Encoder, made: Any) -> None:
    """A store into which two models wrote is refused by its lowest cosines."""
    vectors = made.copy()
    vectors[3] = vectors[5]
    found = snapshot.agreement(ROWS, vectors, encoder)
    assert found.median > snapshot.MEDIAN_LEAST
    assert not found.holds


def test_what_a_damaged_index_gives_is_counted() -> None:
    """Recall: what is nearest, or ties with the last of it, counts; the rest does not."""
    vectors = np.eye(4, dtype=np.float32)[[0, 0, 1, 2]]
    texts = snapshot.place(entry(), ROWS[:4])
    asked = [same_answers.Asked(0, "", ("id 0",), (1.0,))]
    for given, share in ((["id 0"], 1.0), (["id 1"], 1.0), (["id 2"], 0.0), ([], 0.0), (["unknown"], 0.0)):
        near = snapshot.scored(texts, vectors, "cosine", vectors[:1], [given])
        assert snapshot.recall(asked, [given], near) == share


def test_the_exact_search_is_exact_over_several_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A large store is scanned in stretches, with the same answer."""
    vectors = np.random.default_rng(2).normal(size=(20_000, 6)).astype(np.float32)
    for metric in ("cosine", "ip", "l2"):
        rows = vectors.astype(np.float64)
        query = rows[17]
        scores = {
            "cosine": rows @ query / np.linalg.norm(rows, axis=1) / np.linalg.norm(query),
            "ip": rows @ query,
            "l2": -((rows - query) ** 2).sum(axis=1),
        }[metric]
        assert [row for row, _ in snapshot.exact(vectors, metric, vectors[17:18], 12)[0]] == np.argsort(-scores)[
            :12
        ].tolist()


def test_the_facts_that_go_along_say_what_was_checked(encoder: Encoder, made: Any) -> None:
    """Normalised or not, how near the model is, and what the store itself found."""
    found = snapshot.agreement(ROWS, made, encoder)
    told = json.loads(snapshot.store_facts(entry(), facts(made), made, found, 0.97))
    assert (told["normalised"], told["recall"], told["reembedded"]) == (True, 0.97, False)
    assert told["agreement"]["median"] > 0.99
    assert not json.loads(snapshot.store_facts(entry(), facts(made), made * 2, found, 1.0))["normalised"]


def spoilt(assets: Mapping[str, bytes], how: str) -> dict[str, bytes]:
    changed = dict(assets)
    path = "vectors/notes/vectors.npy"
    data = bytearray(changed[path])
    size = (len(data) - 128) // len(TEXTS)
    if how == "two rows swapped":
        first, second = slice(128, 128 + size), slice(128 + size, 128 + 2 * size)
        data[first], data[second] = data[second], data[first]
    else:
        data[128 : 128 + size] = bytes(size)
    changed[path] = bytes(data)
    return changed


@pytest.mark.parametrize("how", ["two rows swapped", "a row of zeros"])
def test_a_box_refuses_what_answers_otherwise(tmp_path: Path, encoder: Encoder, made: Any, how: str) -> None:
    """The same questions are asked again before a version serves, and the line that is kept holds no text of them."""
    assets = compiled(tmp_path, made, encoder, "l2")
    assert same_answers.check_snapshots(service("l2"), assets.__getitem__, loaded(assets, encoder, "l2")) == []
    changed = spoilt(assets, how)
    wrong = same_answers.check_snapshots(service("l2"), changed.__getitem__, loaded(changed, encoder, "l2"))
    assert "stored vectors get" in wrong[0]
    assert "at least 100 % must come back" in wrong[0]
    assert not any(word in line for line in wrong for word in ("copies", "VPN", "id 1"))


def test_another_metric_is_noticed(tmp_path: Path, encoder: Encoder, made: Any) -> None:
    """A box that ranked by another metric than the store would answer otherwise."""
    vectors = made * np.linspace(0.2, 4, len(TEXTS), dtype=np.float32)[:, None]
    assets = compiled(tmp_path, vectors, encoder, "l2")
    assert same_answers.check_snapshots(service("ip"), assets.__getitem__, loaded(assets, encoder, "ip"))


@pytest.mark.parametrize("whole", [True, False])
def test_the_trial_of_a_version_asks_too(
    tmp_path: Path, encoder: Encoder, made: Any, encoder_parts: tuple[bytes, bytes], whole: bool
) -> None:
    """Without any [selftest], the process that tries a version passes a good snapshot and fails a changed one."""
    graph, tokens = encoder_parts
    spec = EmbeddingSpec("minilm", "graph", "tokens", "", 384, 256, "mean", encoder.precision)
    kept = replace(service("cosine", whole=whole), embedding=spec)
    assets = {**compiled(tmp_path, made, encoder, "cosine", whole=whole), "graph": graph, "tokens": tokens}

    def tried(found: Mapping[str, bytes]) -> Any:
        index = SimpleNamespace(service=kept)
        return trial_child._selftest(SimpleNamespace(index=index, read=found.__getitem__))  # type: ignore[arg-type]

    assert tried(assets) == (["vector stores: notes answer as they did"], [], True)
    lines, failures, passed = tried(spoilt(assets, "two rows swapped"))
    assert not passed
    assert failures == []
    assert all(line.endswith("FAILED") for line in lines)


def test_questions_that_are_none_are_refused() -> None:
    """They are signed, and read strictly all the same."""
    good = {"row": 1, "ids": ["a"], "scores": [1.0]}
    assert same_answers.read_asked(json.dumps(good).encode(), 2)[0].row == 1
    for wrong in ({**good, "row": 2}, {**good, "row": True}, {**good, "ids": []}, {**good, "scores": ["x"]}):
        with pytest.raises(BadBundle):
            same_answers.read_asked(json.dumps(wrong).encode(), 2)
    for data in (b"", b"{", b"\xff", b"[]", b"7", b"{}", json.dumps({**good, "ids": 7}).encode()):
        with pytest.raises(BadBundle):
            same_answers.read_asked(data, 2)
