"""The numbers of tables as flat records, for programs."""

from __future__ import annotations

from collections.abc import Iterable

from sar.results.tables.table import Kind, Table

Entry = dict[str, str | int | float | None]


def summary_of(tables: Iterable[Table]) -> list[Entry]:
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
            "mean": round(cell.mean, 4),
            "std": _rounded(cell.std),
            "ci95": _rounded(cell.ci95()),
            "low": _rounded(low),
            "high": _rounded(high),
        }
        for table in tables
        for row in table.rows
        if row.kind is not Kind.PUBLISHED
        for column, cell in row.cells.items()
        for low, high in [cell.interval() or (None, None)]
    ]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
