"""The budgets of size and the names of files, as CONTRIBUTING.md states them, and every script's `--help`."""

from __future__ import annotations

import ast
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILE_LINES, TEST_FILE_LINES = 350, 500
FUNCTION_LINES, FUNCTION_LINES_MEDIAN = 45, 10
SAYS_NOTHING = {"utils", "util", "common", "helpers", "helper", "manager", "misc"}
SCRIPTS = sorted(path for path in (ROOT / "scripts").iterdir() if os.access(path, os.X_OK) and path.is_file())


def _files(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def _is_python(path: Path) -> bool:
    return path.suffix == ".py" or path.read_bytes().startswith(b"#!/usr/bin/env python3")


def _functions(source: str) -> list[tuple[str, int]]:
    """Returns each function with its lines, decorators and docstring not counted."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if ast.get_docstring(node) is not None:
                lines -= (node.body[0].end_lineno or 0) - node.body[0].lineno + 1
            found.append((f"{node.name}:{node.lineno}", lines))
    return found


def test_no_file_outgrows_its_room() -> None:
    """A file over the budget is to be split by what it knows."""
    programs = [*_files("bundler", "appliance"), *(path for path in SCRIPTS if _is_python(path)), *_files("scripts")]
    budgets = dict.fromkeys(programs, FILE_LINES) | dict.fromkeys(_files("tests"), TEST_FILE_LINES)
    assert len(budgets) > 50
    sizes = {path: path.read_text().count("\n") for path in budgets}
    assert {str(path): size for path, size in sizes.items() if size > budgets[path]} == {}


def test_no_function_is_long() -> None:
    """A function over the budget does more than one thing."""
    files = [*_files("bundler", "appliance", "tests"), *(path for path in SCRIPTS if _is_python(path))]
    long = {
        f"{path.relative_to(ROOT)}:{name}": lines
        for path in files
        for name, lines in _functions(path.read_text())
        if lines > FUNCTION_LINES
    }
    assert long == {}


@pytest.mark.parametrize("package", ["bundler", "appliance"])
def test_the_typical_function_is_short(package: str) -> None:
    """The median over a program stays within the budget."""
    lengths = [lines for path in _files(package) for _, lines in _functions(path.read_text())]
    assert statistics.median(lengths) <= FUNCTION_LINES_MEDIAN


def test_a_docstring_does_not_count() -> None:
    """The measure is of code: signature and body, without the docstring."""
    source = 'def f(x):\n    """One.\n\n    Two.\n    """\n    return x\n\n\nasync def g():\n    return 1\n'
    assert _functions(source) == [("f:1", 2), ("g:9", 2)]


def test_names_say_what_a_file_knows() -> None:
    """A name that says nothing collects everything."""
    files = _files("bundler", "appliance", "tests", "scripts")
    named = [path for path in files if SAYS_NOTHING & {path.stem, *path.relative_to(ROOT).parts[:-1]}]
    assert named == []


def test_test_files_have_unique_names() -> None:
    """Tests are imported by name without packages, so two files of one name would hide each other."""
    names = [path.name for path in _files("tests") if path.name.startswith("test_")]
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_every_script_explains_itself(script: Path) -> None:
    """A script answers --help, with the exit code 0 and words on stdout, and does nothing else."""
    # A Python script runs with this interpreter: some need the environment, none may need another one.
    words = [sys.executable, str(script)] if _is_python(script) else [str(script)]
    done = subprocess.run([*words, "--help"], capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout) > 40


def test_every_python_script_is_type_checked(load_script: Callable[[str], Any]) -> None:
    """`scripts/test` hands all of them to mypy, also those that only their first line tells."""
    (words,) = (words for name, words in load_script("checks").before_tests() if name == "types of scripts")
    expected = {*_files("scripts"), *(path for path in SCRIPTS if _is_python(path))}
    assert words[:2] == ("mypy", "--scripts-are-modules")
    assert set(words[2:]) == {str(path) for path in expected}
