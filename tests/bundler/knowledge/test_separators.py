"""Characters that some programs take for the end of a line stand inside lines of JSONL: a line feed alone ends one."""

from __future__ import annotations

import json
from pathlib import Path

from bundler.fit.compile import compile_documents, compile_faq
from bundler.ingest.faq import read_faq
from bundler.ingest.readers import Document
from bundler.knowledge import assets, same_answers, selftest
from bundler.knowledge.encoder import Encoder
from bundler.knowledge.same_answers import Asked

# JSON may hold these as they are; `str.splitlines` would cut at each.
TEXT = "The boat is on deck.\u2028The raft is below.\u2029The oars are in the store.\x85The key is with the mate."


def line_of(**row: object) -> str:
    return json.dumps(row, ensure_ascii=False)


def test_an_answer_comes_out_of_a_bundle_as_the_operator_wrote_it(
    tmp_path: Path, encoder: Encoder, repo_root: Path
) -> None:
    """Also from a file of Windows, and from one without a last end of line."""
    row = line_of(id="boat", question="Where is the boat?", variants=["Boat?"], answer=TEXT)
    for end in ("\n", "\r\n", ""):
        (tmp_path / "faq.jsonl").write_text(row + end, newline="")
        [boat] = read_faq(tmp_path / "faq.jsonl")
        assert boat.answer == TEXT
    made = compile_faq([*read_faq(repo_root / "profiles/demo/faq.jsonl")[:8], boat], encoder, "x")
    assert "\u2028" in made["faq/x/faq.jsonl"].decode()
    faq = assets.load_faq(made.__getitem__, "faq/x", encoder.dimensions)
    found = faq.match(boat.question, encoder.embed([boat.question])[0]).match
    assert found is not None
    assert found.answer == TEXT


def test_documents_and_questions_keep_them(encoder: Encoder) -> None:
    """Texts of sources, cases of a self-test, and what a snapshot of a store is asked."""
    made = compile_documents([Document("a.md", "A", TEXT)], encoder, "x")
    assert "".join(chunk.text for chunk in assets.load_chunks(made.__getitem__, "documents/x")) == TEXT
    [case] = selftest.read_cases(f"{line_of(kind='refuse', question=TEXT)}\r\n\n".encode())
    assert case.text == TEXT
    asked = Asked(None, TEXT, ("1",), (0.5,))
    line = line_of(text=TEXT, ids=["1"], scores=[0.5])
    assert same_answers.read_asked(f"{line}\n".encode(), 1) == [asked]
