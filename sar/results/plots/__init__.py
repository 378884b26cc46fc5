"""Figures made from the tables."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from sar.results.plots.style import Plot
from sar.storage.files import make_folder, write_file

__all__ = ["Plot", "write_plots"]


def write_plots(plots: Iterable[Plot], folder: Path) -> list[Path]:
    """Write every figure as .png and .pdf into `folder`."""
    make_folder(folder)
    paths = []
    for plot in plots:
        for kind in ("png", "pdf"):
            path = folder / f"{plot.name}.{kind}"
            write_file(path, plot.image(kind))
            paths.append(path)
    return paths
