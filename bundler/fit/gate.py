"""The evidence gate: fitted on questions whose answer is there, and on the same ones with its document taken away.

A customer's documents come without questions, so the gate is fitted once, on a public set of questions, by
`scripts/eval_knowledge --fit-gate`; the features are on scales that do not depend on the collection.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from bundler.knowledge.logistic import Logistic
from bundler.knowledge.passages import Passages

THRESHOLD = 0.5
GATE = Logistic((11.71, 6.55, 3.48, 5.9, -0.47, -1.52), -10.69, THRESHOLD)


def without_source(passages: Passages, source: str) -> NDArray[np.bool_]:
    """Returns the mask of the chunks that are not of a source, for `Passages.find`."""
    return np.array([chunk.source != source for chunk in passages.chunks], dtype=np.bool_)


def fit_gate(answered: Sequence[Sequence[float]], unanswerable: Sequence[Sequence[float]]) -> Logistic:
    """Fits the gate.

    Args:
        answered: Features of the best passage where it holds the answer.
        unanswerable: Features of the best passage where the answer is nowhere.
    """
    rows = np.array([*answered, *unanswerable])
    labels = np.array([True] * len(answered) + [False] * len(unanswerable))
    model = LogisticRegression(C=10.0, max_iter=5_000, class_weight="balanced").fit(rows, labels)
    weights = tuple(round(float(weight), 2) for weight in model.coef_[0])
    return Logistic(weights, round(float(model.intercept_[0]), 2), THRESHOLD)
