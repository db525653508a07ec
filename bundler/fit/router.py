"""Fits the router's head, and by cross-validation its judgement of what is out of scope."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold

from bundler.fit.logistic import fit_balanced, threshold_between
from bundler.knowledge.logistic import Logistic
from bundler.knowledge.reading import Vectors
from bundler.knowledge.router import Head

FOLDS, FOLDS_LARGE, LARGE = 5, 3, 5_000
# For routers without examples out of scope: route where the head is sure and the examples are near.
FALLBACK = Logistic((0.3, 4.0, 6.0, 0.0), -6.0, 0.5)


def fit_head(labels: Sequence[str], known: Sequence[str], vectors: Vectors) -> Vectors:
    """Returns weights of shape (known labels, dimensions + 1), the bias last."""
    model = LogisticRegression(C=20.0, max_iter=500).fit(vectors, labels)
    weights, bias = model.coef_, model.intercept_
    if len(known) == 2:
        weights, bias = np.vstack([-weights[0], weights[0]]) / 2, np.array([-bias[0], bias[0]]) / 2
    order = [list(model.classes_).index(label) for label in known]
    found: Vectors = np.column_stack([weights, bias])[order].astype(np.float32)
    return found


def fit_judgement(labels: Sequence[str], known: Sequence[str], vectors: Vectors, foreign: Vectors) -> Logistic:
    """Returns the probability that a route is right, from texts that each fold's head has not seen."""
    names = np.array(labels)
    folds = min(FOLDS if len(names) < LARGE else FOLDS_LARGE, int(min(np.unique(names, return_counts=True)[1])))
    splitter = StratifiedKFold(folds, shuffle=True, random_state=0)
    parts = np.arange(len(foreign)) % folds
    features: list[NDArray[np.float64]] = []
    right: list[NDArray[np.bool_]] = []
    outside: list[NDArray[np.bool_]] = []
    for number, (train, test) in enumerate(splitter.split(vectors, names)):
        weights = fit_head(list(names[train]), known, vectors[train])
        head = Head(known, weights, vectors[train], foreign[parts != number])
        asked = np.concatenate([vectors[test], foreign[parts == number]])
        probabilities, found = head.judge_all(asked)
        best = np.array(known)[probabilities.argmax(axis=1)]
        features.append(found)
        is_foreign = np.arange(len(asked)) >= len(test)
        outside.append(is_foreign)
        right.append(np.append(best[: len(test)] == names[test], np.zeros(is_foreign.sum(), np.bool_)))
    return _judgement(np.concatenate(features), np.concatenate(right), np.concatenate(outside))


def _judgement(features: NDArray[np.float64], right: NDArray[np.bool_], outside: NDArray[np.bool_]) -> Logistic:
    """Without examples out of scope there is nothing to learn from: mistakes between labels are no stand-in."""
    if not outside.any():
        return FALLBACK
    model = fit_balanced(FALLBACK, features[right | outside], right[right | outside])
    return Logistic(model.weights, model.bias, threshold_between(model, features[right], features[outside]))
