"""Figures made from the tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from sar.files import write_file
from sar.results.plots.ablation import ablation_plots
from sar.results.plots.base2new import base_to_new_plots
from sar.results.plots.fewshot import few_shot_plots
from sar.results.plots.style import Plot
from sar.results.plots.transfer import transfer_plots
from sar.results.protocol import ABLATION, BASE2NEW, CROSS_DATASET, DOMAIN_GENERALIZATION, FEW_SHOT
from sar.results.tables import Table

__all__ = ["Plot", "make_plots", "write_plots"]

_PLOTS: dict[str, Callable[[Table, bool], Iterator[Plot]]] = {
    BASE2NEW: base_to_new_plots,
    CROSS_DATASET: transfer_plots,
    DOMAIN_GENERALIZATION: transfer_plots,
    FEW_SHOT: few_shot_plots,
    ABLATION: ablation_plots,
}


def make_plots(table: Table, ci95: bool = False) -> list[Plot]:
    """The figures that a table allows; error bars are the standard deviation, or with `ci95` the
    95 % confidence interval of the mean."""
    return list(_PLOTS[table.protocol](table, ci95))


def write_plots(plots: Iterable[Plot], folder: Path) -> list[Path]:
    """Write every figure as .png and .pdf into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for plot in plots:
        for kind in ("png", "pdf"):
            path = folder / f"{plot.name}.{kind}"
            write_file(path, plot.image(kind))
            paths.append(path)
    return paths
