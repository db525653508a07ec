"""The table of exit codes in the documentation and the one in the program are the same."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from bundler.format import errors
from bundler.terminal import EXIT_CODES, EXIT_FINDINGS, EXIT_INTERNAL, EXIT_INTERRUPTED, exit_code

COMMAND_LINE = 2  # click's own
WITHOUT_CLASS = {0, EXIT_INTERNAL, COMMAND_LINE, EXIT_FINDINGS, EXIT_INTERRUPTED}
ROW = re.compile(r"^\| (\d+) \| ?(\w*) \| (.+) \| ?(.*) \|$", re.MULTILINE)


@pytest.fixture
def documented(repo_root: Path) -> dict[int, str]:
    rows = ROW.findall((repo_root / "docs" / "exit-codes.md").read_text())
    return {int(code): name for code, name, _, _ in rows}


def test_the_document_lists_what_the_program_uses(documented: dict[int, str]) -> None:
    """Every class of the table stands in the document with its code, and nothing else does."""
    used = {code: kind.__name__ for kind, code in EXIT_CODES.items()}
    assert documented == dict.fromkeys(WITHOUT_CLASS, "") | used


def test_no_two_failures_share_a_code() -> None:
    """A code tells a script what happened; the codes of no class are never a class's as well."""
    codes = list(EXIT_CODES.values())
    assert len(codes) == len(set(codes))
    assert not WITHOUT_CLASS & set(codes)
    assert max(codes) < 64


def test_every_error_has_a_code_of_its_own_or_its_parent() -> None:
    """No failure that a person can act on ends with the code of an internal fault."""
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.LifeboatError)]
    missing = [kind.__name__ for kind in kinds if not any(parent in EXIT_CODES for parent in kind.__mro__)]
    assert missing == ["LifeboatError"]


def test_the_most_specific_class_decides() -> None:
    """A missing file is a bad bundle with a code of its own; a list of bad inputs is bad input."""
    assert exit_code(errors.FileMissing("x")) == EXIT_CODES[errors.FileMissing]
    assert exit_code(errors.BadInputs("profile", ("a", "b"))) == EXIT_CODES[errors.BadInput]
    assert exit_code(ValueError("x")) == EXIT_INTERNAL
