"""What an examination finds: a subject, how it is, the fact, and the way out."""

from __future__ import annotations

from dataclasses import dataclass

GOOD, WARN, BAD = "good", "warn", "bad"


@dataclass(frozen=True)
class Finding:
    """One check: its subject, `good`, `warn` or `bad`, the fact, and the way out where one is needed."""

    subject: str
    state: str
    fact: str
    hint: str = ""
