"""Proofs beside the refusals: what the kernel saw, and which modules could parse foreign bytes at all."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# Libraries that parse bytes of others: native code, or formats in which bytes can do harm.
PARSERS = {
    "bs4", "docx", "gguf", "h5py", "joblib", "jinja2", "lxml", "markdown_it", "onnx", "onnxruntime", "pickle", "PIL",
    "pypdf", "safetensors", "shelve", "marshal", "tarfile", "tokenizers", "torch", "xml", "yaml", "zipfile",
}  # fmt: skip
# Each module that may import one of them, and why that is safe.
CONFINED = "runs in the confined child only"
ALLOWED = {
    "bundler.capture.bert_graph": CONFINED,
    "bundler.capture.calibrate": CONFINED,
    "bundler.capture.chat_template_child": CONFINED,
    "bundler.capture.onnx_embedding_child": CONFINED,
    "bundler.capture.onnx_rules": CONFINED,
    "bundler.capture.tokenizer": CONFINED,
    "bundler.embedding.child": CONFINED,
    "bundler.ingest.formats.docx": CONFINED,
    "bundler.ingest.formats.html": CONFINED,
    "bundler.ingest.formats.markdown": CONFINED,
    "bundler.ingest.formats.pdf": CONFINED,
    "bundler.knowledge.encoder": "runs on the box, and at the builder in the confined child",
    "bundler.capture.wheel_rules": CONFINED,
    "bundler.sources.tar_layer": CONFINED,
    "bundler.sources.wheel_archive": CONFINED,
}
PACKAGE = Path(__file__).resolve().parents[3] / "bundler"


def _imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Yields the top name of each import, and whether it stands inside a function."""
    tree = ast.parse(path.read_text())
    inside = {id(node) for item in ast.walk(tree) if isinstance(item, ast.FunctionDef) for node in ast.walk(item)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name.split(".")[0], id(node) in inside) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield (node.module or "").split(".")[0], id(node) in inside


def _module(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_parsers_of_foreign_bytes_are_imported_where_that_is_known_to_be_safe() -> None:
    """A new one has to be put on the list, with its reason; one that is gone has to leave it."""
    found = {_module(path) for path in PACKAGE.rglob("*.py") if {name for name, _ in _imports(path)} & PARSERS}
    assert found == set(ALLOWED)


def test_no_module_of_the_builder_reaches_a_parser_at_import() -> None:
    """What the command line loads for a build brings none of the confined modules along."""
    confined = [name for name, reason in ALLOWED.items() if reason == CONFINED and name not in _EAGER]
    check = (
        "import sys, bundler.build, bundler.gather, bundler.faq_check, bundler.inspection\n"
        f"print([name for name in {confined!r} if name in sys.modules])\n"
        "print([name for name in ('onnxruntime', 'tokenizers', 'onnx', 'pypdf', 'docx', 'bs4') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "[]"]


# These hold the parent's side too, and import the library inside the function that the child runs.
_EAGER = ("bundler.capture.tokenizer", "bundler.embedding.child")


def test_those_that_hold_both_sides_import_the_parser_in_the_child() -> None:
    """Inside a function, so that the parent never loads it."""
    for name in _EAGER:
        path = PACKAGE.parent.joinpath(*name.split(".")).with_suffix(".py")
        assert all(inside for top, inside in _imports(path) if top in PARSERS)


def test_the_kernel_sees_no_program_and_no_connection(tmp_path: Path, canary: Path, poison: bytes) -> None:
    """Every reader, over a pickle under its kind's name: no execve but our own children, no connect, no file made."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed: see scripts/debian-packages.txt")
    (tmp_path / "documents").mkdir()
    for name in ("m.gguf", "m.onnx", "tokenizer.json", *(f"documents/a.{kind}" for kind in ("pdf", "docx", "html"))):
        (tmp_path / name).write_bytes(poison)
    script = (
        "import sys\nfrom pathlib import Path\nfrom bundler.capture import gguf, onnx, tokenizer\n"
        "from bundler.ingest.readers import read_folder\nfrom bundler.format.errors import BadInput\n"
        "folder = Path(sys.argv[1])\n"
        "checks = [(gguf.inspect, 'm.gguf'), (onnx.check, 'm.onnx'), (tokenizer.check, 'tokenizer.json'),"
        " (read_folder, 'documents')]\n"
        "for check, name in checks:\n"
        "    try:\n        check(folder / name)\n    except BadInput:\n        print(name)\n"
    )
    log = tmp_path.parent / f"{tmp_path.name}.strace"
    words = ["strace", "-f", "-qq", "-s", "4096", "-e", "trace=execve,connect", "-o", str(log)]
    done = subprocess.run(
        [*words, sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=240, check=False
    )
    if done.returncode and "ptrace" in done.stderr:
        pytest.skip(f"strace may not trace here: {done.stderr.splitlines()[-1]}")
    assert done.stdout.split() == ["m.gguf", "m.onnx", "tokenizer.json", "documents"]
    seen = [line for line in log.read_text().splitlines() if " = 0" in line or "connect(" in line]
    calls = [line for line in seen if "/nscd/socket" not in line]  # the C library asks for the user's name there
    ours = [line for line in calls if "execve(" in line and ("-I" in line or script.split("\n", 1)[0] in line)]
    assert len(ours) >= 5
    assert calls == ours
    assert not canary.exists()
