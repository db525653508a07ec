"""Fits the FAQ matcher by leaving wordings out: each is asked with its siblings there, and with its entry gone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bundler.fit.logistic import fit_near, threshold_above
from bundler.ingest.faq import FaqEntry
from bundler.knowledge.faq import FaqIndex
from bundler.knowledge.logistic import Logistic
from bundler.knowledge.reading import Vectors
from bundler.knowledge.types import FaqMatch

# What an FAQ starts from: fitted by `scripts/eval_knowledge --fit-faq`, but for the last weight: no set has such names.
PRIOR = Logistic((0.6, 5.4, 1.2, 3.3, -1.0, -0.6, -0.35, -1.5), -4.0, 0.5)
PRIOR_STRENGTH = 5.0
# The share of wordings that must be declined where their entry is gone; a user's near miss is such a wording.
DECLINED = 0.9
THRESHOLD_MIN, THRESHOLD_MAX = 0.5, 0.85
OBSERVED = 2_000  # wordings; more change the fit no longer and cost minutes


def fit_faq(entries: Sequence[FaqEntry], vectors: Vectors) -> Logistic:
    """Returns the fitted confidence of a matcher over these entries; `vectors` has a row a wording."""
    matches = [FaqMatch(entry.id, entry.question, entry.answer) for entry in entries]
    index = FaqIndex(matches, [entry.wordings for entry in entries], vectors)
    features, right = observe(index)
    if not len(features):
        return PRIOR
    model = fit_near(PRIOR, features, right, PRIOR_STRENGTH)
    threshold = threshold_above(model, features[~right], DECLINED)
    return Logistic(model.weights, model.bias, min(THRESHOLD_MAX, max(THRESHOLD_MIN, threshold)))


def observe(index: FaqIndex) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Returns features and whether the first entry was right, for each wording asked of the rest of the FAQ."""
    features, right = [], []
    step = max(1, len(index.texts) // OBSERVED)
    for row in range(0, len(index.texts), step):
        siblings = index.owners == index.owners[row]
        if siblings.sum() > 1:
            allowed = np.ones(len(index.texts), dtype=np.bool_)
            allowed[row] = False
            ranked = index.rank(index.texts[row], index.vectors[row], allowed)
            features.append(ranked.features)
            right.append(ranked.order[0] == index.owners[row])
        if not siblings.all():
            features.append(index.rank(index.texts[row], index.vectors[row], ~siblings).features)
            right.append(False)
    return np.array(features, dtype=np.float64), np.array(right, dtype=np.bool_)
