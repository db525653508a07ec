"""Fits the router's head, and by cross-validation its judgement of what is out of scope."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold

from bundler.fit.logistic import fit_logistic
from bundler.knowledge.encoder import Vectors
from bundler.knowledge.logistic import Logistic
from bundler.knowledge.router import Head

FOLDS = 5
FALSELY_ROUTED = 0.1
# For routers without examples out of scope: route where the head is sure and the examples are near.
FALLBACK = Logistic((0.3, 4.0, 6.0, 0.0), -6.0, 0.5)


def fit_head(labels: Sequence[str], known: Sequence[str], vectors: Vectors) -> Vectors:
    """Returns weights of shape (known labels, dimensions + 1), the bias last."""
    model = LogisticRegression(C=20.0, max_iter=2_000).fit(vectors, labels)
    weights, bias = model.coef_, model.intercept_
    if len(known) == 2:
        weights, bias = np.vstack([-weights[0], weights[0]]) / 2, np.array([-bias[0], bias[0]]) / 2
    order = [list(model.classes_).index(label) for label in known]
    found: Vectors = np.column_stack([weights, bias])[order].astype(np.float32)
    return found


def fit_judgement(labels: Sequence[str], known: Sequence[str], vectors: Vectors, foreign: Vectors) -> Logistic:
    """Returns the probability that a route is right, from texts that each fold's head has not seen."""
    names = np.array(labels)
    folds = min(FOLDS, int(min(np.unique(names, return_counts=True)[1])))
    splitter = StratifiedKFold(folds, shuffle=True, random_state=0)
    parts = np.arange(len(foreign)) % folds
    features: list[tuple[float, ...]] = []
    right: list[bool] = []
    for number, (train, test) in enumerate(splitter.split(vectors, names)):
        weights = fit_head(list(names[train]), known, vectors[train])
        head = Head(known, weights, vectors[train], foreign[parts != number])
        features += _judged(head, vectors[test])
        right += [bool(found == name) for found, name in zip(_labels(head, vectors[test]), names[test], strict=True)]
        features += _judged(head, foreign[parts == number])
        right += [False] * int((parts == number).sum())
    return fit_logistic(np.array(features), np.array(right, dtype=np.bool_), FALLBACK, FALSELY_ROUTED)


def _judged(head: Head, vectors: Vectors) -> list[tuple[float, ...]]:
    return [head.judge(vector)[1] for vector in vectors]


def _labels(head: Head, vectors: Vectors) -> list[str]:
    probabilities: list[NDArray[np.float32]] = [head.judge(vector)[0] for vector in vectors]
    return [head.labels[int(np.argmax(row))] for row in probabilities]
