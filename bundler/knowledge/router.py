"""The router: a logistic head over embeddings, and a fitted judgement of what is out of scope."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bundler.knowledge.logistic import Logistic
from bundler.knowledge.reading import Vectors
from bundler.knowledge.types import RouteResult

NEIGHBOURS = 5
CANDIDATES = 5
_BLOCK = 256
FEATURES = ("largest_logit", "probability", "neighbour_cosine", "foreign_cosine")


class Head:
    """Labels with their probabilities.

    Args:
        labels: In the order of the rows.
        weights: Shape (labels, dimensions + 1); the last column is the bias.
        examples: Vectors of the examples in scope.
        foreign: Vectors of the examples out of scope; may have no rows.
    """

    def __init__(self, labels: Sequence[str], weights: Vectors, examples: Vectors, foreign: Vectors) -> None:
        self.labels = labels
        self._weights, self._bias = weights[:, :-1], weights[:, -1]
        self._examples, self._foreign = examples, foreign

    def judge(self, vector: Vectors) -> tuple[NDArray[np.float32], tuple[float, ...]]:
        """Returns a probability a label, and the features of the judgement in the order of FEATURES."""
        probabilities, features = self.judge_all(vector[None, :])
        return probabilities[0], tuple(float(value) for value in features[0])

    def judge_all(self, vectors: Vectors) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Judges many texts: shapes (texts, labels) and (texts, features)."""
        logits = vectors @ self._weights.T + self._bias
        shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities = (shifted / shifted.sum(axis=1, keepdims=True)).astype(np.float32)
        near, far = _nearest(self._examples, vectors), _nearest(self._foreign, vectors)
        features = np.column_stack([logits.max(axis=1), probabilities.max(axis=1), near, far])
        return probabilities, features.astype(np.float64)


class Router:
    """Routes a text, or abstains.

    Args:
        head: The fitted head.
        model: Probability that the best label is right, and the least that is routed.
    """

    def __init__(self, head: Head, model: Logistic) -> None:
        self._head, self._model = head, model

    def route(self, vector: Vectors) -> RouteResult:
        probabilities, features = self._head.judge(vector)
        order = np.argsort(-probabilities, kind="stable")[:CANDIDATES]
        candidates = tuple((self._head.labels[i], round(float(probabilities[i]), 4)) for i in order)
        confidence = self._model.probability(features)
        abstained = confidence < self._model.threshold
        return RouteResult(None if abstained else candidates[0][0], round(confidence, 4), abstained, candidates)


def _nearest(known: Vectors, vectors: Vectors) -> NDArray[np.float64]:
    """Returns for each row of `vectors` the mean cosine of its nearest neighbours; 0 where there are none."""
    count = min(NEIGHBOURS, len(known))
    if not count:
        return np.zeros(len(vectors))
    found = []
    for start in range(0, len(vectors), _BLOCK):  # a block at a time: all pairs of a large router would fill the memory
        cosines = vectors[start : start + _BLOCK] @ known.T
        found.append(np.partition(cosines, -count, axis=1)[:, -count:].mean(axis=1))
    return np.concatenate(found).astype(np.float64)
