"""Ablation: variants of SAR beside the trainers they extend."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from sar.results.folders import averaged_over
from sar.results.protocol import ABLATION
from sar.results.record import Record
from sar.results.tables.base2new import COLUMNS
from sar.results.tables.rows import (
    H_REMARK,
    Group,
    average_rows,
    group_rows,
    in_order,
    name_methods,
    new_scores,
    remarks,
)
from sar.results.tables.table import GAIN, Kind, Row, Table

BASELINES = "baseline"
Studies = Mapping[str, Mapping[str, str]]
"""Study -> name of a setting -> its folder."""


@dataclass(frozen=True)
class _Setting:
    """One line: a SAR trainer with one variant of its options, or a trainer without SAR.

    A variant that belongs to several studies is several settings.
    """

    study: str
    label: str
    trainer: str
    key: str
    """In the scores."""

    @property
    def plain(self) -> str:
        return self.trainer.removeprefix("SAR_")


def ablation_tables(
    records: Sequence[Record], studies: Studies | None = None, against: Sequence[str] = ()
) -> list[Table]:
    """The average over all datasets, then every dataset of its own (if there are several).

    Args:
        studies: what was asked for, in printing order; folders of no study are named by what
            stands before and behind their first underscore.
        against: settings, or trainers without SAR, that all others' differences to are given.
    """
    scores = new_scores()
    named = name_methods(records)
    folders: dict[str, set[str]] = {}  # of each trainer
    for record in records:
        key = record.key
        trainer = named[key.trainer, key.cfg, key.shots].label
        folders.setdefault(trainer, set()).add(key.variant)
        scores[key.dataset][_key(trainer, key.variant)][key.seed] = record.values
    settings = _settings(folders, studies or {})
    datasets = sorted(scores)
    tables = [_table(d, [scores[d]], settings, against) for d in datasets]
    averaged = averaged_over(datasets)
    if len(averaged) > 1:
        title = f"average of {', '.join(averaged)}"
        tables.insert(0, _table(title, [scores[d] for d in averaged], settings, against))
    return tables


def _settings(folders: Mapping[str, Iterable[str]], studies: Studies) -> list[_Setting]:
    """All lines in printing order, `folders` being those of each trainer with a result."""
    extended = [trainer for trainer in in_order(folders) if trainer.startswith("SAR_")]
    asked = [(s, label, folder) for s, names in studies.items() for label, folder in names.items()]
    known = {folder for _, _, folder in asked}
    others = {folder for trainer in extended for folder in folders[trainer]} - known
    named = [(*_names_in(folder), folder) for folder in others]
    named.sort(key=lambda names: (names[0], _leading_number(names[1]), names[1]))
    return [
        *(_Setting(BASELINES, t, t, t) for t in in_order(folders.keys() - extended)),
        *(
            _Setting(
                study,
                f"{label}, {trainer}" if len(extended) > 1 else label,
                trainer,
                _key(trainer, folder),
            )
            for study, label, folder in (*asked, *named)
            for trainer in extended
        ),
    ]


def _key(trainer: str, variant: str) -> str:
    return f"{variant}/{trainer}" if trainer.startswith("SAR_") else trainer


def _table(
    title: str, groups: Sequence[Group], settings: Sequence[_Setting], against: Sequence[str]
) -> Table:
    there = [s for s in settings if all(s.key in group for group in groups)]
    left_out = [f"{s.study}: {s.label}" for s in settings if s not in there]
    others = [next((s for s in there if s.label == name), None) for name in against]
    rows = []
    for setting in there:
        rows.append(_row(setting, groups))
        rows += [
            _difference(setting, other, groups)
            for other in others
            if other and other.key != setting.key
        ]
    notes = [H_REMARK, *remarks(rows, ABLATION)]
    if any(GAIN in row.cells for row in rows):
        notes.append("H gain: H minus that of the plain trainer, paired over the seeds both have.")
    if left_out:
        notes.append(f"Not here, for want of a result on every dataset: {'; '.join(left_out)}.")
    columns = {**COLUMNS, GAIN: "H gain"}
    return Table(ABLATION, f"Ablation, {title}", ("Study", "Setting"), columns, rows, notes)


def _row(setting: _Setting, groups: Sequence[Group]) -> Row:
    """A setting's numbers, and its gain over the trainer it extends."""
    pair = [
        {setting.trainer: group[setting.key]}
        | ({setting.plain: group[setting.plain]} if setting.plain in group else {})
        for group in groups
    ]
    labels = in_order(label for label in pair[0] if all(label in group for group in pair))
    if len(groups) == 1:
        rows = group_rows("", pair[0])
    else:
        rows = average_rows("", [{m: group[m] for m in labels} for group in pair], labels)
    row = next(row for row in rows if row.label == setting.trainer)
    gain = next((r for r in rows if r.kind is Kind.DIFFERENCE), None)
    return replace(
        row,
        group=setting.study,
        label=setting.label,
        cells=row.cells | ({GAIN: gain.cells["h"]} if gain and "h" in gain.cells else {}),
        average=False,
    )


def _difference(setting: _Setting, other: _Setting, groups: Sequence[Group]) -> Row:
    """A setting minus another, paired over the seeds that both have."""
    pair = [{one.label: group[one.key] for one in (setting, other)} for group in groups]
    name = f"{setting.label} - {other.label}"
    if len(groups) == 1:
        rows = group_rows("", pair[0], [other.label])
    else:
        rows = average_rows("", pair, list(pair[0]), [other.label])
    cells = next((row.cells for row in rows if row.label == name), {})
    return Row(setting.study, name, cells, Kind.DIFFERENCE)


def _names_in(folder: str) -> tuple[str, str]:
    """Study and setting of a folder such as weight_4."""
    study, _, label = folder.partition("_")
    return study or "default", label or "default"


def _leading_number(label: str) -> float:
    """The number a label begins with; infinity if it begins with none."""
    try:
        return float(label.partition(",")[0])
    except ValueError:
        return math.inf
