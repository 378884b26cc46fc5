"""What all tables share: means over seeds, paired differences, averages over datasets."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from sar.results import published
from sar.results.folders import FIXED_VIEWS, is_untrained, split_averaged
from sar.results.record import Record
from sar.results.resampled import mean
from sar.results.statistics import Summary, harmonic_mean, summarize
from sar.results.tables.table import DEVIATION_MARK, SHORT_MARK, Kind, Row

Values = dict[str, float]
"""Column -> accuracy in percent."""
Seeds = dict[int, Values]
"""One method in one group: seed -> values."""
Group = dict[str, Seeds]
"""Method label -> seeds."""
Scores = dict[str, Group]
"""Group (a dataset, a source) -> its methods."""

_AVERAGED = re.compile(r", averaged [\d.]+")

H_REMARK = (
    "H = 2 base new / (base + new). In the row of one dataset H is computed per seed, then "
    "averaged; in an average over datasets it is the H of the averaged base and the averaged new "
    "accuracy."
)


@dataclass(frozen=True)
class Method:
    """One method of a table: the label, and the trainer it stands for."""

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
        trainer, share = split_averaged(key.trainer)
        label = f"{trainer}, averaged {share}" if share else trainer
        if key.trainer in several:
            label += f" {key.cfg}"
        if by_shots and len(shots[key.trainer]) > 1:
            label += f" {key.shots} shots"
        methods[key.trainer, key.cfg, key.shots] = Method(
            label, key.trainer, published.comparable(key.cfg, key.shots)
        )
    return methods


def method_order(label: str) -> tuple[bool, str, bool]:
    """Zero-shot first, then every trainer followed by its SAR form; 4 shots before 16.

    And averaged 0.25 before 0.5: figures behind a point are not a number of their own.
    """
    name = re.sub(r"(?<![\d.])\d+", lambda number: number[0].zfill(9), label.removeprefix("SAR_"))
    return not is_untrained(label), name, label.startswith("SAR_")


def in_order(labels: Iterable[str]) -> list[str]:
    return sorted(set(labels), key=method_order)


def pairs(labels: Iterable[str], against: Iterable[str] = ()) -> list[tuple[str, str]]:
    """What is compared, (A, B) for the difference B - A.

    SAR_X with X, averages with what they are of, SAR_X with averages of X; then all others with
    each of `against`.
    """
    known = dict.fromkeys(in_order(labels))
    found = [(m, f"SAR_{m}") for m in known]
    for label in known:
        if (whole := _AVERAGED.sub("", label)) != label:
            found += [(whole, label), (label, f"SAR_{whole}")]
    found += [(a, m) for a in against for m in known if m != a]
    return [pair for pair in dict.fromkeys(found) if known.keys() >= {*pair}]


def group_rows(name: str, group: Group, against: Sequence[str] = ()) -> list[Row]:
    """The rows of one group: its methods, then the differences of `pairs`."""
    most = max(len(seeds) for seeds in group.values())
    rows = []
    for label in in_order(group):
        cells = summaries(group[label].values())
        fewest = min(cell.count for cell in cells.values())
        short = fewest < most and not is_untrained(label)
        rows.append(Row(name, label, cells, short=short))
    return rows + difference_rows(name, group, against)


def difference_rows(name: str, group: Group, against: Sequence[str] = ()) -> list[Row]:
    """The differences of `pairs`, over the seeds that both have."""
    rows = []
    for plain, sar in pairs(group, against):
        a, b = _at_the_seeds(group, plain, sar)
        differences = [_difference(b[seed], a[seed]) for seed in sorted(a.keys() & b.keys())]
        if cells := summaries(differences):
            rows.append(Row(name, f"{sar} - {plain}", cells, Kind.DIFFERENCE))
    return rows


def average_rows(
    title: str, groups: Sequence[Group], labels: Sequence[str], against: Sequence[str] = ()
) -> list[Row]:
    """Averages over groups that have every label: accuracies first, H is that of the averages.

    Differences are those of the averages over the seeds that both trainers have in a group; there
    is none unless they share seeds in every group.
    """
    rows = []
    averages = {label: _Average([group[label] for group in groups]) for label in labels}
    fewest = {label: min(a.counts.values(), default=0) for label, a in averages.items()}
    for label, found in averages.items():
        fewer = fewest[label] < max(fewest.values()) and not is_untrained(label)
        short = fewer or not found.per_seed
        rows.append(Row(title, label, found.cells(), average=True, short=short))
    for plain, sar in pairs(labels, against):
        both = [_shared_seeds(*_at_the_seeds(group, plain, sar)) for group in groups]
        if all(a for a, _ in both):
            a, b = (_Average(seeds) for seeds in zip(*both, strict=True))
            if cells := b.cells(minus=a):
                rows.append(Row(title, f"{sar} - {plain}", cells, Kind.DIFFERENCE, average=True))
    return rows


class _Average:
    """One method over several groups.

    `per_seed` are the seeds' own averages; empty unless all groups have the same seeds.
    """

    def __init__(self, groups: Sequence[Seeds]) -> None:
        self.means = average([_mean(seeds) for seeds in groups])
        self.counts = {c: min(sum(c in v for v in s.values()) for s in groups) for c in self.means}
        same = all(seeds.keys() == groups[0].keys() for seeds in groups)
        self.per_seed: Seeds = (
            {s: average([seeds[s] for seeds in groups]) for s in groups[0]} if same else {}
        )

    def cells(self, minus: _Average | None = None) -> dict[str, Summary]:
        """Mean and number of seeds; the spread where every group has all of them."""
        means, per_seed = self.means, self.per_seed
        if minus:
            means = _difference(means, minus.means)
            per_seed = {s: _difference(v, minus.per_seed[s]) for s, v in per_seed.items()}
        spread = summaries(per_seed.values())
        return {
            c: Summary(n, mean, spread[c].std if c in spread and spread[c].count == n else None)
            for c, mean in means.items()
            for n in [self.counts[c]]
        }


def _at_the_seeds(group: Group, plain: str, other: str) -> tuple[Seeds, Seeds]:
    """Two methods; one that is not trained is the same for each of the other's seeds."""
    a, b = group[plain], group[other]
    if is_untrained(plain) and not is_untrained(other):
        a = dict.fromkeys(b, next(iter(a.values())))
    if is_untrained(other) and not is_untrained(plain):
        b = dict.fromkeys(a, next(iter(b.values())))
    return a, b


