"""Results as text: tables for readers, records for programs."""

from __future__ import annotations

import csv
import io
import json
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from sar.results.presentations import make_tables
from sar.results.record import Results
from sar.results.tables import TABLE_FORMATS, Table, render
from sar.results.tables.summary import summary_of
from sar.results.tables.table import NO_INTERVAL
from sar.storage.files import write_file

_TITLES = {"table": "{}", "markdown": "### {}", "latex": "% {}"}
FORMATS = (*TABLE_FORMATS, "csv", "json")
Value = str | int | float | None
_FORMULA = ("=", "+", "-", "@")


def to_text(
    results: Results,
    style: str = "table",
    ci95: bool = False,
    summary: bool = False,
    tables: Sequence[Table] = (),
) -> str:
    """The results in one of FORMATS, ending in a newline.

    `csv` and `json` hold one record per seed, or with `summary` one per number of the tables, with
    its intervals. In the others, spread is the sample standard deviation over seeds, or with `ci95`
    half the 95 % confidence interval of the mean. `tables`: others than those of the accuracies.
    """
    if style in ("json", "csv"):
        records: Sequence[Mapping[str, Value]] = (
            summary_of(tables or make_tables(results))
            if summary
            else [record.as_dict() for record in results.records]
        )
        return _to_csv(records) if style == "csv" else json.dumps(records, indent=1) + "\n"
    blocks = []
    for table in tables or make_tables(results):
        blocks += [
            _TITLES[style].format(table.title),
            render(table, style, ci95),
            _remarks([*spread_remarks(ci95, table.has_intervals), *table.remarks], style),
        ]
    return "\n\n".join(blocks) + "\n"


def problems_text(results: Results, style: str = "table") -> str:
    """What was not counted and why, and oddities of what was; empty if there is none."""
    blocks = []
    if results.problems:
        lines = [f"{shown(p.directory, results.root)}: {p.reason}" for p in results.problems]
        blocks.append(_section(f"Not counted ({len(lines)}):", lines, style))
    if results.notes:
        blocks.append(_section("Notes:", results.notes, style))
    return "\n".join(blocks)


def write_files(results: Results, folder: Path, ci95: bool = False) -> list[Path]:
    """Write results.md, results.csv, results.json and summary.json into `folder`.

    Each appears at once or not at all.
    """
    tables = make_tables(results)
    page = (to_text(results, "markdown", ci95, tables=tables), problems_text(results, "markdown"))
    texts = {
        "results.md": "\n".join(filter(None, page)),
        "results.csv": to_text(results, "csv"),
        "results.json": to_text(results, "json"),
        "summary.json": to_text(results, "json", summary=True, tables=tables),
    }
    for name, text in texts.items():
        write_file(folder / name, text)
    return [folder / name for name in texts]


def _to_csv(records: Sequence[Mapping[str, Value]]) -> str:
    columns = list(dict.fromkeys(column for record in records for column in record))
    return csv_text(columns, ([record.get(column) for column in columns] for record in records))


def csv_text(header: Sequence[str], rows: Iterable[Sequence[Value]]) -> str:
    """A table as CSV, in which a spreadsheet calculates nothing."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([_plain_cell(value) for value in row] for row in rows)
    return buffer.getvalue()


def _plain_cell(value: Value) -> Value:
    """Text that a spreadsheet would calculate, marked as text; numbers as they are."""
    if not isinstance(value, str):
        return value
    plain = unicodedata.normalize("NFKC", value)  # full-width signs calculate, too
    return f"'{value}" if plain.lstrip().startswith(_FORMULA) else value


def spread_remarks(ci95: bool, intervals: bool) -> list[str]:
    """What ± and the interval in brackets are over."""
    spread = (
        "95 % confidence interval of the mean (Student's t)"
        if ci95
        else "sample standard deviation (n - 1)"
    )
    remarks = [f"Percent; ± is the {spread} over seeds."]
    if intervals:
        remarks.append(
            "[ ]: 95 % interval over classes and test images, of the mean over these seeds "
            f"(bootstrap of both); {NO_INTERVAL} where predictions are missing."
        )
    return remarks


def _remarks(lines: Sequence[str], style: str) -> str:
    if style == "latex":
        return "\n".join(f"% {line}" for line in lines)
    # Two spaces break the line in Markdown; a leading star would open a list there.
    return (
        "  \n".join(line.replace("*", r"\*") for line in lines)
        if style == "markdown"
        else "\n".join(lines)
    )


def _section(title: str, lines: list[str], style: str) -> str:
    bullet = "- " if style == "markdown" else "  "
    gap = "\n\n" if style == "markdown" else "\n"
    return title + gap + "".join(f"{bullet}{line}\n" for line in lines)


def shown(directory: Path, root: Path) -> str:
    """A path as the user can type it: below `root` as it was given."""
    try:
        return str(root / directory.relative_to(root.resolve()))
    except ValueError:
        return str(directory)
