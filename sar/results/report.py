"""`sarclip report`: all that an output folder holds in one HTML page without outside resources."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from sar import __version__
from sar.results import evidence
from sar.results.formats import shown, spread_remarks
from sar.results.pages import data_uri, template
from sar.results.plots import Plot
from sar.results.presentations import make_plots, make_tables
from sar.results.protocol import ABLATION
from sar.results.provenance import (
    Provenance,
    pictures_passed_over,
    read_provenance,
)
from sar.results.record import Results
from sar.results.tables import Kind, Row, Table
from sar.results.tables.evaluated import EVALUATION, HEADLINE
from sar.results.tables.rows import in_order
from sar.results.tables.table import DEVIATION_MARK
from sar.results.verdict import group_of, verdict
from sar.storage.files import make_folder, write_file

OPEN_DATASETS = 3
"""Up to as many datasets, their tables are unfolded."""


@dataclass(frozen=True)
class Image:
    """An image inside the page."""

    title: str
    source: str
    """A data: URI."""
    alt: str
    caption: str


@dataclass(frozen=True)
class Section:
    """A protocol's table, its average first, with its figures."""

    table: Table
    summary: list[str]
    """Groups shown at once: the average, or all there is."""
    folded: list[str]
    """Groups of single datasets, shown on demand where they are many."""
    figures: list[Image]

    @property
    def unfold(self) -> bool:
        return len(self.folded) <= OPEN_DATASETS


@dataclass(frozen=True)
class Cell:
    """One number of a table, in the parts the page styles."""

    mean: str = ""
    mark: str = ""
    spread: str = ""
    interval: str = ""
    style: str = ""
    """`best`, `gain`, `loss` or nothing."""


def write_report(results: Results, file: Path, title: str = "", ci95: bool = False) -> None:
    """Write the page to `file`, at once or not at all."""
    text = render_report(results, title, ci95)
    make_folder(file.parent)
    write_file(file, text)


def render_report(results: Results, title: str = "", ci95: bool = False) -> str:
    """The page as text; error bars and ± are the standard deviation or the 95 % interval."""
    page = template("report.html.j2")
    # These need numpy, which tables do without.
    from sar.results.calibration import calibration_tables
    from sar.results.per_class import per_class

    tables = make_tables(results)
    runs = [read_provenance(place) for place in results.places]
    return page.render(
        title=title or _title(tables),
        verdict=verdict(tables, results, runs),
        date=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        version=__version__,
        facts=_facts(results, runs),
        highlights=[highlight for table in tables for highlight in _highlights(table, ci95)],
        sections=[_section(table, ci95) for table in tables],
        calibration=[(table, *_groups(table)) for table in calibration_tables(results)],
        cell=lambda table, row, column: _cell(table, row, column, ci95),
        spread_remarks=lambda table: spread_remarks(ci95, table.has_intervals),
        heatmaps=[_heatmap(file, results.root) for file in evidence.heatmaps(results.root)],
        classes=per_class(results.records),
        data=evidence.data_seen(runs),
        passed_over=pictures_passed_over(runs),
        alignments=evidence.alignments(runs),
        names_reports=evidence.names_reports(results.root),
        settings=evidence.settings(runs),
        versions=Counter(run.system for run in runs if run.system).most_common(),
        commands=evidence.commands(runs),
        problems=[(str(shown(p.directory, results.root)), p.reason) for p in results.problems],
        notes=results.notes,
        records=[record.as_dict() for record in results.records],
    )


def _title(tables: Sequence[Table]) -> str:
    titles = dict.fromkeys(table.title.partition(",")[0] for table in tables)
    return f"{' and '.join(titles) or 'No'} results"


def _facts(results: Results, runs: Sequence[Provenance]) -> dict[str, str]:
    keys = [record.key for record in results.records]
    backbones = {run.config.get("MODEL.BACKBONE.NAME", "") for run in runs} - {""}
    columns: dict[str, Iterable[Any]] = {
        "Datasets": sorted({key.dataset for key in keys}),
        "Trainers": in_order(key.trainer for key in keys),
        "Backbone": sorted(backbones),
        "Shots": sorted({key.shots for key in keys}),
        "Seeds": sorted({key.seed for key in keys}),
    }
    facts = {name: ", ".join(map(str, values)) for name, values in columns.items()}
    left_out = f", {len(results.problems)} left out (see Not counted)" if results.problems else ""
    facts["Results"] = f"{len(keys)}{left_out}"
    facts["Evaluations"] = str(len(results.evaluations) or "")
    return {name: text for name, text in facts.items() if text}


def _highlights(table: Table, ci95: bool) -> list[dict[str, Any]]:
    """What SAR changes on average (or on the only dataset), one card for each pair."""
    if table.protocol == ABLATION:
        return []
    whole = group_of(table)
    return [
        {
            "title": row.label,
            "where": f"{table.title}: {whole}",
            "values": [
                (title, _cell(table, row, column, ci95))
                for column, title in _main_columns(table, row).items()
            ],
            "seeds": row.seeds(),
        }
        for row in table.rows
        if row.group == whole and row.kind is Kind.DIFFERENCE
    ]


def _main_columns(table: Table, row: Row) -> dict[str, str]:
    """The columns that a summary shows: all of three, else the first and the last."""
    columns = [(key, title) for key, title in table.columns.items() if key in row.cells]
    if table.protocol == EVALUATION:
        return {key: title for key, title in columns if key in HEADLINE}
    return dict(columns if len(columns) <= 3 else [columns[0], columns[-1]])


def _section(table: Table, ci95: bool) -> Section:
    return Section(table, *_groups(table), [_figure(plot) for plot in make_plots(table, ci95)])


def _groups(table: Table) -> tuple[list[str], list[str]]:
    """Those shown at once, and those of single datasets (`Section`)."""
    averages = [g for g in table.groups() if any(r.average for r in table.rows if r.group == g)]
    others = [group for group in table.groups() if group not in averages]
    return averages or others, others if averages else []


def _cell(table: Table, row: Row, column: str, ci95: bool) -> Cell:
    if column not in row.cells:
        return Cell()
    spread, mean, style = row.spread(column, ci95), row.cells[column].mean, ""
    sign = -1 if column in table.errors else 1
    if row.mean(column)[0] in "+-":
        style = "" if round(mean, 2) == 0 else "gain" if sign * mean > 0 else "loss"
    elif row.kind is Kind.MEASURED:
        others = [
            sign * r.cells[column].mean for r in table.measured(row.group) if column in r.cells
        ]
        style = "best" if len(others) > 1 and sign * mean == max(others) else ""
    mark = DEVIATION_MARK * (column in row.deviating)
    text = row.mean(column).removesuffix(DEVIATION_MARK)
    interval = row.interval(column) if table.has_intervals else ""
    return Cell(text, mark, "" if spread is None else f"±{spread:.2f}", interval, style)


def _figure(plot: Plot) -> Image:
    return Image(plot.title, data_uri("svg+xml", plot.image("svg")), plot.alt, plot.caption)


def _heatmap(file: Path, root: Path) -> Image:
    title, alt = evidence.heatmap_words(file)
    kind = {".svg": "svg+xml"}.get(file.suffix, file.suffix[1:])
    return Image(title, data_uri(kind, file.read_bytes()), alt, str(file.relative_to(root)))
