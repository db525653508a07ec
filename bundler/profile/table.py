"""A TOML table that is read key by key, with every issue noted instead of the first one raised."""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import Any

_UNIT_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_DURATION = re.compile(r"([0-9]{1,9})([smhd])")
_ABSENT = object()
_NEAR = 0.8  # of difflib: two letters of seven that differ, or fewer; "name" is not "title"
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


class Table:
    """Reads typed values out of a table and notes what is wrong, missing or not known.

    Args:
        value: What the TOML parser returned at this place.
        where: Names the place in issues, such as "[[model]] 2".
        issues: Collects one line an issue.
    """

    def __init__(self, value: object, where: str, issues: list[str]) -> None:
        self._values: dict[str, Any] = dict(value) if isinstance(value, dict) else {}
        self._where, self._issues = where, issues
        self._written = frozenset(self._values)
        self._asked: set[str] = set()
        self._missing: set[str] = set()
        if not isinstance(value, dict):
            self.issue("must be a table")

    def issue(self, text: str) -> None:
        self._issues.append(self._line(text))

    def _line(self, text: str) -> str:
        return f"{self._where}: {text}"

    def text(self, key: str, default: str | None = None) -> str:
        value = self._take(key, default)
        if value is _ABSENT:
            return ""
        if not isinstance(value, str) or (default is None and not value.strip()):
            self.issue(f"{key} must be text, found {value!r}")
            return ""
        return value

    def name(self, key: str = "name") -> str:
        value = self.text(key)
        if value and not NAME.fullmatch(value):
            self.issue(f"{key} {value!r} may hold lower-case letters, digits, '.', '_' and '-' only, 64 at most")
        return value

    def choice(self, key: str, choices: tuple[str, ...], default: str | None = None) -> str:
        value = self.text(key, default)
        if value and value not in choices:
            self.issue(f"{key} is {value!r}, expected one of {', '.join(choices)}")
        return value

    def flag(self, key: str, *, default: bool = False) -> bool:
        value = self._take(key, default)
        if not isinstance(value, bool):
            self.issue(f"{key} is not true or false")
            return default
        return value

    def integer(self, key: str, default: int, least: int, most: int) -> int:
        value = self._take(key, default)
        if type(value) is not int or not least <= value <= most:
            self.issue(f"{key} must be a whole number from {least} to {most}, found {value!r}")
            return default
        return value

    def duration(self, key: str, default: str, least_s: int, most_s: int) -> int:
        """Returns seconds of a text such as "90s", "10m", "24h" or "30d"."""
        text = self.text(key, default)
        found = _DURATION.fullmatch(text)
        seconds = int(found[1]) * _UNIT_S[found[2]] if found else -1
        if not least_s <= seconds <= most_s:
            self.issue(f"{key} must be a time from {_in_words(least_s)} to {_in_words(most_s)}, found {text!r}")
            return least_s
        return seconds

    def texts(self, key: str, default: list[str] | None = None) -> tuple[str, ...]:
        value = self._take(key, default)
        if value is _ABSENT:
            return ()
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            self.issue(f"{key} must be a list of texts, found {value!r}")
            return ()
        return tuple(value)

    def table(self, key: str) -> Table:
        """Returns a sub-table; an absent one is empty."""
        return Table(self._take(key, {}), f"[{key}]", self._issues)

    def inner(self, key: str) -> Table:
        """Returns the table of a key of this table."""
        return Table(self._take(key, {}), f"{self._where} {key}", self._issues)

    def value(self, key: str) -> object:
        """Returns what is written at a key, whatever it is; None where nothing is."""
        self._asked.add(key)
        return self._values.pop(key, None)

    def has(self, key: str) -> bool:
        self._asked.add(key)
        return key in self._values

    def tables(self, key: str) -> list[Table]:
        """Returns the tables of an array `[[key]]`; an absent one is empty."""
        value = self._take(key, [])
        if not isinstance(value, list):
            self.issue(f"{key} must be written as [[{key}]]")
            return []
        return [Table(item, f"[[{key}]] {number}", self._issues) for number, item in enumerate(value, 1)]

    def close(self) -> None:
        """Notes every key that nobody asked for: a misspelt key must not be ignored in silence.

        One that is near to a missing key is told with it, in one line. A key that is written is not what is meant.
        """
        for key in self._values:
            meant = self._meant(key)
            if meant in self._missing:
                self._missing.remove(meant)
                self._issues.remove(self._line(f"{meant} is missing"))
            self.issue(f"{key} is not known: write {meant}" if meant else f"{key} is not known")

    def _meant(self, key: str) -> str:
        for names in (self._missing, self._asked - self._written):
            if near := get_close_matches(key, sorted(names), 1, _NEAR):
                return near[0]
        return ""

    def _take(self, key: str, default: object) -> object:
        self._asked.add(key)
        if key not in self._values and default is None:
            self._missing.add(key)
            self.issue(f"{key} is missing")
            return _ABSENT
        return self._values.pop(key, default)


def _in_words(seconds: int) -> str:
    unit = next(name for name in "dhms" if seconds % _UNIT_S[name] == 0)
    return f"{seconds // _UNIT_S[unit]}{unit}"
