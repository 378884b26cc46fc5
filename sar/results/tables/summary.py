"""The numbers of tables as flat records, for programs."""

from __future__ import annotations

from collections.abc import Iterable
from math import isfinite
from typing import Any

from sar.results.statistics import Summary
from sar.results.tables.table import Kind, Row, Table

Entry = dict[str, Any]


def summary_of(tables: Iterable[Table], digits: int = 4) -> list[Entry]:
    """One record for every own number, in printing order; all in percent (points).

    Keys: protocol, table, group, label, kind (measured, difference), column, seeds (how many),
    mean, std and ci95 (over seeds: sample standard deviation, half of Student's interval of the
    mean), low and high (ends of the 95 % interval over classes and images). None: not known.
    """
    return [
        {
            "protocol": table.protocol,
            "table": table.title,
            "group": row.group,
            "label": row.label,
            "kind": row.kind.value,
            "column": column,
            "seeds": cell.count,
            "mean": round(cell.mean, digits),
            "std": _rounded(cell.std, digits),
            "ci95": _rounded(cell.ci95(), digits),
            "low": _rounded(low, digits),
            "high": _rounded(high, digits),
        }
        for table in tables
        for row in table.rows
        if row.kind is not Kind.PUBLISHED
        for column, cell in row.cells.items()
        for low, high in [cell.interval() or (None, None)]
    ]


def tables_in(entries: Iterable[Entry]) -> list[Table]:
    """The tables whose numbers `summary_of` wrote, without headings, remarks and marks.

    Raises KeyError, TypeError or ValueError for entries that it did not write.
    """
    tables: dict[tuple[str, str], dict[tuple[str, str, str], Row]] = {}
    for entry in entries:
        _check(entry)
        rows = tables.setdefault((entry["protocol"], entry["table"]), {})
        name = (entry["group"], entry["label"], entry["kind"])
        row = rows.setdefault(name, Row(*name[:2], {}, Kind(entry["kind"])))
        ends = None if entry["low"] is None else (entry["low"], entry["high"])
        row.cells[entry["column"]] = Summary(entry["seeds"], entry["mean"], entry["std"], ends)
    return [
        Table(*name, ("", ""), {c: c for row in rows.values() for c in row.cells}, [*rows.values()])
        for name, rows in tables.items()
    ]


def _check(entry: Entry) -> None:
    """ValueError for a name that is no text or a number that is none."""
    names = [entry[key] for key in ("protocol", "table", "group", "label", "kind", "column")]
    numbers = [entry["seeds"], entry["mean"]]
    numbers += [entry[key] for key in ("std", "low", "high") if entry[key] is not None]
    if not all(isinstance(name, str) for name in names):
        raise ValueError(f"names that are no texts: {names}")
    if not all(isinstance(number, int | float) and isfinite(number) for number in numbers):
        raise ValueError(f"numbers that are none: {numbers}")


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
