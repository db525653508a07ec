"""The knowledge base on a small corpus with the real embedding model: fit, load, ask."""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bundler.fit.compile import compile_documents, compile_faq, compile_router
from bundler.format.errors import BadBundle
from bundler.format.service import (
    EmbeddingSpec,
    FaqSpec,
    LadderSpec,
    LimitsSpec,
    RouterSpec,
    SelftestSpec,
    Service,
)
from bundler.format.store import CollectionSpec
from bundler.ingest.faq import FaqEntry, faq_issues
from bundler.ingest.readers import Document
from bundler.ingest.routes import RouteExample
from bundler.knowledge import selftest
from bundler.knowledge.base import KnowledgeBase
from bundler.knowledge.encoder import Encoder

SERVICE = Service(
    "demo",
    "Demo",
    (),
    None,
    (CollectionSpec("handbook", "documents/handbook"),),
    (FaqSpec("helpdesk", "faq/helpdesk"),),
    (RouterSpec("tickets", "router/tickets"),),
    (),
    LadderSpec((), (), (), "", "", ""),
    LimitsSpec(1, 1, 1),
    None,
    (),
)
DOCUMENTS = [
    Document(
        "backup.md",
        "Backup policy",
        "# Schedule\n\nServers are backed up every four hours. Laptops are backed up each night at 01:30.\n\n"
        "# Keeping\n\nDaily copies are kept for 35 days, and monthly copies for 13 months.",
    ),
    Document(
        "printing.md",
        "Printing guide",
        "# Plotter\n\nThe A0 plotter stands on floor 3. It is loaded with paper by the studio assistant on Mondays.",
    ),
]


@pytest.fixture(scope="session")
def demo_assets(encoder: Encoder, repo_root: Path) -> Mapping[str, bytes]:
    demo = repo_root / "profiles" / "demo"
    rows = [json.loads(line) for line in (demo / "faq.jsonl").read_text().splitlines()]
    entries = [FaqEntry(row["id"], row["question"], row["answer"], tuple(row["variants"])) for row in rows[:30]]
    texts = [json.loads(line) for line in (demo / "routes.jsonl").read_text().splitlines()]
    examples = [RouteExample(row["text"], row["label"]) for row in texts]
    return {
        **compile_documents(DOCUMENTS, encoder, "handbook"),
        **compile_faq(entries, encoder, "helpdesk"),
        **compile_router(examples, encoder, "tickets"),
    }


@pytest.fixture(scope="session")
def base(encoder: Encoder, demo_assets: Mapping[str, bytes]) -> KnowledgeBase:
    return KnowledgeBase.load(SERVICE, demo_assets.__getitem__, encoder)


def test_a_question_gets_a_verbatim_quote(base: KnowledgeBase) -> None:
    """The quote stands at its offsets in the text of its source."""
    evidence = base.evidence("How long are monthly backup copies kept?")
    assert evidence.answerable
    quote = evidence.citations[0]
    text = next(document.text for document in DOCUMENTS if document.source == quote.source)
    assert text[quote.start : quote.end] == quote.quote
    assert "13 months" in quote.quote


def test_who_names_what_is_asked_gets_it_alone(base: KnowledgeBase, repo_root: Path) -> None:
    """Of no collection there is no evidence; a name that is none is an error."""
    question = "How long are monthly backup copies kept?"
    assert base.evidence(question, ["handbook"]) == base.evidence(question)
    assert not base.evidence(question, []).answerable
    row = json.loads((repo_root / "profiles" / "demo" / "faq.jsonl").read_text().splitlines()[0])
    assert base.faq(row["question"], "helpdesk").match is not None
    with pytest.raises(KeyError):
        base.evidence(question, ["house"])
    with pytest.raises(KeyError):
        base.faq(question, "office")


@pytest.mark.parametrize("question", ["What is the capital of Peru?", "Who won the match yesterday?", "???", ""])
def test_what_the_documents_do_not_hold_is_refused(base: KnowledgeBase, question: str) -> None:
    """No evidence, no answer."""
    assert not base.evidence(question).answerable


def test_search_hits_are_verbatim(base: KnowledgeBase) -> None:
    """Each hit's text stands at its offsets; the right passage is first."""
    hits = base.search("Where is the plotter?", 3)
    assert hits[0].source == "printing.md"
    for hit in hits:
        text = next(document.text for document in DOCUMENTS if document.source == hit.source)
        assert text[hit.start : hit.end] == hit.text
    with pytest.raises(KeyError):
        base.search("x", 1, "no-such-collection")


def test_an_faq_wording_is_matched_and_a_stranger_is_not(base: KnowledgeBase, repo_root: Path) -> None:
    """An exact wording is certain, whatever its case; a question about something else is declined."""
    row = json.loads((repo_root / "profiles" / "demo" / "faq.jsonl").read_text().splitlines()[0])
    found = base.faq(f"  {row['question'].upper()} ")
    assert found.match is not None
    assert (found.match.id, found.confidence) == (row["id"], 1.0)
    assert base.faq("How tall is the tallest mountain?").match is None


def test_a_ticket_is_routed_and_a_recipe_is_not(base: KnowledgeBase) -> None:
    """A clear ticket gets its label with candidates that add up to one at most; the rest is left to a person."""
    routed = base.route("Fernlink will not connect from my hotel")
    assert routed.label == "vpn-remote-access"
    assert sum(share for _, share in routed.candidates) <= 1.0001
    assert base.route("Whisk the eggs with the sugar until fluffy").abstained


