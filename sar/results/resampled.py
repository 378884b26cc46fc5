"""Numbers that are known with what they would be on other classes and images."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Draws = NDArray[np.float64]


class Resampled(float):
    """A number, and the same computed from every resample of the test images.

    Sums, differences, products and quotients are taken in every resample, too. An int is exact; a
    float without resamples makes a float without resamples. 0 / 0 is 0.
    """

    draws: Draws
    """(R,) one number for each resample."""

    def __new__(cls, value: float, draws: Draws) -> Resampled:
        self = super().__new__(cls, value)
        self.draws = draws
        return self

    def interval(self, coverage: float = 0.95) -> tuple[float, float]:
        """The quantiles between which `coverage` of the resamples lie (percentile bootstrap)."""
        import numpy as np

        tail = (1 - coverage) / 2
        low, high = np.quantile(self.draws, (tail, 1 - tail))
        return float(low), float(high)

    def _with(self, other: float, do: Callable[[Any, Any], Any], swap: bool = False) -> float:
        def done(a: Any, b: Any) -> Any:
            return do(b, a) if swap else do(a, b)

        value = done(float(self), other if isinstance(other, int) else float(other))
        if isinstance(other, Resampled):
            return Resampled(value, done(self.draws, other.draws))
        return Resampled(value, done(self.draws, other)) if isinstance(other, int) else value

    def __add__(self, other: float) -> float:
        return self._with(other, operator.add)

    __radd__ = __add__

    def __sub__(self, other: float) -> float:
        return self._with(other, operator.sub)

    def __rsub__(self, other: float) -> float:
        return self._with(other, operator.sub, swap=True)

    def __mul__(self, other: float) -> float:
        return self._with(other, operator.mul)

    __rmul__ = __mul__

    def __truediv__(self, other: float) -> float:
        return self._with(other, _divide)


def mean(values: Sequence[float]) -> float:
    """Of at least one number; with resamples if all have them."""
    exact, total = fmean(values), sum(values)
    if isinstance(total, Resampled):
        return Resampled(exact, total.draws / len(values))
    return exact


def _divide(a: Any, b: Any) -> Any:
    if isinstance(a, float):
        return a / b
    import numpy as np

    return np.divide(a, b, out=np.zeros_like(a), where=np.asarray(b) != 0)
