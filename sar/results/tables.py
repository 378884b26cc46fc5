"""Tables over seeds, datasets and trainers, and the differences SAR makes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from tabulate import SEPARATING_LINE, tabulate

from sar.results.collect import Record
from sar.results.layout import is_untrained
from sar.results.statistics import Summary, harmonic_mean, summarize

TABLE_FORMATS = {"table": "simple", "markdown": "github", "latex": "latex_booktabs"}
_TITLES = {"base": "Base", "new": "New", "h": "H", "accuracy": "Accuracy"}

Values = dict[str, float]
Seeds = dict[int, Values]
"""One method on one dataset: seed -> accuracies in percent."""
Scores = dict[str, dict[str, Seeds]]
"""dataset -> method -> seeds."""


@dataclass(frozen=True)
class Row:
    """One line of a table; a difference row's means carry a sign."""

    dataset: str
    method: str
    cells: dict[str, Summary]
    difference: bool = False

    @property
    def seeds(self) -> int:
        return next(iter(self.cells.values())).count


@dataclass(frozen=True)
class Table:
    """Rows in printing order, and the remarks that belong below them."""

    rows: list[Row]
    remarks: list[str]
    short_of_seeds: set[tuple[str, str]]
    """(dataset, method) with fewer seeds than another trained method on that dataset."""


def make_tables(records: Sequence[Record]) -> list[Table]:
    """One table per kind of result: base/new/H, and accuracy over all classes."""
    kinds: dict[tuple[str, ...], list[Record]] = defaultdict(list)
    for record in records:
        kinds[tuple(record.values)].append(record)
    return [_make_table(kinds[metrics]) for metrics in sorted(kinds, reverse=True)]


def render(table: Table, style: str = "table", ci95: bool = False) -> str:
    """The table as text: `style` is a key of TABLE_FORMATS, spread is std or 95 % interval."""
    metrics = list(table.rows[0].cells)
    lines: list[str | list[str]] = []
    previous = ""
    for row in table.rows:
        if previous and row.dataset != previous and style == "table":
            lines.append(SEPARATING_LINE)
        seeds = f"{row.seeds}" + "*" * ((row.dataset, row.method) in table.short_of_seeds)
        cells = [_cell(row.cells[metric], row.difference, ci95) for metric in metrics]
        lines.append([row.dataset if row.dataset != previous else "", row.method, *cells, seeds])
        previous = row.dataset
    headers = ["Dataset", "Trainer", *(_TITLES[metric] for metric in metrics), "Seeds"]
    return tabulate(
        lines,
        headers,
        tablefmt=TABLE_FORMATS[style],
        disable_numparse=True,
        colalign=["left", "left", *("right" for _ in metrics), "right"],
    )


def _cell(summary: Summary, signed: bool, ci95: bool) -> str:
    spread = summary.ci95() if ci95 else summary.std
    mean = f"{summary.mean:+.2f}" if signed else f"{summary.mean:.2f}"
    return mean if spread is None else f"{mean} ± {spread:.2f}"


def _make_table(records: Sequence[Record]) -> Table:
    scores: Scores = defaultdict(lambda: defaultdict(dict))
    labels = _labels(records)
    for record in records:
        label = labels[record.key.trainer, record.key.cfg, record.key.shots]
        scores[record.key.dataset][label][record.key.seed] = record.values
    methods = sorted({m for by_method in scores.values() for m in by_method}, key=_method_order)

    rows, short = [], set()
    for dataset in sorted(scores):
        by_method = scores[dataset]
        rows += [
            Row(dataset, m, _summarize(by_method[m].values())) for m in methods if m in by_method
        ]
        rows += _difference_rows(dataset, by_method)
        most = max(len(seeds) for seeds in by_method.values())
        short |= {
            (dataset, m)
            for m, seeds in by_method.items()
            if len(seeds) < most and not is_untrained(m)
        }

    remarks = _remarks(scores, methods, bool(short))
    common = [d for d in sorted(scores) if all(m in scores[d] for m in methods)]
    if len(common) > 1:
        rows += _average_rows(f"Average of {len(common)}", [scores[d] for d in common], methods)
    if len(scores) > len(common):
        missing = [f"{m} on {d}" for d in sorted(scores) for m in methods if m not in scores[d]]
        remarks.append(
            f"The average needs a dataset to have every trainer; that holds for "
            f"{len(common)} of {len(scores)}. Missing: {', '.join(missing)}."
        )
    return Table(rows, remarks, short)


