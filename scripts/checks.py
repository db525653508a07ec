"""What must hold before the tests run: format, lint, and strict types of the packages, the tests and the scripts."""

from __future__ import annotations

import re

from environment import ROOT

_PYTHON = re.compile(rb"#!.*\bpython3?\s")


def before_tests() -> list[tuple[str, tuple[str, ...]]]:
    """Returns each check by name, with the words after `python -m`."""
    return [
        ("format", ("ruff", "format", "--check", ".")),
        ("lint", ("ruff", "check", ".")),
        ("types", ("mypy",)),
        # A call of its own: mypy takes either the packages that pyproject.toml names or files.
        ("types of scripts", ("mypy", "--scripts-are-modules", *python_scripts())),
    ]


def python_scripts() -> list[str]:
    """Returns every Python file of scripts/, those without an ending too."""
    files = sorted(path for path in (ROOT / "scripts").iterdir() if path.is_file())
    return [str(path) for path in files if path.suffix == ".py" or _PYTHON.match(path.read_bytes())]
