"""Ablation: variants of SAR beside the trainers they extend."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sar.results.collect import Record
from sar.results.tables.base2new import COLUMNS
from sar.results.tables.rows import (
    H_REMARK,
    Group,
    average_rows,
    group_rows,
    in_order,
    method_order,
    name_methods,
    new_scores,
    remarks,
)
from sar.results.tables.table import GAIN, Kind, Row, Table

BASELINES = "baseline"
_PREFIX = "TRAINER.SAR."


@dataclass(frozen=True)
class _Setting:
    """One line: a SAR trainer with one variant of its options, or a trainer without SAR."""

    component: str
    label: str
    trainer: str
    key: str
    """In the scores; unique."""

    @property
    def plain(self) -> str:
        return self.trainer.removeprefix("SAR_")


def ablation_tables(
    records: Sequence[Record], variants: Mapping[str, Sequence[str]] | None = None
) -> list[Table]:
    """The average over all datasets, then every dataset of its own (if there are several).

    Args:
        variants: folder -> KEY VALUE options, in printing order; unknown folders are named by
            what stands before and behind their first underscore.
    """
    variants = variants or {}
    scores = new_scores()
    found: dict[str, _Setting] = {}
    named = name_methods(records)
    labels = {key: named[key.trainer, key.cfg, key.shots].label for key in (r.key for r in records)}
    several = len({label for label in labels.values() if label.startswith("SAR_")}) > 1
    for record in records:
        options = variants.get(record.key.variant)
        setting = _setting(labels[record.key], record.key.variant, options, several)
        found[setting.key] = setting
        scores[record.key.dataset][setting.key][record.key.seed] = record.values
    baselines = in_order(key for key, s in found.items() if s.component == BASELINES)
    folders = list(variants)
    others = sorted(found.keys() - set(baselines), key=lambda key: _order(found[key], folders))
    # Settings of one component stand together where the first of them is, numbers ascending.
    components = list(dict.fromkeys(found[key].component for key in others))
    others.sort(
        key=lambda key: (components.index(found[key].component), _leading_number(found[key].label))
    )
    settings = [found[key] for key in (*baselines, *others)]
    datasets = sorted(scores)
    tables = [_table(d, [scores[d]], settings) for d in datasets]
    if len(datasets) > 1:
        title = f"average of {', '.join(datasets)}"
        tables.insert(0, _table(title, [scores[d] for d in datasets], settings))
    return tables


def _table(title: str, groups: Sequence[Group], settings: Sequence[_Setting]) -> Table:
    rows, left_out = [], []
    for setting in settings:
        if all(setting.key in group for group in groups):
            rows.append(_row(setting, groups))
        else:
            left_out.append(setting.label)
    notes = [H_REMARK, *remarks(rows, "ablation")]
    if any(GAIN in row.cells for row in rows):
        notes.append("H gain: H minus that of the plain trainer, paired over the seeds both have.")
    if left_out:
        notes.append(f"Not here, for want of a result on every dataset: {', '.join(left_out)}.")
    columns = {**COLUMNS, GAIN: "H gain"}
    return Table("ablation", f"Ablation, {title}", ("Component", "Setting"), columns, rows, notes)


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
        group=setting.component,
        label=setting.label,
        cells=row.cells | ({GAIN: gain.cells["h"]} if gain else {}),
        average=False,
    )


def _setting(trainer: str, variant: str, options: Sequence[str] | None, several: bool) -> _Setting:
    if not trainer.startswith("SAR_"):
        return _Setting(BASELINES, trainer, trainer, trainer)
    if options is None:
        component, _, label = variant.partition("_")
    else:
        names = [key.removeprefix(_PREFIX).lower().replace("_", " ") for key in options[::2]]
        words = [f"{name} {value}" for name, value in zip(names, options[1::2], strict=True)]
        component = "".join(names[:1])
        label = ", ".join(words).removeprefix(f"{component} ")
    component, label = component or "default", label or "default"
    return _Setting(
        component, f"{label}, {trainer}" if several else label, trainer, f"{variant}/{trainer}"
    )


def _order(setting: _Setting, folders: Sequence[str]) -> tuple[Any, ...]:
    """As the variants were given, unknown ones by name."""
    variant = setting.key.partition("/")[0]
    known = folders.index(variant) if variant in folders else 0
    return known, variant, method_order(setting.trainer)


def _leading_number(label: str) -> float:
    """The number a label begins with; infinity if it begins with none."""
    try:
        return float(label.partition(",")[0])
    except ValueError:
        return math.inf
