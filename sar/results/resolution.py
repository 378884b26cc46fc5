"""How small a difference in H a set of results can tell."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import combinations, islice
from statistics import fmean

from sar.errors import DataError
from sar.results.folders import is_untrained
from sar.results.protocol import BASE2NEW
from sar.results.record import Record, Results
from sar.results.statistics import Summary
from sar.results.tables import Kind, Row, Table
from sar.results.tables.base2new import base_to_new_table

_CHOICES = 20  # sets of seeds that are tried of each size


def resolution_table(results: Results) -> Table:
    """Half the width of the 95 % interval of paired differences in H, by the number of seeds.

    Of fewer seeds than there are, the mean over several choices of them.

    Raises:
        DataError: there is no difference with an interval.
    """
    records = [record for record in results.records if record.protocol == BASE2NEW]
    seeds = sorted({r.key.seed for r in records if not is_untrained(r.key.trainer)})
    widths: dict[tuple[str, str], dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for count in range(1, len(seeds) + 1):
        for chosen in islice(combinations(seeds, count), _CHOICES):
            for row in _differences(records, chosen, results.against):
                if row.cells["h"].count == count and (ends := row.cells["h"].interval()):
                    widths[row.group, row.label][count].append((ends[1] - ends[0]) / 2)
    if not widths:
        raise DataError(
            "no difference has an interval: that needs base-to-new results of X and SAR_X (or "
            "--against) whose tests have left their predictions (see docs/results.md)"
        )
    rows = [
        Row(group, label, {str(n): Summary(n, fmean(found), None) for n, found in cells.items()})
        for (group, label), cells in sorted(widths.items(), key=_average_last)
    ]
    columns = {str(n): f"{n} seed" + "s" * (n > 1) for n in range(1, len(seeds) + 1)}
    remark = (
        "Half the width of the 95 % interval over classes and images of the difference in H, in "
        "percent points: a smaller difference cannot be told from none with these classes. What "
        "other seeds would change comes on top (±)."
    )
    title = "Resolution in H"
    return Table(BASE2NEW, title, ("Dataset", "Difference"), columns, rows, [remark])


def _differences(
    records: Sequence[Record], seeds: Sequence[int], against: Sequence[str]
) -> list[Row]:
    """Rows of the table that these seeds alone give."""
    kept = [r for r in records if r.key.seed in seeds or is_untrained(r.key.trainer)]
    if not kept:
        return []
    rows = base_to_new_table(kept, against).rows
    return [row for row in rows if row.kind is Kind.DIFFERENCE and "h" in row.cells]


def _average_last(item: tuple[tuple[str, str], object]) -> tuple[bool, str]:
    group = item[0][0]
    return group.startswith("Average of "), group
