"""Fits probabilities on few observations, starting from what other data taught."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from bundler.knowledge.logistic import Logistic

_LEAST_OF_EACH = 5
_STEPS = 50
_DIGITS, _STEP = 5, 1e-5
_FLAT = 1e-9  # a feature that does not vary says nothing


def fit_near(prior: Logistic, features: NDArray[np.float64], right: NDArray[np.bool_], strength: float) -> Logistic:
    """Fits a logistic model whose weights are drawn to those of `prior` (a Gaussian prior; Newton's method).

    Args:
        prior: Its weights, bias and threshold; returned as it is where there are too few observations of one kind.
        features: A row an observation.
        right: Whether it was right. Both kinds weigh the same in total.
        strength: Of the prior: the inverse variance of each weight around it.
    """
    if min(int(right.sum()), int((~right).sum())) < _LEAST_OF_EACH:
        return prior
    rows = np.column_stack([features, np.ones(len(features))])
    share = np.where(right, 0.5 / right.mean(), 0.5 / (~right).mean())
    start = np.array([*prior.weights, prior.bias])
    weights = start.copy()
    for _ in range(_STEPS):
        probability = 1 / (1 + np.exp(-np.clip(rows @ weights, -60, 60)))
        gradient = rows.T @ (share * (probability - right)) + strength * (weights - start)
        curvature = (rows * (share * probability * (1 - probability))[:, None]).T @ rows
        step = np.linalg.solve(curvature + strength * np.eye(len(weights)), gradient)
        weights = weights - step
        if np.abs(step).max() < 1e-8:
            break
    found = [round(float(weight), _DIGITS) for weight in weights]
    return Logistic(tuple(found[:-1]), found[-1], prior.threshold)


def fit_balanced(fallback: Logistic, features: NDArray[np.float64], right: NDArray[np.bool_]) -> Logistic:
    """Fits a logistic model on many observations, on features of any scale; both kinds weigh the same in total.

    Args:
        fallback: Returned as it is where there are too few observations of one kind.
        features: A row an observation.
        right: Whether it was right.
    """
    if min(int(right.sum()), int((~right).sum())) < _LEAST_OF_EACH:
        return fallback
    mean, spread = features.mean(axis=0), features.std(axis=0)
    spread[spread < _FLAT] = 1.0
    model = LogisticRegression(C=10.0, max_iter=2_000, class_weight="balanced").fit((features - mean) / spread, right)
    weights = model.coef_[0] / spread
    bias = float(model.intercept_[0] - weights @ mean)
    rounded = tuple(round(float(weight), _DIGITS) for weight in weights)
    return Logistic(rounded, round(bias, _DIGITS), fallback.threshold)


def threshold_between(model: Logistic, right: NDArray[np.float64], wrong: NDArray[np.float64]) -> float:
    """Returns the threshold of the best balanced accuracy; in the middle of the range where it is the same."""
    probabilities = [np.array([model.probability(row) for row in rows.tolist()]) for rows in (right, wrong)]
    options = np.unique(np.concatenate(probabilities)) + _STEP
    gains = np.array([(probabilities[0] >= option).mean() + (probabilities[1] < option).mean() for option in options])
    best = options[gains >= gains.max() - _STEP]
    return round(float(best[len(best) // 2]), _DIGITS)


def threshold_above(model: Logistic, wrong: NDArray[np.float64], share: float) -> float:
    """Returns the probability below which `share` of the wrong observations stay; the model's own if too few."""
    if round(len(wrong) * (1 - share), 6) < 1:
        return model.threshold
    found = float(np.quantile([model.probability(row) for row in wrong.tolist()], share, method="higher"))
    return round(found + _STEP, _DIGITS)
