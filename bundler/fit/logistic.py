"""Fits a probability and the threshold at which to answer."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from bundler.knowledge.logistic import Logistic

_LEAST_OF_EACH = 5


def fit_logistic(
    features: NDArray[np.float64], right: NDArray[np.bool_], fallback: Logistic, falsely_answered: float
) -> Logistic:
    """Fits the probability that an answer is right.

    Args:
        features: A row an observation.
        right: Whether the answer was right.
        fallback: What is used where there are too few observations of one kind.
        falsely_answered: The largest share of wrong answers that may pass the threshold.
    """
    if min(int(right.sum()), int((~right).sum())) < _LEAST_OF_EACH:
        return fallback
    model = LogisticRegression(C=10.0, max_iter=2_000, class_weight="balanced").fit(features, right)
    probabilities = model.predict_proba(features)[:, 1]
    threshold = _threshold(probabilities[right], probabilities[~right], falsely_answered)
    return Logistic(tuple(round(float(w), 6) for w in model.coef_[0]), round(float(model.intercept_[0]), 6), threshold)


def _threshold(right: NDArray[np.float64], wrong: NDArray[np.float64], falsely_answered: float) -> float:
    """Returns the threshold of the best balanced accuracy among those that keep the bound on wrong answers."""
    least = float(np.quantile(wrong, 1 - falsely_answered))
    options = np.unique(np.concatenate([[least], right[right >= least]]))
    gains = [(right >= option).mean() + (wrong < option).mean() for option in options]
    return round(float(options[int(np.argmax(gains))]), 6)
