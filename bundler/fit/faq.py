"""Fits the FAQ matcher by leaving wordings out: each is asked with its siblings there, and with its entry gone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bundler.fit.logistic import fit_logistic
from bundler.ingest.faq import FaqEntry
from bundler.knowledge.encoder import Vectors
from bundler.knowledge.faq import FaqIndex
from bundler.knowledge.logistic import Logistic
from bundler.knowledge.types import FaqMatch

# For FAQs too small to fit: fitted once on the demo's, see docs/benchmarks.md.
FALLBACK = Logistic((6.0, 4.0, 5.0, 3.0, -2.0, -0.5), -7.0, 0.5)
FALSELY_ANSWERED = 0.3


def fit_faq(entries: Sequence[FaqEntry], vectors: Vectors) -> Logistic:
    """Returns the fitted confidence of a matcher over these entries; `vectors` has a row a wording."""
    matches = [FaqMatch(entry.id, entry.question, entry.answer) for entry in entries]
    index = FaqIndex(matches, [entry.wordings for entry in entries], vectors)
    features, right = [], []
    for row, (text, owner) in enumerate(zip(index.texts, index.owners, strict=True)):
        siblings = index.owners == owner
        if siblings.sum() > 1:
            allowed = np.ones(len(index.texts), dtype=np.bool_)
            allowed[row] = False
            ranked = index.rank(text, vectors[row], allowed)
            features.append(ranked.features)
            right.append(ranked.order[0] == owner)
        if not siblings.all():
            features.append(index.rank(text, vectors[row], ~siblings).features)
            right.append(False)
    return fit_logistic(np.array(features), np.array(right, dtype=np.bool_), FALLBACK, FALSELY_ANSWERED)
