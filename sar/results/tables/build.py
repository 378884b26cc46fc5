"""What all tables share: means over seeds, paired differences, averages over datasets."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from sar.results import published
from sar.results.collect import Record
from sar.results.layout import is_untrained
from sar.results.statistics import Summary, harmonic_mean, summarize
from sar.results.tables.model import DEVIATION_MARK, SHORT_MARK, Kind, Row

Values = dict[str, float]
"""Column -> accuracy in percent."""
Seeds = dict[int, Values]
"""One method in one group: seed -> values."""
Group = dict[str, Seeds]
"""Method label -> seeds."""
Scores = dict[str, Group]
"""Group (a dataset, a source) -> its methods."""

H_REMARK = (
    "H = 2 base new / (base + new). In the row of one dataset H is computed per seed, then "
    "averaged; in an average over datasets it is the H of the averaged base and the averaged new "
    "accuracy."
)


@dataclass(frozen=True)
class Method:
    """What a label stands for."""

    label: str
    trainer: str
    comparable: bool
    """Configuration and shots are those of the published numbers."""


def new_scores() -> Scores:
    """Empty scores that grow as they are filled."""
    return defaultdict(lambda: defaultdict(lambda: defaultdict(dict)))


def name_methods(
    records: Sequence[Record], by_shots: bool = True
) -> dict[tuple[str, str, int], Method]:
    """Name each (trainer, cfg, shots): by the trainer alone where that is unambiguous.

    A config that differs between datasets only (as CoOp's does for ImageNet) is one method; so
    are numbers of shots unless `by_shots`.
    """
    shots: dict[str, set[int]] = defaultdict(set)
    cfgs: dict[tuple[str, str, int], set[str]] = defaultdict(set)
    for key in (record.key for record in records):
        shots[key.trainer].add(key.shots)
        cfgs[key.trainer, key.dataset, key.shots].add(key.cfg)
    several = {trainer for (trainer, _, _), names in cfgs.items() if len(names) > 1}
    methods = {}
    for key in (record.key for record in records):
        label = key.trainer
        if key.trainer in several:
            label += f" {key.cfg}"
        if by_shots and len(shots[key.trainer]) > 1:
            label += f" {key.shots} shots"
        methods[key.trainer, key.cfg, key.shots] = Method(
            label, key.trainer, published.comparable(key.cfg, key.shots)
        )
    return methods


def method_order(label: str) -> tuple[bool, str, bool]:
    """Zero-shot first, then every trainer followed by its SAR form."""
    return not is_untrained(label), label.removeprefix("SAR_"), label.startswith("SAR_")


def in_order(labels: Iterable[str]) -> list[str]:
    return sorted(set(labels), key=method_order)


def pairs(labels: Iterable[str]) -> list[tuple[str, str]]:
    """Every method whose SAR form is there too: (X, SAR_X)."""
    known = in_order(labels)
    return [(m, f"SAR_{m}") for m in known if f"SAR_{m}" in known]


def group_rows(name: str, group: Group) -> list[Row]:
    """The rows of one group: its methods, then the differences SAR makes."""
    most = max(len(seeds) for seeds in group.values())
    rows = []
    for label in in_order(group):
        cells = summaries(group[label].values())
        fewest = min(cell.count for cell in cells.values())
        short = fewest < most and not is_untrained(label)
        rows.append(Row(name, label, cells, short=short))
    return rows + difference_rows(name, group)


def difference_rows(name: str, group: Group) -> list[Row]:
    """SAR_X - X, paired over the seeds that both have."""
    rows = []
    for plain, sar in pairs(group):
        a, b = group[plain], group[sar]
        differences = [
            {column: b[seed][column] - a[seed][column] for column in shared(a[seed], b[seed])}
            for seed in sorted(a.keys() & b.keys())
        ]
        if cells := summaries(differences):
            rows.append(Row(name, f"{sar} - {plain}", cells, Kind.DIFFERENCE))
    return rows


def average_rows(title: str, groups: Sequence[Group], labels: Sequence[str]) -> list[Row]:
    """Averages over groups that have every label: accuracies first, H is that of the averages.

    The spread is that of the seeds' own averages, given where all groups have the same seeds.
    """
    per_seed: Group = {}
    rows = []
    for label in labels:
        seeds = [group[label] for group in groups]
        means = average([_mean(s) for s in seeds])
        if all(s.keys() == seeds[0].keys() for s in seeds):
            per_seed[label] = {seed: average([s[seed] for s in seeds]) for seed in seeds[0]}
        counts = {c: min(sum(c in values for values in s.values()) for s in seeds) for c in means}
        spread = _complete(per_seed.get(label, {}), counts)
        rows.append(
            Row(
                title,
                label,
                {c: Summary(counts[c], mean, spread.get(c)) for c, mean in means.items()},
                average=True,
                short=label not in per_seed,
            )
        )
    averages = {row.label: row.cells for row in rows}
    for plain, sar in pairs(labels):
        a, b = averages[plain], averages[sar]
        columns = shared(a, b)
        same_seeds = per_seed.get(plain, {}).keys() == per_seed.get(sar, {}).keys()
        paired = difference_rows(title, {m: per_seed[m] for m in (plain, sar) if m in per_seed})
        spread = {c: cell.std for row in paired for c, cell in row.cells.items() if same_seeds}
        cells = {
            c: Summary(min(a[c].count, b[c].count), b[c].mean - a[c].mean, spread.get(c))
            for c in columns
        }
        rows.append(Row(title, f"{sar} - {plain}", cells, Kind.DIFFERENCE, average=True))
    return rows


def with_published(row: Row, values: Values | None) -> list[Row]:
    """The row with its deviations marked, and below it the published numbers."""
    if not values:
        return [row]
    far = {
        column
        for column, cell in row.cells.items()
        if column in values and abs(cell.mean - values[column]) > published.TOLERANCE
    }
    return [replace(row, deviating=frozenset(far)), published_row(row, values)]


def published_row(row: Row, values: Values, label: str = "") -> Row:
    cells = {column: Summary(0, value, None) for column, value in values.items()}
    return Row(row.group, f"{label or row.label}, published", cells, Kind.PUBLISHED, row.average)


def summaries(seeds: Iterable[Values]) -> dict[str, Summary]:
    """Every column over the seeds that have it."""
    columns: dict[str, list[float]] = defaultdict(list)
    for values in seeds:
        for column, value in values.items():
            columns[column].append(value)
    return {column: summarize(values) for column, values in columns.items()}


def average(items: Sequence[Values]) -> Values:
    """Mean of every column that all items have; `h` is that of the means."""
    mean = {column: fmean(item[column] for item in items) for column in shared(*items)}
    if "h" in mean:
        mean["h"] = harmonic_mean(mean["base"], mean["new"])
    return mean


def shared(first: Iterable[str], *others: Iterable[str]) -> list[str]:
    """The columns that all have, in the first one's order."""
    return [column for column in first if all(column in other for other in others)]


def remarks(rows: Sequence[Row], protocol: str) -> list[str]:
    """What a reader must know about the marks and numbers in `rows`."""
    found = []
    if any(row.kind is Kind.DIFFERENCE for row in rows):
        found.append("Differences are paired over the seeds that both trainers have.")
    if untrained := in_order(row.label for row in rows if _is_own_zero_shot(row)):
        found.append(f"{', '.join(untrained)}: nothing is trained, seeds have no effect.")
    if any(row.short for row in rows):
        found.append(
            f"{SHORT_MARK} fewer seeds than another trainer or column; an average over unequal "
            "seeds is given without ±."
        )
    if any(row.kind is Kind.PUBLISHED for row in rows):
        found.append(
            f"Published: {published.setting()}. Averages are taken over the same datasets. "
            f"Sources: {published.source(protocol)}"
        )
    if any(row.deviating for row in rows):
        found.append(
            f"{DEVIATION_MARK} more than {published.TOLERANCE:g} point away from the published "
            "number."
        )
    return found


def _is_own_zero_shot(row: Row) -> bool:
    return row.kind is Kind.MEASURED and is_untrained(row.label)


def _mean(seeds: Seeds) -> Values:
    """Mean of every column over the seeds that have it; `h` is that of the means."""
    mean = {column: cell.mean for column, cell in summaries(seeds.values()).items()}
    if "h" in mean:
        mean["h"] = harmonic_mean(mean["base"], mean["new"])
    return mean


def _complete(seeds: Seeds, counts: dict[str, int]) -> dict[str, float | None]:
    """Standard deviation of the columns for which `seeds` has all of `counts`."""
    found = summaries(seeds.values())
    return {c: cell.std for c, cell in found.items() if cell.count == counts.get(c)}
