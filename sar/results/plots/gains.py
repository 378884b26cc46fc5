"""The gain in H of many settings below each other: deviation over seeds, and interval."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from sar.results.plots.style import GREY, INK
from sar.results.statistics import Summary

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_GAP = 0.6  # between two groups, in rows


class Gain(NamedTuple):
    """One setting."""

    label: str
    cell: Summary
    """Of the difference, in percent points."""
    look: dict[str, Any]
    group: str = ""


def draw_gains(axis: Axes, gains: Sequence[Gain], of: str, ci95: bool = False) -> None:
    """A row for each, those of a group together; `of` names what they are gained over."""
    groups = list(dict.fromkeys(gain.group for gain in gains))
    at = [i + _GAP * groups.index(gain.group) for i, gain in enumerate(gains)]
    for y, gain in zip(at, gains, strict=True):
        if ends := gain.cell.interval():
            axis.plot(ends, (y, y), color=GREY, linewidth=2.6, alpha=0.45)
        spread = gain.cell.ci95() if ci95 else gain.cell.std
        look = {"markersize": 4, "elinewidth": 1, **gain.look, "linestyle": "none"}
        axis.errorbar(gain.cell.mean, y, xerr=spread, **look)
    axis.axvline(0, color=INK, linewidth=0.8)
    axis.set_ylim(at[-1] + 0.6, -0.6)
    axis.set_yticks(at, [gain.label for gain in gains], fontsize=6.5)
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="y", visible=False)
    thin = f"thin: {'95 % interval' if ci95 else 'deviation'} over seeds"
    broad = "broad: 95 % interval over classes"
    known = any(gain.cell.is_resampled for gain in gains)
    said = [f"H minus {of}'s, percent points", thin, *[broad] * known]
    axis.set_xlabel("\n".join(said))
    axis.set_title("Gain in H")
