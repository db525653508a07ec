"""A year of edits of a customer's FAQ, documents and model, drawn by a seed: what a helpdesk changes in a week."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from random_gguf import SMALL, write

QUIET_WEEKS = (6, 16, 22, 31, 34, 45, 52)  # nobody changes anything
MODEL_WEEKS = (19, 41)
MODEL_BYTES = 48_000_000
_SENTENCES = (
    "Since this {month} the front desk has the form, too.",
    "Ask for ticket group {number} where it is urgent.",
    "The limit is {number} a day for each person.",
    "In the Cardiff studio, room {number} is open until half past six.",
)
_MONTHS = ("January", "March", "May", "July", "September", "November")
_TOPICS = ("badge printer", "guest screen", "attic plotter", "bike store lock", "shared calendar", "model scanner")


@dataclass(frozen=True)
class Edit:
    """What a week changed, in words, and the bytes of text or weights that are new."""

    words: str
    new_bytes: int


class Edits:
    """Changes `faq.jsonl`, `documents/` and `chat.gguf` under a folder.

    Args:
        folder: Where they lie.
        like: A GGUF whose tokenizer the models take.
        seed: The same gives the same year.
    """

    def __init__(self, folder: Path, like: Path, seed: int) -> None:
        self._folder, self._like, self._drawn = folder, like, random.Random(seed)
        self._faq = folder / "faq.jsonl"
        self.model(0)

    def week(self, number: int) -> Edit:
        """Changes what week 2, 3, ... changes."""
        if number in QUIET_WEEKS:
            return Edit("nothing", 0)
        edits = [self._edit_faq()]
        if number % 4 == 0:
            edits.append(self._edit_document(fresh=number % 12 == 0))
        if number in MODEL_WEEKS:
            edits.append(self.model(number))
        return Edit(", ".join(edit.words for edit in edits), sum(edit.new_bytes for edit in edits))

    def model(self, seed: int) -> Edit:
        """Puts another model in place of the one that was."""
        write(self._like, self._folder / "chat.gguf", MODEL_BYTES, SMALL, seed)
        return Edit("another model", (self._folder / "chat.gguf").stat().st_size)

    def _edit_faq(self) -> Edit:
        entries = [json.loads(line) for line in self._faq.read_text().splitlines() if line.strip()]
        before = {json.dumps(entry) for entry in entries}
        kind = self._drawn.choice(("answer", "answer", "answer", "new", "variant", "gone"))
        kinds = {"answer": self._answers, "new": self._new, "variant": self._variant, "gone": self._gone}
        changed = kinds[kind](entries)
        lines = [json.dumps(entry) for entry in entries]
        self._faq.write_text("".join(f"{line}\n" for line in lines))
        return Edit(changed, sum(len(line) for line in lines if line not in before))

    def _answers(self, entries: list[dict[str, Any]]) -> str:
        chosen = self._drawn.sample(entries, self._drawn.randint(1, 3))
        for entry in chosen:
            entry["answer"] += f" {self._sentence()}"
        return f"{len(chosen)} FAQ answers"

    def _new(self, entries: list[dict[str, Any]]) -> str:
        topic, number = self._drawn.choice(_TOPICS), self._drawn.randint(100, 999)
        question = f"Who looks after the {topic} with the number {number}?"
        entries.append({"id": f"new-{number}-{len(entries)}", "question": question, "answer": self._sentence()})
        return "a new FAQ entry"

    def _variant(self, entries: list[dict[str, Any]]) -> str:
        entry = self._drawn.choice(entries)
        wording = f"{entry['question'].rstrip('?').lower()} {self._drawn.choice(_MONTHS)}"
        entry.setdefault("variants", []).append(wording)
        return "a new wording"

    def _gone(self, entries: list[dict[str, Any]]) -> str:
        entries.remove(self._drawn.choice(entries))
        return "an FAQ entry gone"

    def _edit_document(self, *, fresh: bool) -> Edit:
        folder, text = self._folder / "documents", " ".join(self._sentence() for _ in range(self._drawn.randint(3, 9)))
        if fresh:
            number = self._drawn.randint(100, 999)
            page = f"# Notice {number}\n\n" + "\n\n".join(f"## Part {part}\n\n{text}" for part in range(1, 6)) + "\n"
            (folder / f"notice-{number}.md").write_text(page)
            return Edit("a new document", len(page))
        path = self._drawn.choice(sorted(folder.glob("*.md")))
        parts = path.read_text().split("\n\n")
        parts.insert(self._drawn.randint(2, len(parts)), text)
        path.write_text("\n\n".join(parts))
        return Edit("a paragraph in a document", len(text))

    def _sentence(self) -> str:
        drawn = self._drawn
        return drawn.choice(_SENTENCES).format(month=drawn.choice(_MONTHS), number=drawn.randint(2, 99))
