"""What must never leave the box in a file for supporters, and how it is taken out. Pure.

Two walls. What goes in is chosen by name, and free text only where it has a form that we know. What is chosen then goes
through a `Redactor`, which takes out the values that this box holds and everything that looks like a secret.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

REMOVED = "[removed]"
_LEAST_CHARS = 4
_PATTERNS = tuple(
    re.compile(pattern)
    for pattern in (
        r"(?s)-----BEGIN [A-Z ]+-----.*?(?:-----END [A-Z ]+-----|\Z)",
        r"(?i)AGE-SECRET-KEY-[0-9A-Z-]+",
        r"\blb_[0-9A-Za-z]{8,}",
        r"(?i)\b(?:bearer|basic)\s+[^\s,;\"']+",
        r"(?i)\b(?:sk|pk|rk|gsk|xai|hf|ghp)[-_][^\s,;\"']{6,}",
        r"(?i)\b(?:api[_-]?key|key|token|secret|password|passphrase)\s?[=:]\s?[^\s,;\"']{4,}",
        r"(?i)\b(?:[0-9A-Z]{4}-){3}[0-9A-Z]{5}\b",  # a site code
        r"\b[\w.+-]+@[\w-]+\.[\w.-]+\b",
        r"(?<![\w/])(?!127\.|0\.0\.0\.0)\d{1,3}(?:\.\d{1,3}){3}(?![\w.])",
        r"\b[A-Za-z0-9+_=-]{41,}",  # without '/': a path is no secret
    )
)
_URL = re.compile(r"\b(https?)://[^\s'\"/<>]+[^\s'\"<>]*")
_LOOPBACK = re.compile(r"https?://(127\.0\.0\.1|localhost|\[::1\]|0\.0\.0\.0)(:\d+)?(?![\w.@:])")
_TALLY = re.compile(r"(faq|documents|refuse|route): \d+ of \d+ \(at least \d+ %\)( {2}FAILED)?")
_MODEL = re.compile(r"model [\w.-]+: (answers in \d+ ms|serves already|not tested)")
_DISK = re.compile(r"disk: \d+ MB as they were signed")
_FRAME = re.compile(r'\s*File "[^"\n]*", line \d+, in [\w<>.]+')
_RAISED = re.compile(r"[A-Za-z_][\w.]*(Error|Exception|Warning|Interrupt|Exit)\b")
_SAID = re.compile(
    r"(serving version \d|listening on |clients need |warning: |error: |hint: |rolled back |version \d"
    r"|lifeboat\.service: |(Started|Starting|Stopped|Stopping|Failed to start) )"
)
_OF_PERSONS = re.compile(r"version \d+ was |nightly look ")
_QUOTED = re.compile(r"(?<!\w)'[^'\n]*'|\"[^\"\n]*\"|(?<=: ).{200,}")


class Redactor:
    """Takes known values and everything that looks like a secret out of texts.

    Args:
        known: Values of this box: secrets, names of providers' hosts and keys, settings, texts of the bundle.
        guess: Whether to take out what looks like a secret, too; a version of a program may look like an address.
    """

    def __init__(self, known: Iterable[str], *, guess: bool = True) -> None:
        self._patterns = _PATTERNS if guess else ()
        lines = {part.strip() for value in known for part in (value, *value.splitlines())}
        self._known = sorted((value for value in lines if len(value) >= _LEAST_CHARS), key=len, reverse=True)

    def text(self, text: str) -> str:
        for value in self._known:
            text = text.replace(value, REMOVED)
        text = _URL.sub(lambda found: found[0] if _LOOPBACK.match(found[0]) else f"{found[1]}://{REMOVED}", text)
        for pattern in self._patterns:
            text = pattern.sub(REMOVED, text)
        return text

    def value(self, value: Any) -> Any:
        """As `text`, for every text of a JSON value, names included."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.text(str(name)): self.value(item) for name, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(item) for item in value]
        return value


def selftest_lines(lines: Iterable[str]) -> list[str]:
    """Returns what a self-test said without the questions and answers of the cases that failed."""
    return [_form(line, (_TALLY, _MODEL, _DISK)) for line in lines]


def journal_line(text: str) -> str:
    """Returns a line of the service's journal: whole, without what it quotes, where it is one that we write ourselves.

    Of a traceback stay the places and the class; of every other line its length.
    """
    if _FRAME.fullmatch(text):
        return text
    if (raised := _RAISED.match(text)) is not None:
        return f"{raised[0]} {_left_out(text[raised.end() :])}"
    if _SAID.match(text):
        return reason(text)
    return _left_out(text)


def reason(text: str) -> str:
    """Returns a reason of ours without what it quotes: names that a person gave, and texts."""
    return _QUOTED.sub("'...'", text.splitlines()[0] if text else "")


def verdict_line(text: str) -> str:
    """Returns a reason of `check`; of why a version was given up, and of a nightly look, only that it was and when."""
    head, mark, rest = text.partition(": ")
    return f"{head}: {_left_out(rest)}" if mark and _OF_PERSONS.match(head) else reason(text)


def _form(line: str, forms: Iterable[re.Pattern[str]]) -> str:
    found = next((match for form in forms if (match := form.match(line))), None)
    return _left_out(line) if found is None else found[0]


def _left_out(text: str) -> str:
    return f"[{len(text)} characters left out]" if text.strip() else ""