def test_the_same_content_gives_the_same_bytes(encoder: Encoder) -> None:
    """A rebuild without a change makes no new volume."""
    assert compile_documents(DOCUMENTS, encoder, "x") == compile_documents(DOCUMENTS, encoder, "x")


@pytest.mark.parametrize("path", ["documents/handbook/search.json", "faq/helpdesk/matcher.json"])
def test_assets_of_another_form_are_refused(encoder: Encoder, demo_assets: Mapping[str, bytes], path: str) -> None:
    """Assets that this program does not read give BadBundle, never another exception."""
    broken = {**demo_assets, path: b'{"format": 1}'}
    with pytest.raises(BadBundle):
        KnowledgeBase.load(SERVICE, broken.__getitem__, encoder)


def test_vectors_that_do_not_fit_are_refused(encoder: Encoder, demo_assets: Mapping[str, bytes]) -> None:
    """Vectors of another model, a pickle, or too few rows never load."""
    import io

    for rows in (np.zeros((3, 7), np.float32), np.zeros((1, encoder.dimensions), np.float32)):
        out = io.BytesIO()
        np.save(out, rows)
        broken = {**demo_assets, "faq/helpdesk/vectors.npy": out.getvalue()}
        with pytest.raises(BadBundle):
            KnowledgeBase.load(SERVICE, broken.__getitem__, encoder)


@pytest.mark.parametrize(
    "path", ["documents/handbook/search.json", "faq/helpdesk/matcher.json", "router/tickets/router.json"]
)
def test_vectors_of_another_embedding_model_are_refused(
    encoder: Encoder, demo_assets: Mapping[str, bytes], path: str
) -> None:
    """The digest beside each set of vectors says whose they are, even where the dimensions fit."""
    value = json.loads(demo_assets[path])
    assert value.pop("made_with") == encoder.identity
    old = {**demo_assets, path: json.dumps(value).encode()}
    KnowledgeBase.load(SERVICE, old.__getitem__, encoder)  # a bundle of before that digest
    foreign = {**demo_assets, path: json.dumps(value | {"made_with": "0" * 64}).encode()}
    with pytest.raises(BadBundle, match="made with the embedding model 0000"):
        KnowledgeBase.load(SERVICE, foreign.__getitem__, encoder)


def test_an_index_of_another_precision_is_refused(encoder: Encoder, demo_assets: Mapping[str, bytes]) -> None:
    """What the bundle says of its embedding model must be what the graph says of itself."""
    for precision, fits in (("int8", True), ("fp32", False)):
        spec = EmbeddingSpec("minilm", "m.onnx", "t.json", "00", encoder.dimensions, 256, "mean", precision)
        service = replace(SERVICE, embedding=spec)
        if fits:
            KnowledgeBase.load(service, demo_assets.__getitem__, encoder)
            continue
        with pytest.raises(BadBundle, match="the embedding model is in int8, the index in fp32"):
            KnowledgeBase.load(service, demo_assets.__getitem__, encoder)


def test_the_selftest_counts_what_holds(base: KnowledgeBase) -> None:
    """A case that fails is named; a share below the asked one fails the whole."""
    lines = [
        {"kind": "documents", "question": "When are laptops backed up?", "expect": "backup.md", "quote": "at 01:30"},
        {"kind": "route", "input": "Fernlink will not connect from my hotel", "expect": "printing"},
        {"kind": "refuse", "question": "What is the capital of Peru?"},
        {"kind": "model", "prompt": "hello"},
    ]
    cases = selftest.read_cases("\n".join(json.dumps(line) for line in lines).encode())
    report = selftest.run(cases, base, SelftestSpec("", 90, 90, 90, 90))
    assert not report.passed
    assert {tally.kind: tally.held for tally in report.tallies} == {"documents": 1, "refuse": 1, "route": 0}
    assert any("Fernlink" in line for line in report.lines())


@pytest.mark.parametrize(
    ("line", "table"),
    [
        ({"kind": "route", "input": "x", "expect": None}, "1 cases are of kind 'route', and there is no [[router]]"),
        ({"kind": "faq", "question": "x", "expect": "a"}, "and there is no [[faq]]"),
        ({"kind": "documents", "question": "x", "expect": "a", "quote": "b"}, "and there is no [[documents]]"),
    ],
)
def test_cases_without_content_are_refused(encoder: Encoder, line: dict[str, str], table: str) -> None:
    """A box says what is wrong with such a bundle, and asks nothing."""
    empty = KnowledgeBase(encoder, {}, {}, {})
    cases = selftest.read_cases(json.dumps(line).encode())
    with pytest.raises(BadBundle, match=re.escape(table)):
        selftest.run(cases, empty, SelftestSpec("", 90, 90, 90, 90))


@pytest.mark.parametrize("line", [b"{}", b"not json", b'{"kind":"faq","question":"x"}', b'{"kind":"king"}'])
def test_lines_that_are_no_case_are_refused(line: bytes) -> None:
    """A misspelt case would test nothing in silence."""
    with pytest.raises(BadBundle, match="line 1"):
        selftest.read_cases(line)


def test_weak_faq_entries_are_named(encoder: Encoder) -> None:
    """No variants, one wording in two entries, and questions that fight are each told."""
    entries = [
        FaqEntry("a", "How do I reset my password?", "Like this.", ("forgot password",)),
        FaqEntry("b", "How can I reset my password?", "Like that.", ("Forgot password!",)),
        FaqEntry("c", "Where is the car park?", "Outside.", ()),
    ]
    issues = "\n".join(faq_issues(entries, encoder))
    assert "c ('Where is the car park?'): no variants" in issues
    assert "both have the wording" in issues
    assert "fight" in issues
