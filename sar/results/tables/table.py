"""A table of results: rows in printing order, and its rendering as text."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

from tabulate import SEPARATING_LINE, tabulate

from sar.results.statistics import Summary

TABLE_FORMATS = {"table": "simple", "markdown": "github", "latex": "latex_booktabs"}
DEVIATION_MARK = "†"
SHORT_MARK = "*"
NO_INTERVAL = "—"
GAIN = "gain"
"""Column of differences in a row of accuracies."""


class Kind(Enum):
    """Where a row's numbers come from."""

    MEASURED = "measured"
    DIFFERENCE = "difference"
    PUBLISHED = "published"


@dataclass(frozen=True)
class Row:
    """One line of a table; a column without a complete run has no cell."""

    group: str
    """What stands in the first column: a dataset, a source, a component."""
    label: str
    cells: dict[str, Summary]
    kind: Kind = Kind.MEASURED
    average: bool = False
    """The row averages over groups."""
    deviating: frozenset[str] = frozenset()
    """Columns that differ from the published number by more than a point."""
    short: bool = False
    """Fewer seeds than another trained method of the group, in at least one column."""

    def seeds(self) -> str:
        """The number of seeds, or their range over the columns; empty for published numbers."""
        if self.kind is Kind.PUBLISHED or not self.cells:
            return ""
        counts = sorted({cell.count for cell in self.cells.values()})
        text = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]}-{counts[-1]}"
        return text + SHORT_MARK * self.short

    def mean(self, column: str) -> str:
        """The mean as printed, signed in a row of differences; empty where nothing is known."""
        if column not in self.cells:
            return ""
        mean = self.cells[column].mean
        text = f"{mean:+.2f}" if self._is_signed(column) else f"{mean:.2f}"
        return text + DEVIATION_MARK * (column in self.deviating)

    def _is_signed(self, column: str) -> bool:
        return self.kind is Kind.DIFFERENCE or column == GAIN

    @property
    def has_spread(self) -> bool:
        """Several seeds, in at least one column."""
        return any(cell.std is not None for cell in self.cells.values())

    def spread(self, column: str, ci95: bool = False) -> float | None:
        """Standard deviation or half the confidence interval, in percent points."""
        if column not in self.cells:
            return None
        return self.cells[column].ci95() if ci95 else self.cells[column].std

    def interval(self, column: str) -> str:
        """The 95 % interval over classes and images as printed; an em dash where there is none."""
        if column not in self.cells or self.kind is Kind.PUBLISHED:
            return ""
        if (found := self.cells[column].interval()) is None:
            return NO_INTERVAL
        sign = "+" if self._is_signed(column) else ""
        # -0.04 is "-0.0": on which side of 0 an end is, is what the interval says.
        low, high = (f"{end + 0.0:{sign}.1f}" for end in found)  # 0 itself has no minus
        return f"[{low}, {high}]"


@dataclass(frozen=True)
class Table:
    """The results of one protocol."""

    protocol: str
    title: str
    headings: tuple[str, str]
    """Headings of the columns that name the group and the method."""
    columns: dict[str, str]
    """Key of the cells -> heading, in printing order."""
    rows: list[Row]
    remarks: list[str] = field(default_factory=list)
    errors: frozenset[str] = frozenset()
    """Columns of which less is better."""

    def groups(self) -> list[str]:
        """Names of the groups in printing order."""
        return list(dict.fromkeys(row.group for row in self.rows))

    def is_full(self, columns: Iterable[str]) -> bool:
        """Whether every row has a number in these columns."""
        return all(column in row.cells for row in self.rows for column in columns)

    @property
    def has_intervals(self) -> bool:
        """Whether predictions are known, of at least one row."""
        return any(cell.is_resampled for row in self.rows for cell in row.cells.values())

    def measured(self, group: str) -> list[Row]:
        """The rows of one group that hold own results."""
        return [r for r in self.rows if r.group == group and r.kind is Kind.MEASURED]


def render(table: Table, style: str = "table", ci95: bool = False) -> str:
    """The table as text: `style` is a key of TABLE_FORMATS, spread is std or 95 % interval."""
    lines: list[str | list[str]] = []
    previous = ""
    for row in table.rows:
        if previous and row.group != previous and style != "markdown":
            lines.append(SEPARATING_LINE)
        cells = [_cell(row, column, ci95, table.has_intervals) for column in table.columns]
        names = [row.group if row.group != previous else "", row.label]
        lines.append([*(_escape(name, style) for name in names), *cells, row.seeds()])
        previous = row.group
    headings = [*table.headings, *table.columns.values(), "Seeds"]
    text = tabulate(
        lines,
        [_escape(heading, style) for heading in headings],
        tablefmt=TABLE_FORMATS[style],
        disable_numparse=True,
        colalign=["left", "left", *("right" for _ in table.columns), "right"],
    )
    if style == "latex":  # in math mode, for any input encoding
        signs = {"±": r"$\pm$", DEVIATION_MARK: r"$^\dagger$", NO_INTERVAL: "---"}
        for sign, command in signs.items():
            text = text.replace(sign, command)
    return text


def _escape(text: str, style: str) -> str:
    """Text that stays what it is in a table of this style; tabulate does it for LaTeX."""
    if style != "markdown":
        return text
    return re.sub(r"([\\`*|\[\]<>])", r"\\\1", text)


def _cell(row: Row, column: str, ci95: bool, intervals: bool) -> str:
    spread = row.spread(column, ci95)
    parts = (row.mean(column), "" if spread is None else f"± {spread:.2f}")
    return " ".join(filter(None, (*parts, row.interval(column) if intervals else "")))
