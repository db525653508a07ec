"""A fitted probability: what every judgement here ends in."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

_FLAT = 60.0  # exp() overflows beyond; the probability is 0 or 1 long before


@dataclass(frozen=True)
class Logistic:
    """Weights in the order of the features that the user of the model names, a bias, and the threshold to act."""

    weights: tuple[float, ...]
    bias: float
    threshold: float

    def probability(self, features: Sequence[float]) -> float:
        """Returns a probability, 0 to 1; raises ValueError where the number of features differs."""
        total = sum(weight * value for weight, value in zip(self.weights, features, strict=True)) + self.bias
        return 1 / (1 + math.exp(-max(-_FLAT, min(_FLAT, total))))
