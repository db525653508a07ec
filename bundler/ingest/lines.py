"""JSONL and CSV files of small records, strictly: every line that is wrong is named, all at once."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from bundler.files import read_limited
from bundler.format import strict_json
from bundler.format.errors import BadBundle, BadInput, BadInputs
from bundler.format.limits import MIB

T = TypeVar("T")
FILE_BYTES_MAX = 256 * MIB
_NAMED_LINES = 3


def read_records(path: Path, make: Callable[[Mapping[str, Any], int], T]) -> list[T]:
    """Reads a `.jsonl` or `.csv` file.

    Args:
        path: The file.
        make: Makes a record of a row and its line number; raises ValueError with what is wrong.

    Raises:
        BadInput: Not a file, or not readable as UTF-8 text.
        BadInputs: Lines that are not records; all of them, and what is wrong with many is told once.
    """
    try:
        text = read_limited(path, FILE_BYTES_MAX).decode("utf-8-sig")
    except BadBundle as error:  # the file layer's word for a link, a folder and a file that is too long
        raise BadInput(error.fact, "name a .jsonl or .csv file itself") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"{path.name} is not UTF-8 text: {error}", "save it as UTF-8") from error
    issues: list[str] = []
    wrong: dict[str, list[int]] = {}
    records = []
    for number, row in _rows(path, text, issues):
        try:
            records.append(make(row, number))
        except ValueError as error:
            wrong.setdefault(str(error), []).append(number)
    issues += [f"{_lines(numbers)}: {told}" for told, numbers in wrong.items()]
    if not records and not issues:
        issues.append("it holds no records")
    if issues:
        raise BadInputs(path.name, tuple(issues))
    return records


def text_of(row: Mapping[str, Any], key: str, most_chars: int = 20_000) -> str:
    """Returns a non-empty text of a row; raises ValueError."""
    value = row.get(key)
    if value == "" or (isinstance(value, str) and value.isspace()):
        raise ValueError(f"{key} is empty")
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{key} must be text")
    if len(value) > most_chars:
        raise ValueError(f"{key} is longer than {most_chars} characters")
    return " ".join(value.split()) if key != "answer" else value.strip()


def refuse_unknown(row: Mapping[str, Any], known: set[str]) -> None:
    """Raises ValueError for a key that nobody reads: a misspelt one must not be lost in silence."""
    unknown = sorted(str(key) for key in row.keys() - known)
    if unknown:
        hint = "; columns are separated by commas" if any(";" in key for key in unknown) else ""
        raise ValueError(f"{', '.join(unknown)} is not known (known: {', '.join(sorted(known))}{hint})")


def _lines(numbers: list[int]) -> str:
    """Names lines: a wrong column of a CSV is wrong in each, and must not bury what else is."""
    if len(numbers) == 1:
        return f"line {numbers[0]}"
    first, rest = numbers[:_NAMED_LINES], len(numbers) - _NAMED_LINES
    named = ", ".join(map(str, first))
    return f"lines {named} and {rest} more" if rest > 0 else f"lines {named}"


def _rows(path: Path, text: str, issues: list[str]) -> list[tuple[int, Mapping[str, Any]]]:
    if path.suffix.lower() not in (".csv", ".jsonl"):
        issues.append("only .jsonl and .csv are read here")
        return []
    if path.suffix.lower() == ".csv":
        try:
            return [(n, row) for n, row in enumerate(csv.DictReader(io.StringIO(text, newline=""), strict=True), 2)]
        except csv.Error as error:
            issues.append(f"not CSV: {error}")
            return []
    rows: list[tuple[int, Mapping[str, Any]]] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = strict_json.parse(line.encode())
        except ValueError as error:
            issues.append(f"line {number}: not JSON: {error}")
            continue
        if isinstance(row, dict):
            rows.append((number, row))
        else:
            issues.append(f"line {number}: not an object")
    return rows
