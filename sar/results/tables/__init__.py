"""Tables over seeds, datasets and trainers, and the differences SAR makes."""

from __future__ import annotations

from sar.results.tables.table import TABLE_FORMATS, Kind, Row, Table, render

__all__ = ["TABLE_FORMATS", "Kind", "Row", "Table", "render"]
