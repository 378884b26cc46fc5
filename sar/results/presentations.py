"""How the results of each protocol are read and shown: one entry each.

A protocol of one's own calls `add_presentation` in its file. Its jobs are a plan of
`sar.protocols.plan`; this side never runs anything and imports no torch.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from sar.errors import ConfigError
from sar.results.collect import READERS, Reader
from sar.results.plots import Plot
from sar.results.plots.ablation import ablation_plots
from sar.results.plots.base2new import base_to_new_plots
from sar.results.plots.fewshot import few_shot_plots
from sar.results.plots.transfer import transfer_plots
from sar.results.protocol import ABLATION, BASE2NEW, CROSS_DATASET, DOMAIN_GENERALIZATION, FEW_SHOT
from sar.results.record import Record, Results
from sar.results.tables import Kind, Table
from sar.results.tables.ablation import ablation_tables
from sar.results.tables.base2new import base_to_new_table
from sar.results.tables.evaluated import evaluation_tables
from sar.results.tables.fewshot import few_shot_table
from sar.results.tables.transfer import transfer_table

TableMaker = Callable[[Sequence[Record]], Table]
PlotMaker = Callable[[Table, bool], Iterable[Plot]]


@dataclass(frozen=True)
class Presentation:
    """What a protocol's results become."""

    tables: Callable[[Sequence[Record], Results], Iterable[Table]]
    """From its records, at least one, and everything found beside them."""
    plots: PlotMaker
    """The figures of a table; whether error bars are 95 % intervals."""


def _compared(
    make: Callable[[Sequence[Record], Sequence[str]], Table],
) -> Callable[[Sequence[Record], Results], Iterable[Table]]:
    """One table, which takes what its rows are compared with."""
    return lambda records, results: [make(records, results.against)]


_TRANSFERS = {
    protocol: Presentation(_compared(partial(transfer_table, protocol=protocol)), transfer_plots)
    for protocol in (CROSS_DATASET, DOMAIN_GENERALIZATION)
}
PRESENTATIONS = {
    BASE2NEW: Presentation(_compared(base_to_new_table), base_to_new_plots),
    **_TRANSFERS,
    FEW_SHOT: Presentation(_compared(few_shot_table), few_shot_plots),
    ABLATION: Presentation(
        lambda records, results: ablation_tables(records, results.studies, results.against),
        ablation_plots,
    ),
}
"""By protocol, in printing order."""
_COMPARING = tuple(PRESENTATIONS)  # those of one's own get no rows to compare with


def add_presentation(
    protocol: str, table: TableMaker, plots: PlotMaker | None = None, reader: Reader | None = None
) -> None:
    """Makes known how a protocol's results are shown.

    Args:
        table: makes the table from the protocol's records, at least one.
        plots: makes figures of that table; second argument: whether to draw 95 % intervals.
        reader: adds the records of an output folder to the results; by default they are read as
            the folders of the runs say (`sar.results.folders`).
    """
    PRESENTATIONS[protocol] = Presentation(
        lambda records, results: [table(records)], plots or (lambda table, ci95: ())
    )
    if reader:
        READERS[protocol] = reader


def make_tables(results: Results) -> list[Table]:
    """The tables of what `sarclip evaluate` wrote, then those of every protocol that has results.

    Raises:
        ConfigError: there are results of a protocol that is not known here.
    """
    found = defaultdict(list)
    for record in results.records:
        found[record.protocol].append(record)
    if unknown := sorted(found.keys() - PRESENTATIONS.keys()):
        files = [file for plan in results.protocols.values() for file in plan.imports]
        known = f"it was run with {', '.join(files)}" if files else "the file that defines it"
        raise ConfigError(
            f"{results.root} has results of the protocol {', '.join(unknown)}, which is not known "
            f"here; give --import FILE ({known})"
        )
    tables = [
        table
        for protocol, presentation in PRESENTATIONS.items()
        if protocol in found
        for table in presentation.tables(found[protocol], results)
    ]
    return evaluation_tables(results.evaluations) + tables


def compare_with(results: Results, names: Sequence[str]) -> list[Table]:
    """The tables, which from now on give all others' differences to these rows, too.

    Raises:
        ConfigError: a name is of no row that has differences.
    """
    results.against = names
    tables = make_tables(results)
    there = [
        row.label
        for table in tables
        if table.protocol in _COMPARING
        for row in table.rows
        if row.kind is Kind.MEASURED
    ]
    if unknown := [name for name in names if name not in there]:
        raise ConfigError(
            f"--against {' | '.join(unknown)}: no such row; "
            f"there are {' | '.join(dict.fromkeys(there)) or 'none'}"
        )
    return tables


def make_plots(table: Table, ci95: bool = False) -> list[Plot]:
    """The figures that a table allows; error bars are the standard deviation, or with `ci95` the
    95 % confidence interval of the mean."""
    shown = PRESENTATIONS.get(table.protocol)
    return list(shown.plots(table, ci95)) if shown else []
