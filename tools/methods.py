"""SAR on each of the five methods: the tables of docs/claims.md and the one of README.md.

    python tools/methods.py [--experiments experiments] [--root .]

Made from the records that are named below. What is between the pages' marks is replaced; the rest
of them is written by hand.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

from ending import run
from marks import write_between
from recorded import CALIBRATION, DOCS, EXPERIMENTS, averages, read

from sar.errors import DataError
from sar.results.statistics import Summary
from sar.results.tables import Kind, Row, Table, render
from sar.results.tables.base2new import COLUMNS
from sar.results.tables.table import GAIN

BEGIN, END = "<!-- tables: written by tools/methods.py -->", "<!-- end of tables -->"
BEGIN_ERRORS = "<!-- calibration: written by tools/methods.py -->"
END_ERRORS = "<!-- end of calibration -->"
METHODS = ("CoOp", "MaPLe", "CoCoOp", "PromptSRC", "KgCoOp")
ALONE = ("{}", "SAR_{}", "SAR_{0} - {0}")
BESIDE_AVERAGE = (*ALONE, "{0}, averaged 0.5 - {0}", "SAR_{0} - {0}, averaged 0.5")
MANY_SHOTS = (
    "alternatives-report",  # of CoOp
    "maple-report",
    "cocoop-report",
    "promptsrc-report",
    "kgcoop-report",
)
FEW_SHOTS = "four-shots-report"
TRANSFERS = (  # record: its columns, as they are called here
    ("cross-dataset", {"demo_food": "demo_food itself", "average": "Six other datasets"}),
    ("domain-generalization", {"average": "Three styles"}),
)
AUTO, AUTO_ON_FIVE = "kl, automatic weight", "automatic-weight-report"
WEIGHTS = {  # column -> record: its setting, whose label ends in the trainer if there are several
    "weight 0.25": {"regularizers": "kl, weight 0.25", "weights-of-methods": "0.25"},
    "1, the default": {"regularizers": "kl, weight 1", "weights-of-methods": "1 (default)"},
    "4": {"regularizers": "kl, weight 4", "weights-of-methods": "4"},
    "auto": {"regularizers": AUTO, "automatic-weight": AUTO},
}
ON_FIVE = ("1 on the five", "auto on the five")


def rows(folder: Path) -> dict[str, Row]:
    """Label -> row of a record; of its averages over datasets if it has them."""
    tables = read(folder)
    return {row.label: row for table in averages(tables) or tables for row in table.rows}


def of_methods(found: Mapping[str, Row], forms: Sequence[str], columns: Mapping[str, str]) -> Table:
    """Zero-shot CLIP, and of every method the rows whose labels have these forms.

    Raises:
        DataError: a row or a number is missing.
    """
    named = [("", "ZeroshotCLIP"), *((m, form.format(m)) for m, form in product(METHODS, forms))]
    if missing := [label for _, label in named if label not in found]:
        raise DataError(f"no record has {', '.join(missing)}; expected those of all methods")
    chosen = [replace(found[label], group=method) for method, label in named]
    table = Table("", "", ("Method", "Row"), dict(columns), chosen)
    if not table.is_full(columns):
        raise DataError(f"a row lacks {' or '.join(columns.values())}; make its record again")
    return table


def side_by_side(parts: Iterable[tuple[Iterable[Row], Mapping[str, str]]]) -> dict[str, Row]:
    """Label -> row with the cells of all parts: of each its rows, and column -> column here."""
    found: dict[str, Row] = {}
    for part, keys in parts:
        for row in part:
            cells = {key: row.cells[column] for column, key in keys.items() if column in row.cells}
            known = found.get(row.label, replace(row, cells={}))
            found[row.label] = replace(known, cells=known.cells | cells)
    return found


def transfers(experiments: Path) -> Table:
    """The records of `TRANSFERS` side by side."""
    found = side_by_side((rows(experiments / r).values(), names) for r, names in TRANSFERS)
    columns = {name: name for _, names in TRANSFERS for name in names.values()}
    return of_methods(found, BESIDE_AVERAGE, columns)


def errors(experiments: Path) -> Table:
    """Calibration errors on the five datasets: those of equal bins, and of new classes with bins
    of equally many images."""
    tables = [t for r in MANY_SHOTS for t in averages(read(experiments / r, CALIBRATION))]
    equal, adaptive = {"base": "base", "new": "new"}, {"new": "adaptive"}
    found = side_by_side((t.rows, adaptive if "adaptive" in t.title else equal) for t in tables)
    columns = {"base": "ECE base", "new": "ECE new", "adaptive": "New, adaptive"}
    return of_methods(found, (ALONE[0], ALONE[2]), columns)


def weights(experiments: Path, of_default: Mapping[str, Row]) -> Table:
    """Gains in H: a row for each method, a column for each weight."""
    found: dict[str, dict[str, Summary]] = {method: {} for method in METHODS}
    for column, settings in WEIGHTS.items():
        for record, setting in settings.items():
            for label, row in rows(experiments / record).items():
                name, _, method = label.partition(", SAR_")
                if name == setting and GAIN in row.cells:
                    found[method or "CoOp"][column] = row.cells[GAIN]
    for column, of in zip(ON_FIVE, (of_default, rows(experiments / AUTO_ON_FIVE)), strict=True):
        for row in of_methods(of, ALONE[2:], COLUMNS).rows[1:]:
            found[row.group][column] = row.cells["h"]
    chosen = [Row(m, f"SAR_{m} - {m}", cells, Kind.DIFFERENCE) for m, cells in found.items()]
    return Table("", "", ("Method", "H"), {c: c for c in (*WEIGHTS, *ON_FIVE)}, chosen)


def gains(found: Mapping[str, Row]) -> Table:
    """What SAR adds to each method, and in H what the free average adds to it."""
    chosen = []
    for method in METHODS:
        ours, average = (found[form.format(method)] for form in (ALONE[2], BESIDE_AVERAGE[3]))
        chosen.append(
            replace(ours, group=method, cells=ours.cells | {"average": average.cells["h"]})
        )
    columns = {**COLUMNS, "average": "H of X, averaged 0.5 - X"}
    return Table("", "", ("X", ""), columns, chosen)


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Write the tables of docs/claims.md and README.md."
    )
    parser.add_argument("--experiments", type=Path, default=EXPERIMENTS)
    parser.add_argument("--root", type=Path, default=DOCS.parent, help="default: %(default)s")
    args = parser.parse_args()
    folder = args.experiments
    many = {label: row for record in MANY_SHOTS for label, row in rows(folder / record).items()}
    sections = {
        "Five datasets, 16 shots": of_methods(many, BESIDE_AVERAGE, COLUMNS),
        "Five datasets, 4 shots": of_methods(rows(folder / FEW_SHOTS), BESIDE_AVERAGE, COLUMNS),
        "Trained on all classes of demo_food": transfers(folder),
        "The weight": weights(folder, many),
    }
    text = "\n".join(
        f"### {name}\n\n{render(table, 'markdown')}\n" for name, table in sections.items()
    )
    write_between(args.root / "docs" / "claims.md", BEGIN, END, f"\n{text}\n")
    text = f"\n{render(errors(folder), 'markdown')}\n\n"
    write_between(args.root / "docs" / "claims.md", BEGIN_ERRORS, END_ERRORS, text)
    write_between(args.root / "README.md", BEGIN, END, f"\n{render(gains(many), 'markdown')}\n\n")


if __name__ == "__main__":
    run(main)
