"""Near misses: questions of the FAQ itself about another matter, and what they get."""

from __future__ import annotations

from bundler.fit.near_miss import MOST_QUESTIONS, OTHER_MATTERS, NearMiss, near_misses, told, tried
from bundler.knowledge.types import FaqMatch, FaqResult

QUESTIONS = [
    ("reset", "How do I reset my password?"),
    ("hours", "What are your opening hours?"),
    ("bare", "Help!"),
]


def test_the_matter_is_another_one() -> None:
    """The sentence stays; a question that is nothing but its matter gives none."""
    found = near_misses(QUESTIONS)
    assert found == [
        NearMiss("reset", "How do I reset my dishwasher?"),
        NearMiss("hours", "What are your opening parking permit?"),
    ]


def test_the_rarest_word_is_the_matter() -> None:
    """What several entries speak of is how they ask."""
    found = near_misses([("a", "Reset printer toner"), ("b", "Reset printer paper"), ("c", "Reset scanner paper")])
    assert found[0].text == "Reset printer dishwasher"


def test_matters_of_the_faq_itself_are_not_foreign() -> None:
    """An FAQ of a kitchen knows dishwashers; one that knows all of them gives no near miss."""
    kitchen = near_misses([*QUESTIONS, ("d", "The dishwasher leaks water")])
    assert all("dishwasher" not in miss.text for miss in kitchen if miss.entry != "d")
    assert near_misses([*QUESTIONS, ("all", " ".join(OTHER_MATTERS))]) == []


def test_a_long_faq_is_sampled() -> None:
    """The check stays cheap."""
    many = [(str(number), f"How do I open locker {chr(97 + number % 26)}bc{number}?") for number in range(1000)]
    assert len(near_misses(many)) <= MOST_QUESTIONS + 1


def test_answers_are_wrong_and_told() -> None:
    """How many, and the first of them with the entry that answered; nothing where none was."""

    def ask(text: str) -> FaqResult:
        return FaqResult(FaqMatch("reset", "q", "a") if "reset" in text else None, 0.9, ())

    found = tried(near_misses(QUESTIONS), ask)
    assert (found.asked, len(found.wrong)) == (2, 1)
    assert told(found, "FAQ helpdesk") == [
        "FAQ helpdesk: 1 of 2 near misses (its own questions, about another matter) get an answer, which must be wrong",
        "FAQ helpdesk: 'How do I reset my dishwasher?' is answered with reset",
    ]
    assert told(tried([], ask), "x") == []
