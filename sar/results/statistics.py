"""Harmonic mean, mean, sample standard deviation and 95 % confidence interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import stdev

from sar.results.resampled import Resampled, mean


def harmonic_mean(base: float, new: float) -> float:
    """H = 2bn / (b + n), in the unit of its arguments; 0 when both are 0."""
    return 2 * base * new / (base + new) if base + new > 0 else 0.0


@dataclass(frozen=True)
class Summary:
    """Several seeds in one number: mean and spread, both in percent points."""

    count: int
    mean: float
    """With its resamples, where the predictions of all seeds are known."""
    std: float | None
    """Sample standard deviation (n - 1 in the denominator); None for a single value."""
    ends: tuple[float, float] | None = None
    """Of the interval, where it is read and the resamples are not at hand."""

    @property
    def is_resampled(self) -> bool:
        """Whether an interval over classes and images is known."""
        return isinstance(self.mean, Resampled) or self.ends is not None

    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval over classes and images; None where predictions are missing."""
        return self.mean.interval() if isinstance(self.mean, Resampled) else self.ends

    def ci95(self) -> float | None:
        """Half width of the 95 % confidence interval of the mean (Student's t)."""
        if self.std is None:
            return None
        return t_quantile(self.count - 1) * self.std / math.sqrt(self.count)


def summarize(values: Sequence[float]) -> Summary:
    """Mean and sample standard deviation of at least one value."""
    return Summary(len(values), mean(values), stdev(values) if len(values) > 1 else None)


def t_quantile(df: int, coverage: float = 0.95) -> float:
    """The t for which Student's distribution with `df` degrees of freedom has
    `coverage` of its mass in [-t, t]. Exact up to float precision for every df >= 1."""
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        if _central_mass(middle, df) < coverage:
            low = middle
        else:
            high = middle
    return math.tan(low) * math.sqrt(df)


def _central_mass(theta: float, df: int) -> float:
    """P(|T| < t) for theta = atan(t / sqrt(df)): the finite series for integer df
    (Abramowitz and Stegun, 26.7.3 and 26.7.4)."""
    cos, odd = math.cos(theta), df % 2
    if df == 1:
        return 2 * theta / math.pi
    term = total = cos if odd else 1.0
    for k in range(3 if odd else 2, df - 1, 2):
        term *= cos * cos * (k - 1) / k
        total += term
    total *= math.sin(theta)
    return 2 / math.pi * (theta + total) if odd else total
