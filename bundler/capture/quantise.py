"""Quantises a linear layer to int8 with scales that are fixed at build. Pure arithmetic.

Fixed scales make a text's vector independent of the texts that share its batch, which scales measured at run time do
not. What int8 costs is kept small by evening out the input channels first: a channel of large values is divided by a
factor and its row of the weight multiplied by it (Xiao et al. 2023, SmoothQuant, equation 4).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

# Share of the evening out that activations decide; 0.7 gave the highest least cosine of 0.6 to 1.0 on general texts.
SHARE = 0.7
_LEVELS = 255
_WEIGHT_MAX = 127
# CPUs without VNNI add two products of uint8 and int8 in 16 bits, which saturate: 255 * (|a| + |b|) must stay under
# 2 ** 15 (Intel SDM, VPMADDUBSW; ONNX Runtime, "reduce_range"). So neighbours in a column sum to this at most.
_PAIR_MAX = 128
_BIAS_MAX = 2**30
_TINY = 1e-6


@dataclass(frozen=True)
class Span:
    """The least and the largest value of each input channel, shape (in,), and some rows of input, (rows, in)."""

    least: Floats
    most: Floats
    rows: Floats


@dataclass(frozen=True)
class QuantisedLinear:
    """x @ W + b as step * weight_step * ((round(x * evening / step) + zero, as uint8) - zero) @ weight + bias.

    Attributes:
        evening: Factor of each input channel, float32 (in,).
        step: Width of one level of the evened input, float32 ().
        zero: The level of 0, uint8 ().
        weight: int8 (in, out).
        weight_step: Width of one level of each column, float32 (out,).
        bias: In levels of `step * weight_step`, int32 (out,).
    """

    evening: Floats
    step: NDArray[np.float32]
    zero: NDArray[np.uint8]
    weight: NDArray[np.int8]
    weight_step: Floats
    bias: NDArray[np.int32]

    def apply(self, rows: Floats) -> Floats:
        """Returns what the runtime computes for rows of input, (rows, out)."""
        levels = np.clip(np.round(rows * self.evening / self.step) + self.zero, 0, _LEVELS) - np.float32(self.zero)
        sums = levels @ self.weight.astype(np.float32) + self.bias
        return np.asarray(sums * self.step * self.weight_step, dtype=np.float32)


def quantise(weight: Floats, bias: Floats, span: Span) -> QuantisedLinear:
    """Quantises a layer of shape (in, out) whose inputs lie within `span`."""
    factor = _evening(weight, span)
    least, most = min(0.0, float((span.least / factor).min())), max(0.0, float((span.most / factor).max()))
    step = np.float32(_rounded_up(max(most - least, _TINY) / _LEVELS))
    zero = np.uint8(np.clip(round(-least / float(step)), 0, _LEVELS))
    least_step = (np.abs(bias) / (step * _BIAS_MAX)).astype(np.float32)
    levels, weight_step = quantise_weight(np.asarray(weight * factor[:, None], dtype=np.float32), least_step)
    whole = np.round(bias / (weight_step * step)).astype(np.int32)
    evening = np.asarray(1 / factor, dtype=np.float32)
    return QuantisedLinear(evening, np.array(step), np.array(zero), levels, weight_step, whole)


def quantise_weight(weight: Floats, least_step: Floats) -> tuple[NDArray[np.int8], Floats]:
    """Rounds each column to int8 such that no two neighbours of one sign sum to more than 128.

    Args:
        weight: The layer, (in, out).
        least_step: No column's step is smaller, (out,).
    """
    paired = np.concatenate([weight, np.zeros((len(weight) % 2, weight.shape[1]), np.float32)])
    pairs = [np.maximum(sign * paired, 0).reshape(-1, 2, weight.shape[1]).sum(axis=1).max(axis=0) for sign in (1, -1)]
    step = np.maximum(np.abs(weight).max(axis=0) / _WEIGHT_MAX, np.maximum(*pairs) / _PAIR_MAX)
    step = np.maximum(np.maximum(step, least_step), _TINY**2).astype(np.float32)
    levels = np.clip(np.round(paired / step), -_WEIGHT_MAX, _WEIGHT_MAX).astype(np.int16)
    for sign in (1, -1):  # rounding can put a pair one over
        over = np.maximum(sign * levels, 0).reshape(-1, 2, weight.shape[1]).sum(axis=1) > _PAIR_MAX
        levels[0::2] -= (sign * over).astype(np.int16)
    return levels[: len(weight)].astype(np.int8), step


def error(weight: Floats, bias: Floats, span: Span, layer: QuantisedLinear) -> float:
    """Returns the squared error of the quantised layer on the span's rows, as a share of the output's variance."""
    exact = span.rows @ weight + bias
    lost = np.square(exact - layer.apply(span.rows)).sum()
    return float(lost / max(float(np.square(exact - exact.mean(axis=0)).sum()), _TINY))


def merged(spans: list[NDArray[Any]], keep: int) -> Span:
    """Returns the span of some inputs of one layer, each (tokens, in); keeps at most `keep` rows, evenly taken."""
    rows = np.concatenate(spans).astype(np.float32)
    return Span(rows.min(axis=0), rows.max(axis=0), rows[:: max(1, len(rows) // keep)][:keep])


def _evening(weight: Floats, span: Span) -> Floats:
    inputs = np.maximum(np.maximum(-span.least, span.most), _TINY)
    outputs = np.maximum(np.abs(weight).max(axis=1), _TINY)
    power = SHARE * np.log2(inputs) - (1 - SHARE) * np.log2(outputs)
    # Eighths of a power of two: the last bits of a measured span differ between CPUs, the graph's bytes shall not.
    return np.asarray(np.exp2(np.round((power - power.mean()) * 8) / 8), dtype=np.float32)


def _rounded_up(value: float) -> float:
    """Rounds up to about three digits, for the same reason."""
    unit = 2.0 ** (np.floor(np.log2(value)) - 9)
    return float(np.ceil(value / unit) * unit)
