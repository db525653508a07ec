"""Questions that an FAQ almost answers: its own, with the word that they are about replaced by another matter. Pure.

Whoever asks them must not get the entry's answer. They show, without a self-test, what a small FAQ does with questions
that it does not know; they are no measure of how often users ask such.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bundler.knowledge.types import FaqResult
from bundler.knowledge.words import STOPWORDS, plain_stems

# Matters of an office that fit nearly any sentence; those that the FAQ itself speaks of are left out.
OTHER_MATTERS = ("dishwasher", "parking permit", "company car", "gym membership", "wedding", "lawnmower")
MOST_QUESTIONS = 200
_WORD = re.compile(r"[^\W\d_]{3,}")


@dataclass(frozen=True)
class NearMiss:
    """A question that none of the entries answers, and the entry that it was made from."""

    entry: str
    text: str


@dataclass(frozen=True)
class NearMisses:
    """How many were asked, and those that got an answer, with the entry that answered."""

    asked: int
    wrong: tuple[tuple[NearMiss, str], ...]


def near_misses(questions: Sequence[tuple[str, str]]) -> list[NearMiss]:
    """Returns near misses of (entry id, question): the same sentence about something that the FAQ does not speak of."""
    known = Counter(stem for _, text in questions for stem in set(plain_stems(text)))
    matters = [matter for matter in OTHER_MATTERS if not known.keys() & set(plain_stems(matter))]
    step = max(1, len(questions) // MOST_QUESTIONS)
    found = []
    for number, (entry, text) in enumerate(questions[::step]):
        subject = _subject(text, known)
        if subject is not None and matters:
            matter = matters[number % len(matters)]
            found.append(NearMiss(entry, text[: subject.start()] + matter + text[subject.end() :]))
    return found


def tried(misses: Sequence[NearMiss], ask: Callable[[str], FaqResult]) -> NearMisses:
    """Asks each."""
    answers = [(miss, ask(miss.text).match) for miss in misses]
    return NearMisses(len(misses), tuple((miss, match.id) for miss, match in answers if match is not None))


def told(found: NearMisses, name: str, shown: int = 3) -> list[str]:
    """Returns a line on the whole and one for each of the first wrong answers; nothing where none is wrong."""
    if not found.wrong:
        return []
    asked = "near misses (its own questions, about another matter)"
    first = f"{name}: {len(found.wrong)} of {found.asked} {asked} get an answer, which must be wrong"
    return [first, *(f"{name}: {miss.text!r} is answered with {answer}" for miss, answer in found.wrong[:shown])]


def _subject(text: str, known: Counter[str]) -> re.Match[str] | None:
    """The word that a question is about: the rarest in the FAQ that says more than how it is asked."""
    words = [word for word in _WORD.finditer(text) if word[0].casefold() not in STOPWORDS]
    if len(words) < 2:  # nothing of the sentence would be left
        return None
    return min(words, key=lambda word: (min((known[stem] for stem in plain_stems(word[0])), default=0), -word.start()))
