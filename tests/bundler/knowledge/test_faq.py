"""The FAQ matcher where entries differ in one word, and the fit of its confidence."""

from __future__ import annotations

import numpy as np
import pytest

from bundler.fit.faq import PRIOR, fit_faq
from bundler.fit.logistic import fit_near, threshold_above
from bundler.ingest.faq import FaqEntry
from bundler.knowledge.encoder import Encoder
from bundler.knowledge.faq import FEATURES, FaqIndex
from bundler.knowledge.logistic import Logistic
from bundler.knowledge.types import FaqMatch

PAIRS = (
    ("on", "How do I turn on my automatic reply?", "Open Settings, Automatic replies, and choose Start."),
    ("off", "How do I turn off my automatic reply?", "Open Settings, Automatic replies, and choose Stop."),
    ("p1", "How fast is a P1 ticket answered?", "Within 15 minutes."),
    ("p3", "How fast is a P3 ticket answered?", "Within one working day."),
)


@pytest.fixture(scope="session")
def index(encoder: Encoder) -> FaqIndex:
    matches = [FaqMatch(name, question, answer) for name, question, answer in PAIRS]
    return FaqIndex(matches, [(question,) for _, question, _ in PAIRS], encoder.embed([row[1] for row in PAIRS]))


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("Switch the out of office reply off again, please", "off"),
        ("Can you switch my out of office reply on", "on"),
        ("what is the reaction time for P3", "p3"),
        ("what is the reaction time for P1", "p1"),
    ],
)
def test_one_word_decides_between_neighbours(index: FaqIndex, encoder: Encoder, question: str, expected: str) -> None:
    """Vectors hardly tell these entries apart; opposites and codes do."""
    ranked = index.rank(question, encoder.embed([question])[0])
    assert index.entries[ranked.order[0]].id == expected


def test_a_code_that_no_entry_has_speaks_against_the_best(index: FaqIndex, encoder: Encoder) -> None:
    """P7 is near P1 for a vector; it is a foreign number and an unknown name here."""
    question = "How fast is a P7 ticket answered?"
    found = dict(zip(FEATURES, index.rank(question, encoder.embed([question])[0]).features, strict=True))
    assert (found["foreign_number"], found["unknown_name"]) == (1.0, 1.0)


def test_a_small_faq_starts_from_the_prior(encoder: Encoder) -> None:
    """Without variants there is nothing to learn from."""
    entries = [FaqEntry(name, question, answer, ()) for name, question, answer in PAIRS[:2]]
    assert fit_faq(entries, encoder.embed([entry.question for entry in entries])) == PRIOR


def test_observations_pull_the_weights_away_from_the_prior() -> None:
    """A weak prior gives way to clear data, a strong one does not; the threshold holds back most wrong ones."""
    rng = np.random.default_rng(5)
    right = np.arange(200) % 2 == 0
    features = np.where(right, 0.8, 0.2)[:, None] + rng.normal(0, 0.1, (200, 1))
    prior = Logistic((0.0,), 0.0, 0.5)
    weak, strong = (fit_near(prior, features, right, strength) for strength in (0.1, 1e6))
    assert weak.weights[0] > 5
    assert abs(strong.weights[0]) < 0.01
    threshold = threshold_above(weak, features[~right], 0.9)
    passing = sum(weak.probability(tuple(row)) >= threshold for row in features[~right].tolist())
    assert passing <= 10
