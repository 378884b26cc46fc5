"""What a report says beside the numbers: data seen, settings, commands, heatmaps."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sar.errors import DataError
from sar.results.folders import is_untrained
from sar.results.provenance import Provenance
from sar.results.tables.rows import in_order
from sar.storage.files import read_end
from sar.storage.texts import read_json

_PARTS = {
    "train_base": "trained on base classes, tested on them",
    "all": "trained on all classes, tested on them",
    "test_base": "tested on base classes",
    "test_new": "tested on new classes",
    "evaluation": "tested on all classes",
}
_TRAININGS = ("train_base", "all")
_TESTED = {"train_base": "test_base", "all": "evaluation"}
"""The test that a run of this part is, if its trainer trains nothing."""
_LONGEST = 2**20  # bytes of a report that are shown
# What differs from run to run without being a setting of the method.
_PER_RUN = (
    "OUTPUT_DIR",
    "RESUME",
    "SEED",
    "DATASET.",
    "VERBOSE",
    "VERSION",
    "TRAIN.PRINT_FREQ",
    "TRAINER.NAME",
)


@dataclass
class Seen:
    """The data of all runs of one kind on one dataset."""

    dataset: str
    what: str
    classes: set[int] = field(default_factory=set)
    train: set[int] = field(default_factory=set)
    test: set[int] = field(default_factory=set)
    shots_files: set[str] = field(default_factory=set)
    names: dict[tuple[str, ...], int] = field(default_factory=lambda: defaultdict(int))
    """Class names trained on, as checkpoints have them -> number of runs."""


@dataclass(frozen=True)
class Settings:
    """The configuration of one method, over all its runs."""

    method: str
    runs: int
    time: str
    """Duration of the trainings as the logs state it; empty if they do not."""
    values: dict[str, str]


def data_seen(runs: Iterable[Provenance]) -> list[Seen]:
    """One entry for each dataset and kind of run."""
    found: dict[tuple[str, str], Seen] = {}
    for run in runs:
        key, part = run.place.key, run.place.part
        trains = part in _TRAININGS and not is_untrained(key.trainer)
        what = _PARTS[part if trains else _TESTED.get(part, part)]
        seen = found.setdefault((key.dataset, what), Seen(key.dataset, what))
        for name, values in (("classes", seen.classes), ("test", seen.test)):
            if name in run.counts:
                values.add(run.counts[name])
        if trains:
            seen.train |= {run.counts["train_x"]} if "train_x" in run.counts else set()
            seen.shots_files |= {run.facts["shots_file"]} if "shots_file" in run.facts else set()
            if run.classes:
                seen.names[tuple(run.classes)] += 1
    order = list(_PARTS.values())
    return sorted(found.values(), key=lambda seen: (seen.dataset, order.index(seen.what)))


def alignments(runs: Iterable[Provenance]) -> list[tuple[str, str, str]]:
    """What SAR aligned: (dataset, source of the novel names, SAR's line in the log)."""
    return sorted(
        {
            (run.place.key.dataset, _novel_source(run), run.facts["alignment"])
            for run in runs
            if "alignment" in run.facts
        }
    )


def _novel_source(run: Provenance) -> str:
    """As the run said it: the shipped names of one's own pictures are those of their class list."""
    return run.facts.get("novel") or run.config.get("TRAINER.SAR.NOVEL", "")


def settings(runs: Sequence[Provenance]) -> tuple[list[Settings], list[str]]:
    """The configuration of every method, and the keys in which the trained ones differ."""
    by_method: dict[str, list[Provenance]] = defaultdict(list)
    for run in runs:
        key = run.place.key
        if run.config and (run.place.part in _TRAININGS or is_untrained(key.trainer)):
            by_method[" ".join(filter(None, (key.variant, key.trainer)))].append(run)
    found = []
    for method in in_order(by_method):
        members = by_method[method]
        values: dict[str, dict[str, None]] = defaultdict(dict)
        for run in members:
            for name, value in run.config.items():
                values[name][value] = None
        times = {run.facts["elapsed"] for run in members if "elapsed" in run.facts}
        # h:mm:ss, so a longer text is a longer time
        ordered = sorted(times, key=lambda time: (len(time), time))
        span = " to ".join(dict.fromkeys([*ordered[:1], *ordered[-1:]]))
        joined = {name: " | ".join(seen) for name, seen in values.items()}
        found.append(Settings(method, len(members), span, joined))
    keys = sorted({key for method in found for key in method.values if not _is_per_run(key)})
    trained = [method for method in found if not is_untrained(method.method)]
    differing = [key for key in keys if len({m.values.get(key, "") for m in trained}) > 1]
    return found, differing


def _is_per_run(key: str) -> bool:
    return key.startswith(_PER_RUN)


def commands(runs: Iterable[Provenance]) -> dict[str, list[str]]:
    """Dataset -> commands; trainings, and datasets with trainings, come first."""
    found: dict[str, list[str]] = defaultdict(list)
    listed = [run for run in runs if run.command]
    trained = {r.place.key.dataset for r in listed if r.place.part in _TRAININGS}

    def order(run: Provenance) -> tuple[Any, ...]:
        key = run.place.key
        return key.dataset not in trained, key.dataset, run.place.part not in _TRAININGS, key

    for run in sorted(listed, key=order):
        found[run.place.key.dataset].append(run.command)
    return dict(found)


def heatmaps(root: Path) -> list[Path]:
    """Every inspect*.svg or .png below `root`; of a figure in both forms, the .svg.

    A comparison of the same models counts once, from whichever of their folders it was made.
    """
    found = (*root.rglob("inspect*.svg"), *root.rglob("inspect*.png"))
    files = sorted(file for file in found if file.is_file())
    vector = {file.with_suffix("") for file in files if file.suffix == ".svg"}
    shown = [f for f in files if f.suffix == ".svg" or f.with_suffix("") not in vector]
    first = {_compared(file): file for file in reversed(shown)}
    return [file for file in shown if file in first.values()]


def _compared(file: Path) -> str:
    """What a heatmap shows, from the .json beside it; without one, the file's own path."""
    try:
        content = read_json(file.with_suffix(".json"))
        return json.dumps([content[key] for key in ("dataset", "classes", "models")])
    except (DataError, KeyError, TypeError):
        return str(file)


def heatmap_words(file: Path) -> tuple[str, str]:
    """Title and alternative text of a heatmap, from the .json beside it if there is one."""
    title, alt = f"Class similarities: {file.stem}", "Heatmaps of class similarities."
    try:
        content = read_json(file.with_suffix(".json"))
        title = f"Similarities of {content['dataset']}'s {content['classes']} classes"
        measured = [
            f"{label} {model['correlation']:.2f}" for label, model in content["models"].items()
        ]
    except (DataError, KeyError, TypeError, ValueError, AttributeError):
        return title, alt
    return title, (
        f"Heatmaps of cosine similarities of class texts. Correlation with the hand-crafted "
        f"prompt's: {', '.join(measured)}."
    )


NAMES_REPORTS = {
    "novel_report": "Overlap of novel names with the new classes",
    "descriptions_report": "Descriptions that were trained on",
}


def names_reports(root: Path) -> list[tuple[str, str, str]]:
    """Title, file and text of what runs below `root` say of names and words they were given."""
    return [
        (title, *report) for name, title in NAMES_REPORTS.items() for report in _texts(root, name)
    ]


def _texts(root: Path, name: str) -> list[tuple[str, str]]:
    """Where files of this name lie, and their text; equal ones once, .txt before .json."""
    found: dict[str, list[str]] = {}
    for file in sorted(root.rglob(f"{name}.*")):
        readable = file.suffix in (".txt", ".md") or not file.with_suffix(".txt").exists()
        if readable and file.suffix in (".txt", ".md", ".json"):
            text = read_end(file, _LONGEST)
            found.setdefault(text, []).append(str(file.relative_to(root)))
    return [
        (files[0] + f" and {len(files) - 1} more" * (len(files) > 1), text)
        for text, files in found.items()
    ]
