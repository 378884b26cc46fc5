"""The tables of docs/regularizers.md and its figure docs/regularizers.png.

    python tools/regularizers.py SELECTION [REPORT]

Both are output folders of `sarclip protocol ablation`, run with the studies that the page is about:
one on the datasets that settings are chosen on, and one on the others, of what was chosen. What is
between the page's marks is replaced; the rest of the page is written by hand.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from sar.protocols.ablation import BASELINE
from sar.protocols.studies import COMPARISONS
from sar.results import Results, collect, to_text
from sar.results.presentations import make_plots
from sar.results.tables import Table
from sar.results.tables.ablation import ablation_tables

DOCS = Path(__file__).resolve().parents[1] / "docs"
BEGIN, END = "<!-- tables: written by tools/regularizers.py -->", "<!-- end of tables -->"


def comparison(results: Results) -> Table:
    """The average over all datasets, of the comparing studies and what is without SAR alone."""
    studies = {name: of for name, of in results.studies.items() if name in COMPARISONS}
    wanted = {BASELINE, *(folder for settings in studies.values() for folder in settings.values())}
    records = [record for record in results.records if record.key.variant in wanted]
    return ablation_tables(records, studies)[0]


def written(page: str, tables: Sequence[str], begin: str = BEGIN, end: str = END) -> str:
    """The page with other tables between two marks."""
    before, _, rest = page.partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}\n{''.join(tables)}{end}{after}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the tables of docs/regularizers.md.")
    parser.add_argument("selection", type=Path, help="of sarclip protocol ablation")
    parser.add_argument("report", type=Path, nargs="?", help="the same, on other datasets")
    parser.add_argument("--docs", type=Path, default=DOCS, help="default: %(default)s")
    args = parser.parse_args()
    found = [collect(folder) for folder in (args.selection, args.report) if folder]
    tables = [comparison(results) for results in found]
    file = args.docs / "regularizers.md"
    texts = [
        to_text(results, "markdown", tables=[table])
        for results, table in zip(found, tables, strict=True)
    ]
    file.write_text(written(file.read_text("utf-8"), texts), encoding="utf-8")
    first = tables[0]
    others = [row for row in first.rows if row.group != "regularizer"]  # see tools/curves.py
    plot = make_plots(replace(first, rows=others))[0]
    (args.docs / "regularizers.png").write_bytes(plot.image("png"))


if __name__ == "__main__":
    main()