def _shared_seeds(a: Seeds, b: Seeds) -> tuple[Seeds, Seeds]:
    """Two methods reduced to the seeds and columns that both have."""
    columns = {s: found for s in sorted(a.keys() & b.keys()) if (found := shared(a[s], b[s]))}
    first, second = ({s: {c: m[s][c] for c in columns[s]} for s in columns} for m in (a, b))
    return first, second


def _difference(values: Values, minus: Values) -> Values:
    return {column: values[column] - minus[column] for column in shared(values, minus)}


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
    means = {column: mean([item[column] for item in items]) for column in shared(*items)}
    if "h" in means:
        means["h"] = harmonic_mean(means["base"], means["new"])
    return means


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
    if any(FIXED_VIEWS in row.label for row in rows):
        found.append(
            f"{FIXED_VIEWS}s: drawn once of each training image (DATALOADER.VIEWS); "
            "another protocol than the published one."
        )
    if any(row.short for row in rows):
        found.append(
            f"{SHORT_MARK} fewer seeds than another trainer or column; an average over unequal "
            "seeds is given without ±."
        )
    if any(row.kind is Kind.PUBLISHED for row in rows):
        found.append(
            f"Published: {published.conditions()}. Averages are taken over the same datasets. "
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
    means = {column: cell.mean for column, cell in summaries(seeds.values()).items()}
    if "h" in means:
        means["h"] = harmonic_mean(means["base"], means["new"])
    return means
