"""Documents, content and profiles that bite: bombs, entities, scripts, links, nesting."""

from __future__ import annotations

import io
import json
import os
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from bundler.format.errors import BadInput
from bundler.ingest.faq import read_faq
from bundler.ingest.readers import read_folder
from bundler.ingest.routes import read_routes
from bundler.profile.read import read_profile

Refused = Callable[..., str]
NAMESPACE = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
PACKAGE = "http://schemas.openxmlformats.org/package/2006"
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
MAIN = "application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"


def docx(body: str, doctype: str = "", extra: dict[str, bytes] | None = None) -> bytes:
    """A Word document of one part; `doctype` stands before it."""
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{PACKAGE}/content-types"><Default Extension="rels" ContentType='
        f'"application/vnd.openxmlformats-package.relationships+xml"/><Override PartName="/word/document.xml" '
        f'ContentType="{MAIN}"/></Types>',
        "_rels/.rels": f'<Relationships xmlns="{PACKAGE}/relationships"><Relationship Id="r1" Type='
        f'"{OFFICE}/officeDocument" Target="word/document.xml"/></Relationships>',
        "word/document.xml": f'<?xml version="1.0"?>{doctype}<w:document xmlns:w="{NAMESPACE}"><w:body><w:p><w:r><w:t>'
        f"{body}</w:t></w:r></w:p></w:body></w:document>",
    }
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in {**{key: value.encode() for key, value in parts.items()}, **(extra or {})}.items():
            archive.writestr(name, data)
    return out.getvalue()


def laughs() -> str:
    lines = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10))
    return f'<!DOCTYPE w [<!ENTITY a0 "ha">{lines}]>'


def pdf(*objects: bytes, trailer: bytes = b"/Root 1 0 R") -> bytes:
    """A PDF of these objects, numbered from 1."""
    out, places = bytearray(b"%PDF-1.7\n"), []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % place for place in places)
    return bytes(out + b"trailer\n<< /Size %d %s >>\nstartxref\n%d\n%%%%EOF" % (len(objects) + 1, trailer, table))


def stream(data: bytes, head: bytes = b"") -> bytes:
    return b"<< /Length %d %s >>\nstream\n%s\nendstream" % (len(data), head, data)


FONT = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"
WORDS = stream(b"BT /F1 12 Tf 72 720 Td (Only these words.) Tj ET")


def page(number: int = 2, content: bytes = b"4 0 R") -> bytes:
    return (
        b"<< /Type /Page /Parent %d 0 R /MediaBox [0 0 612 792] /Contents %s "
        b"/Resources << /Font << /F1 5 0 R >> >> >>" % (number, content)
    )


def sheet(
    catalog: bytes = b"", pages: bytes = b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>", words: bytes = WORDS
) -> bytes:
    return pdf(b"<< /Type /Catalog /Pages 2 0 R %s >>" % catalog, pages, page(), words, FONT)


def bomb(layers: int) -> bytes:
    data = b" " * 10**7
    for _ in range(layers):
        data = zlib.compress(data, 9)
    filters = b"/Filter [%s]" % (b" /FlateDecode" * layers)
    return stream(data, filters)


