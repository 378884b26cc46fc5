"""Tables over seeds, datasets and trainers, and the differences SAR makes."""

from __future__ import annotations

from sar.results.collect import Results
from sar.results.tables.ablation import ablation_tables
from sar.results.tables.base2new import base_to_new_table
from sar.results.tables.fewshot import few_shot_table
from sar.results.tables.table import TABLE_FORMATS, Kind, Row, Table, render
from sar.results.tables.transfer import transfer_table

__all__ = ["TABLE_FORMATS", "Kind", "Row", "Table", "make_tables", "render"]


def make_tables(results: Results) -> list[Table]:
    """The tables of every protocol that has results."""
    found = {
        protocol: [record for record in results.records if record.protocol == protocol]
        for protocol in ("base2new", "cross-dataset", "domain-generalization", "few-shot")
    }
    tables = []
    if records := found["base2new"]:
        tables.append(base_to_new_table(records))
    for protocol in ("cross-dataset", "domain-generalization"):
        if records := found[protocol]:
            tables.append(transfer_table(records, protocol))
    if records := found["few-shot"]:
        tables.append(few_shot_table(records))
    if records := [record for record in results.records if record.protocol == "ablation"]:
        tables += ablation_tables(records, results.studies)
    return tables