def _labels(records: Sequence[Record]) -> dict[tuple[str, str, int], str]:
    """Name each (trainer, cfg, shots): by the trainer alone where that is unambiguous.

    A config that differs between datasets only (as CoOp's does for ImageNet) is one method.
    """
    shots: dict[str, set[int]] = defaultdict(set)
    cfgs: dict[tuple[str, str, int], set[str]] = defaultdict(set)
    for key in (record.key for record in records):
        shots[key.trainer].add(key.shots)
        cfgs[key.trainer, key.dataset, key.shots].add(key.cfg)
    several = {trainer for (trainer, _, _), names in cfgs.items() if len(names) > 1}
    labels = {}
    for key in (record.key for record in records):
        label = key.trainer
        if key.trainer in several:
            label += f" {key.cfg}"
        if len(shots[key.trainer]) > 1:
            label += f" {key.shots} shots"
        labels[key.trainer, key.cfg, key.shots] = label
    return labels


def _method_order(method: str) -> tuple[bool, str, bool]:
    """Zero-shot first, then every trainer followed by its SAR form."""
    return not is_untrained(method), method.removeprefix("SAR_"), method.startswith("SAR_")


def _summarize(seeds: Iterable[Values]) -> dict[str, Summary]:
    columns: dict[str, list[float]] = defaultdict(list)
    for values in seeds:
        for metric, value in values.items():
            columns[metric].append(value)
    return {metric: summarize(column) for metric, column in columns.items()}


def _pairs(methods: Iterable[str]) -> list[tuple[str, str]]:
    known = sorted(methods, key=_method_order)
    return [(m, f"SAR_{m}") for m in known if f"SAR_{m}" in known]


def _difference_rows(dataset: str, by_method: dict[str, Seeds]) -> list[Row]:
    rows = []
    for plain, sar in _pairs(by_method):
        a, b = by_method[plain], by_method[sar]
        differences = [
            {metric: b[seed][metric] - a[seed][metric] for metric in a[seed]}
            for seed in sorted(a.keys() & b.keys())
        ]
        if differences:
            rows.append(Row(dataset, f"{sar} - {plain}", _summarize(differences), True))
    return rows


def _average_rows(title: str, datasets: list[dict[str, Seeds]], methods: list[str]) -> list[Row]:
    """Averages over datasets: accuracies are averaged first, H is that of the averages.

    The spread is that of the seeds' own averages, given where all datasets have the same seeds.
    """
    averages: dict[str, Seeds] = {}
    rows = []
    for method in methods:
        seeds = [by_method[method] for by_method in datasets]
        if all(s.keys() == seeds[0].keys() for s in seeds):
            averages[method] = {seed: _average([s[seed] for s in seeds]) for seed in seeds[0]}
        mean = _average([_average(list(s.values())) for s in seeds])
        spread = _summarize(averages[method].values()) if method in averages else {}
        count = min(len(s) for s in seeds)
        rows.append(
            Row(
                title,
                method,
                {
                    metric: Summary(count, value, spread[metric].std if spread else None)
                    for metric, value in mean.items()
                },
            )
        )
    means = {row.method: row for row in rows}
    for plain, sar in _pairs(methods):
        same_seeds = averages.get(plain, {}).keys() == averages.get(sar, {}).keys()
        paired = _difference_rows(title, averages) if same_seeds else []
        spread = next((row.cells for row in paired if row.method == f"{sar} - {plain}"), {})
        count = min(means[plain].seeds, means[sar].seeds)
        rows.append(
            Row(
                title,
                f"{sar} - {plain}",
                {
                    metric: Summary(
                        count,
                        means[sar].cells[metric].mean - cell.mean,
                        spread[metric].std if spread else None,
                    )
                    for metric, cell in means[plain].cells.items()
                },
                True,
            )
        )
    return rows


def _average(items: list[Values]) -> Values:
    mean = {metric: fmean(item[metric] for item in items) for metric in items[0]}
    if "h" in mean:
        mean["h"] = harmonic_mean(mean["base"], mean["new"])
    return mean


def _remarks(scores: Scores, methods: list[str], short: bool) -> list[str]:
    two_classes = any(
        "h" in values
        for by_method in scores.values()
        for seeds in by_method.values()
        for values in seeds.values()
    )
    remarks = []
    if two_classes:
        remarks.append(
            "H = 2 base new / (base + new). In the row of one dataset H is computed "
            "per seed, then averaged; in an average over datasets it is the H of the "
            "averaged base and the averaged new accuracy."
        )
    if _pairs(methods):
        remarks.append("Differences are paired over the seeds that both trainers have.")
    if untrained := [m for m in methods if is_untrained(m)]:
        remarks.append(f"{', '.join(untrained)}: nothing is trained, seeds have no effect.")
    if short:
        remarks.append(
            "* fewer seeds than another trainer on this dataset; an average over "
            "unequal seeds is given without ±."
        )
    return remarks