REFUSED: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "docx: a bomb": ("a.docx", lambda: docx("x", extra={"word/media/a.bin": b"\0" * (900 << 20)}), "."),
    "docx: a document of 400 MB": ("a.docx", lambda: docx("x " * (200 << 20)), "."),
    "docx: an archive of something else": ("a.docx", lambda: zipped({"a.txt": b"x"}), "cannot be read"),
    "docx: a pickle": ("a.docx", lambda: b"\x80\x04N.", "cannot be read"),
    "docx: laughs by the billion": ("a.docx", lambda: docx("&a9;", laughs()), "."),
    "pdf: encrypted": ("a.pdf", lambda: encrypted(), "encrypted|password"),
    "pdf: pages that hold themselves": (
        "a.pdf", lambda: sheet(pages=b"<< /Type /Pages /Kids [2 0 R 2 0 R] /Count 9 >>"), "."
    ),
    "pdf: a stream of 10 GB in 3 layers": ("a.pdf", lambda: sheet(words=bomb(3)), "."),
    "pdf: 10^9 pages": ("a.pdf", lambda: sheet(pages=b"<< /Type /Pages /Kids [] /Count 1000000000 >>"), "."),
    "html: 100 000 tags deep": ("a.html", lambda: b"<div>" * 100_000 + b"x", "."),
    "md: quotes 100 000 deep": ("a.md", lambda: b">" * 100_000 + b" x", "."),
    "csv: a field of 100 MB": ("a.csv", lambda: b"a,b\n" + b"x" * (100 << 20) + b",y\n", "."),
    "txt: not text": ("a.txt", lambda: bytes(range(256)) * 10, "."),
    "an unknown kind": ("a.exe", lambda: b"MZ", "is not a document"),
    "a macro document": ("a.docm", lambda: docx("x"), "is not a document"),
    "nothing": ("a.md", lambda: b"", "no text"),
}  # fmt: skip


def zipped(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return out.getvalue()


def encrypted() -> bytes:
    from pypdf import PdfReader, PdfWriter

    writer = PdfWriter(PdfReader(io.BytesIO(sheet())))
    writer.encrypt("secret")
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "documents").mkdir()
    return tmp_path / "documents"


@pytest.mark.timeout(250)
@pytest.mark.parametrize("name", REFUSED)
def test_a_document_that_bites_is_refused(folder: Path, refused: Refused, name: str) -> None:
    """Named, with the reason; the folder is refused with it."""
    file, make, words = REFUSED[name]
    (folder / file).write_bytes(make())
    assert file in refused(lambda: read_folder(folder), words)


