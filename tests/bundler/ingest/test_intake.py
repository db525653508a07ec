"""What an operator hands in: FAQ, router and document files, good and bad."""

import json
from pathlib import Path
from typing import Any

import pytest

from bundler.format.errors import BadInput, BadInputs
from bundler.ingest.faq import read_faq
from bundler.ingest.readers import read_folder
from bundler.ingest.routes import read_routes


def jsonl(path: Path, *rows: Any) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def test_what_is_wrong_with_many_lines_is_told_once(tmp_path: Path) -> None:
    """A wrong column of a CSV is wrong in every row; what is wrong with one row alone is told beside it."""
    rows = "".join(f"Question {n}?,Answer {n}.\n" for n in range(8))
    (tmp_path / "faq.csv").write_text(f"question,anwser\n{rows}")
    with pytest.raises(BadInputs) as caught:
        read_faq(tmp_path / "faq.csv")
    assert caught.value.issues == (
        "lines 2, 3, 4 and 5 more: anwser is not known (known: answer, id, question, variants)",
    )
    lines = ['{"question": "Q?", "answer": ""}'] * 2 + ['{"question": "", "answer": "A"}']
    (tmp_path / "faq.jsonl").write_text("\n".join(lines))
    with pytest.raises(BadInputs) as caught:
        read_faq(tmp_path / "faq.jsonl")
    assert caught.value.issues == ("lines 1, 2: answer is empty", "line 3: question is empty")


def test_an_faq_is_read_from_jsonl_and_csv(tmp_path: Path) -> None:
    """Both forms give the same entries; a missing id is made from the line."""
    first = read_faq(jsonl(tmp_path / "f.jsonl", {"question": "Q?", "answer": "A.", "variants": ["q"]}))
    (tmp_path / "f.csv").write_text('question,answer,variants\n"Q?","A.",q|who\n')
    second = read_faq(tmp_path / "f.csv")
    assert (first[0].question, first[0].answer, first[0].variants) == ("Q?", "A.", ("q",))
    assert second[0].variants == ("q", "who")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("not json", "line 1: not JSON"),
        ("[1]", "line 1: not an object"),
        ({"question": "Q?"}, "answer must be text"),
        ({"question": " ", "answer": "A"}, "question is empty"),
        ({"question": 5, "answer": "A"}, "question must be text"),
        ({"question": "Q?", "answer": "A", "varients": []}, "varients is not known"),
        ({"question": "Q?", "answer": "A", "variants": [1]}, "variants must be"),
    ],
)
def test_wrong_faq_lines_are_named(tmp_path: Path, row: Any, reason: str) -> None:
    """Each wrong line gives its number and what is wrong with it."""
    with pytest.raises(BadInputs, match=reason):
        read_faq(jsonl(tmp_path / "f.jsonl", row))


def test_all_wrong_lines_come_at_once(tmp_path: Path) -> None:
    """Nobody mends a file one message at a time; repeated ids and questions are told too."""
    with pytest.raises(BadInputs) as caught:
        read_faq(jsonl(tmp_path / "f.jsonl", "x", {"question": "Q?"}, "y"))
    assert len(caught.value.issues) == 3
    twice = {"id": "a", "question": "Q?", "answer": "A"}
    with pytest.raises(BadInputs, match="stands twice"):
        read_faq(jsonl(tmp_path / "g.jsonl", twice, twice))


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00"])
def test_files_without_records_are_refused(tmp_path: Path, content: bytes) -> None:
    """An empty file and one that is no text are refused."""
    (tmp_path / "f.jsonl").write_bytes(content)
    with pytest.raises(BadInput):
        read_faq(tmp_path / "f.jsonl")


def test_a_router_needs_labels_with_examples(tmp_path: Path) -> None:
    """Two labels with five examples each at least; one text has one label."""
    rows = [{"text": f"{label} {number}", "label": label} for label in "ab" for number in range(5)]
    assert len(read_routes(jsonl(tmp_path / "r.jsonl", *rows, {"text": "soup", "label": None}))) == 11
    with pytest.raises(BadInputs, match="has 4 examples"):
        read_routes(jsonl(tmp_path / "r.jsonl", *rows[1:]))
    with pytest.raises(BadInputs, match="1 labels"):
        read_routes(jsonl(tmp_path / "r.jsonl", *rows[:5]))
    with pytest.raises(BadInputs, match="two labels"):
        read_routes(jsonl(tmp_path / "r.jsonl", *rows, {"text": "a 0", "label": "b"}))


def test_an_empty_label_in_csv_is_out_of_scope(tmp_path: Path) -> None:
    """CSV has no null: an empty cell, with or without a trailing comma, means what null means in JSONL."""
    rows = [f"{label} {number},{label}" for label in "ab" for number in range(5)]
    path = tmp_path / "r.csv"
    path.write_text("\n".join(["text,label", *rows, "soup,", "bread"]) + "\n")
    examples = read_routes(path)
    assert {example.text for example in examples if example.label is None} == {"soup", "bread"}


def test_documents_become_text(tmp_path: Path) -> None:
    """Markdown, HTML, text and CSV give title and visible text; scripts and markup do not show."""
    (tmp_path / "a.md").write_text("# Title\n\nSome *bold* words\nover two lines.\n")
    (tmp_path / "b.html").write_text("<title>T</title><script>evil()</script><h1>H</h1><p>Seen &amp; read.</p>")
    (tmp_path / "c.txt").write_text("Plain words.")
    (tmp_path / "d.csv").write_text("name,phone\nAda,123\n")
    found = {document.source: document for document in read_folder(tmp_path)}
    assert "Some bold words over two lines." in found["a.md"].text
    assert found["b.html"].title == "T"
    assert "Seen & read." in found["b.html"].text
    assert "evil" not in found["b.html"].text
    assert "Plain words." in found["c.txt"].text
    assert "123" in found["d.csv"].text


def test_every_bad_document_is_named(tmp_path: Path) -> None:
    """Foreign formats, links and damaged files are listed together, and nothing is taken."""
    (tmp_path / "good.md").write_text("# Fine\n\nFine.")
    (tmp_path / "bad.exe").write_bytes(b"MZ")
    (tmp_path / "link.md").symlink_to("/etc/passwd")
    with pytest.raises(BadInputs) as caught:
        read_folder(tmp_path)
    assert len(caught.value.issues) == 2
    for name in ("bad.exe", "link.md"):
        (tmp_path / name).unlink()
    (tmp_path / "torn.pdf").write_bytes(b"%PDF-1.7 torn")
    (tmp_path / "torn.docx").write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(BadInputs) as caught:
        read_folder(tmp_path)
    assert {issue.split()[0].rstrip(":") for issue in caught.value.issues} == {"torn.pdf", "torn.docx"}


def test_an_empty_folder_is_told(tmp_path: Path) -> None:
    """A profile that names an empty folder would build an empty collection in silence."""
    with pytest.raises(BadInput, match="no documents"):
        read_folder(tmp_path)
