"""Tables over seeds, datasets and trainers, and the differences SAR makes."""

from __future__ import annotations

from collections import defaultdict

from sar.results.collect import Results
from sar.results.protocol import ABLATION, BASE2NEW, CROSS_DATASET, DOMAIN_GENERALIZATION, FEW_SHOT
from sar.results.tables.ablation import ablation_tables
from sar.results.tables.base2new import base_to_new_table
from sar.results.tables.fewshot import few_shot_table
from sar.results.tables.table import TABLE_FORMATS, Kind, Row, Table, render
from sar.results.tables.transfer import transfer_table

__all__ = ["TABLE_FORMATS", "Kind", "Row", "Table", "make_tables", "render"]


def make_tables(results: Results) -> list[Table]:
    """The tables of every protocol that has results."""
    found = defaultdict(list)
    for record in results.records:
        found[record.protocol].append(record)
    tables = []
    if records := found[BASE2NEW]:
        tables.append(base_to_new_table(records))
    for protocol in (CROSS_DATASET, DOMAIN_GENERALIZATION):
        if records := found[protocol]:
            tables.append(transfer_table(records, protocol))
    if records := found[FEW_SHOT]:
        tables.append(few_shot_table(records))
    if records := found[ABLATION]:
        tables += ablation_tables(records, results.studies)
    return tables