HARMLESS: dict[str, tuple[str, Callable[[Path], bytes], str]] = {
    "html: scripts, frames, forms and what is hidden": (
        "a.html",
        lambda canary: (
            f"<script>fetch('http://evil.example')</script><iframe src='file:///etc/passwd'></iframe>"
            f"<style>x</style><p onclick='evil()'>Only these words.</p><p hidden>Not these {canary}.</p>".encode()
        ),
        "Only these words.",
    ),
    "docx: a file named as an entity": (
        "a.docx",
        lambda canary: docx(
            "Only these words.&x;", f'<!DOCTYPE w [<!ENTITY x SYSTEM "file://{canary.parent}/secret">]>'
        ),
        "Only these words.",
    ),
    "pdf: JavaScript at the opening": (
        "a.pdf",
        lambda canary: sheet(b"/OpenAction << /S /JavaScript /JS (app.launchURL\\('http://evil'\\)) >>"),
        "Only these words.",
    ),
    "pdf: a program to launch": (
        "a.pdf",
        lambda canary: sheet(b"/OpenAction << /S /Launch /F (/bin/touch %s) >>" % str(canary).encode()),
        "Only these words.",
    ),
    "csv: a formula": ("a.csv", lambda _: b"name,sum\nAda,=cmd|' /C calc'!A0\n", "name: Ada; sum: =cmd|' /C calc'!A0"),
    "md: a script in a text": (
        "a.md",
        lambda _: b"Only these words.\n\n<script>evil()</script>\n",
        "Only these words.",
    ),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_what_is_left_of_a_harmless_one(folder: Path, canary: Path, name: str) -> None:
    """The words that a reader sees, and nothing of what would run or be fetched."""
    file, make, words = HARMLESS[name]
    (folder.parent / "secret").write_text("SECRET")
    (folder / file).write_bytes(make(canary))
    (document,) = read_folder(folder)
    assert document.text == words
    assert not canary.exists()


@pytest.mark.parametrize("kind", ["link", "fifo", "device", "unreadable", "control"])
def test_what_is_no_document_file_is_refused(folder: Path, refused: Refused, kind: str) -> None:
    """Links would take files of the builder along; a pipe would hang it; control characters steer terminals."""
    (folder.parent / "secret.md").write_text("SECRET")
    if kind == "link":
        (folder / "a.md").symlink_to(folder.parent / "secret.md")
    elif kind == "fifo":
        os.mkfifo(folder / "a.md")
    elif kind == "device":
        os.mknod(folder / "a.md", 0o600 | 0o020000, os.makedev(1, 5))
    elif kind == "control":
        (folder / "a\x1b[2J\n.md").write_text("Words.")
    else:
        (folder / "a.md").write_bytes(b"x")
        os.truncate(folder / "a.md", 1 << 40)  # a hole of a terabyte, which costs nothing to send
    fact = refused(lambda: read_folder(folder), ".")
    assert "\x1b" not in fact


def test_a_folder_that_is_a_link_is_followed_nowhere(folder: Path, refused: Refused) -> None:
    """A link to a folder inside is refused by its name, beside documents, too: nothing is left out in silence."""
    (folder / "a.md").write_text("# Hours\n\nThe office is open from 8 to 17.\n")
    (folder / "elsewhere").symlink_to("/etc")
    refused(lambda: read_folder(folder), "elsewhere is a link")


ROWS: dict[str, tuple[str, bytes]] = {
    "nested 100 000 deep": ("f.jsonl", b'{"question":' + b"[" * 100_000 + b"]" * 100_000 + b"}\n"),
    "a number of a million digits": ("f.jsonl", b'{"question": 1' + b"0" * 10**6 + b"}\n"),
    "a question of 10 MB": ("f.jsonl", json.dumps({"question": "x" * 10**7, "answer": "a"}).encode()),
    "a field of 10 MB": ("f.csv", b"question,answer\n" + b"x" * 10**7 + b",a\n"),
    "a pickle": ("f.jsonl", b"\x80\x04N."),
    "a quote without end": ("f.csv", b'question,answer\n"x,a\n' * 10),
}


@pytest.mark.parametrize("name", ROWS)
def test_rows_that_bite_are_refused(tmp_path: Path, refused: Refused, name: str) -> None:
    """FAQ and routes are read by the same strict reader."""
    file, data = ROWS[name]
    (tmp_path / file).write_bytes(data)
    refused(lambda: read_faq(tmp_path / file), ".")
    refused(lambda: read_routes(tmp_path / file), ".")


PROFILES: dict[str, tuple[bytes, str]] = {
    "longer than a profile is": (b"# " + b"x" * 10**7, "longer"),
    "nested 100 000 deep": (b"a = " + b"[" * 100_000 + b"]" * 100_000, "TOML|nest"),
    "tables 5 000 deep": (b"[" + b".".join([b"a"] * 5000) + b"]\n", "."),
    "a pickle": (b"\x80\x04N.", "not TOML"),
    "a number of a million digits": (b"a = 1" + b"0" * 900_000, "."),
    "a source that leaves its archive": (
        b'[bundle]\nname="a"\ntitle="b"\n[embedding]\nname="e"\nlicence="MIT"\nsource="file:m/"\nonnx="../../x.onnx"\n',
        "onnx is",
    ),
}


@pytest.mark.parametrize("name", PROFILES)
def test_profiles_that_bite_are_refused(tmp_path: Path, refused: Refused, name: str) -> None:
    """A profile is the operator's own, and may have come by mail."""
    data, words = PROFILES[name]
    (tmp_path / "p.toml").write_bytes(data)
    refused(lambda: read_profile(tmp_path / "p.toml"), words)


def test_the_base_of_the_tricks_is_good(folder: Path) -> None:
    """What is refused above is refused for the trick."""
    (folder / "a.docx").write_bytes(docx("Only these words."))
    (folder / "b.pdf").write_bytes(sheet())
    assert [document.text for document in read_folder(folder)] == ["Only these words."] * 2
    with pytest.raises(BadInput):
        read_folder(folder.parent / "nowhere")
