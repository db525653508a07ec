"""Chroma in memory finds what exact search finds, on the demo's own self-test."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from appliance.answer.chroma_index import chroma
from bundler.fit.compile import compile_documents
from bundler.format.service import LadderSpec, LimitsSpec, Service
from bundler.format.store import CollectionSpec
from bundler.ingest.readers import read_folder
from bundler.knowledge import selftest
from bundler.knowledge.base import KnowledgeBase
from bundler.knowledge.encoder import Encoder

SERVICE = Service(
    "demo",
    "Demo",
    (),
    None,
    (CollectionSpec("handbook", "documents/handbook"),),
    (),
    (),
    (),
    LadderSpec((), (), (), "", "", ""),
    LimitsSpec(1, 1, 1),
    None,
    (),
)


@pytest.fixture(scope="module")
def handbook(encoder: Encoder, repo_root: Path) -> Mapping[str, bytes]:
    return compile_documents(read_folder(repo_root / "profiles" / "demo" / "documents"), encoder, "handbook")


def test_chroma_and_exact_search_return_the_same_passages(
    encoder: Encoder, handbook: Mapping[str, bytes], repo_root: Path
) -> None:
    """Every question of the self-test gets the same passages, in the same order, from both."""
    exact = KnowledgeBase.load(SERVICE, handbook.__getitem__, encoder)
    other = KnowledgeBase.load(SERVICE, handbook.__getitem__, encoder, chroma)
    cases = selftest.read_cases((repo_root / "profiles" / "demo" / "selftest-documents.jsonl").read_bytes())
    asked = [case.text for case in cases if case.kind == "documents"]
    for question in asked:
        places = [[(hit.source, hit.start) for hit in base.search(question, 3)] for base in (exact, other)]
        assert places[0] == places[1], question
