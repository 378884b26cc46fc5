"""All runs under a folder: what counts, and what does not for which reason."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

from sar.dataset_records import records
from sar.errors import DataError
from sar.results.folders import CONSOLE_FILE, Place, RunKey, is_untrained, locate, run_directories
from sar.results.log import Run, read_run
from sar.results.missing import not_started
from sar.results.protocol import (
    ABLATION,
    BASE2NEW,
    CROSS_DATASET,
    DOMAIN_GENERALIZATION,
    FEW_SHOT,
    ProtocolRecord,
    read_protocol,
)
from sar.results.statistics import harmonic_mean


@dataclass(frozen=True)
class Record:
    """The accuracies of one trained model (one seed), in percent."""

    key: RunKey
    values: dict[str, float]
    """Base-to-new and ablation: `base`, `new`, `h`. Over all classes: `accuracy`."""
    protocol: str
    source: str = ""
    """What the model was trained on, where it is tested on other datasets; the key's dataset is
    what it was tested on."""

    def as_dict(self) -> dict[str, str | int | float]:
        """Flat, for JSON and CSV: protocol, dataset, trainer, cfg, shots, seed, source and variant
        where there are any, then the accuracies."""
        key = {k: v for k, v in vars(self.key).items() if k != "variant"}
        extra = {"source": self.source, "variant": self.key.variant}
        return {
            "protocol": self.protocol,
            **key,
            **{k: v for k, v in extra.items() if v},
            **{k: round(v, 4) for k, v in self.values.items()},
        }


@dataclass(frozen=True)
class Problem:
    """A run that is not counted, and why."""

    directory: Path
    reason: str


def _second_run(directory: Path, first: Path) -> Problem:
    return Problem(directory, f"a second run like {first}")


@dataclass
class Results:
    """Everything found under one folder."""

    root: Path
    records: list[Record] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """Oddities of runs that do count."""
    protocols: dict[Path, ProtocolRecord] = field(default_factory=dict)
    """Output folder of a protocol -> what was asked for there."""
    places: list[Place] = field(default_factory=list)
    """Every run in a known kind of folder that passed the filter, counted or not."""
    counted: dict[tuple[str, str, RunKey], Path] = field(default_factory=dict)
    """Protocol, source and key of every record -> a folder of its run."""

    def add(self, record: Record, directory: Path) -> None:
        """Count a record, unless another output folder has one of the same model."""
        name = (record.protocol, record.source, record.key)
        if (first := self.counted.setdefault(name, directory)) == directory:
            self.records.append(record)
        else:
            self.problems.append(_second_run(directory, first))

    @property
    def studies(self) -> dict[str, dict[str, str]]:
        """The studies of all ablations: study -> name of a setting -> its folder."""
        return {k: v for plan in self.protocols.values() for k, v in plan.studies.items()}


@dataclass(frozen=True)
class Filter:
    """Which runs to read; an empty collection lets everything pass."""

    datasets: Collection[str] = ()
    trainers: Collection[str] = ()
    cfgs: Collection[str] = ()

    def admits(self, key: RunKey) -> bool:
        wanted = ((self.datasets, key.dataset), (self.trainers, key.trainer), (self.cfgs, key.cfg))
        return all(not names or name in names for names, name in wanted)


Models = dict[RunKey, dict[str, Place]]
"""Model -> part -> place."""
Reader = Callable[[ProtocolRecord, Models, Results], None]
READERS: dict[str, Reader] = {}
"""Protocols whose results are not read as the folders of the runs say."""


def collect(root: str | Path, only: Filter | None = None) -> Results:
    """Read every log under `root` (any level of an output folder).

    Raises:
        DataError: `root` is not a directory, or nothing in it passes the filter.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{root} is not a directory; give an output folder such as output/base2new")
    results, only = Results(root), only or Filter()
    plans = _Plans()
    models: dict[Path, Models] = defaultdict(lambda: defaultdict(dict))
    for directory in run_directories(root.resolve()):
        folder, plan = plans.of(directory)
        place = locate(directory, folder if plan and plan.variants else None)
        if place is None:
            results.problems.append(Problem(directory, "the folder layout is not a known one"))
            continue
        # What lies in two output folders belongs to two models, whatever their names say.
        parts = models[folder or place.output][place.key]
        if (first := parts.setdefault(place.part, place)) is not place:
            results.problems.append(_second_run(directory, first.directory))
    keys = {key for found in models.values() for key in found}
    admitted = {key for key in keys if only.admits(key)}
    if keys and not admitted:
        raise DataError(f"no run under {root} passes the filter; found {_inventory(keys)}")
    for folder, found in models.items():
        _read_folder(folder, plans.known.get(folder), found, admitted, results)
    return results


class _Plans:
    """The protocol.json that governs a run: the nearest one above it."""

    def __init__(self) -> None:
        self.known: dict[Path, ProtocolRecord] = {}
        self._folders: dict[Path, Path | None] = {}

    def of(self, directory: Path) -> tuple[Path, ProtocolRecord] | tuple[None, None]:
        """Its folder and content."""
        folder = self._nearest(directory.parent)
        return (folder, self.known[folder]) if folder else (None, None)

    def _nearest(self, directory: Path) -> Path | None:
        if directory not in self._folders:
            if plan := read_protocol(directory):
                self.known[directory] = plan
                self._folders[directory] = directory
            elif directory == directory.parent:
                self._folders[directory] = None
            else:
                self._folders[directory] = self._nearest(directory.parent)
        return self._folders[directory]


def _read_folder(
    folder: Path,
    plan: ProtocolRecord | None,
    models: Models,
    admitted: Collection[RunKey],
    results: Results,
) -> None:
    """Read the runs that one protocol.json governs, or those of one output folder without any."""
    if plan:
        results.protocols[folder] = plan
    kept = {key: models[key] for key in sorted(models) if key in admitted}
    results.places += [place for places in kept.values() for place in places.values()]
    if plan and (reader := READERS.get(plan.protocol)):
        reader(plan, kept, results)
        return
    for key, places in kept.items():
        _read_base_to_new(plan, key, places, results)
    trained = {key.dataset for key, places in models.items() if "all" in places}
    _read_all_classes(plan, kept, trained, results)
    # Asked for one run's folder, nobody wants to hear of the others.
    if plan and folder.is_relative_to(results.root.resolve()) and len(kept) == len(models):
        results.problems += [Problem(folder, reason) for reason in not_started(plan, models)]


def _inventory(keys: Collection[RunKey]) -> str:
    columns = {
        "datasets": {k.dataset for k in keys},
        "trainers": {k.trainer for k in keys},
        "configs": {k.cfg for k in keys},
    }
    return "; ".join(f"{name}: {', '.join(sorted(found))}" for name, found in columns.items())


def read_part(place: Place, results: Results) -> Run:
    """What the run at a place proves; without a score it is listed among the problems."""
    action, _, subset = place.part.partition("_")
    trained = action not in ("test", "evaluation") and not is_untrained(place.key.trainer)
    run = read_run(place.directory, trained=trained, subset=subset or None)
    if not run.score:
        results.problems.append(
            Problem(place.directory, "; ".join(filter(None, (run.reason, _last_words(place)))))
        )
    return run


def _last_words(place: Place) -> str:
    """The error message a process left in console.txt; the log holds only the toolbox's own."""
    try:
        text = (place.directory / CONSOLE_FILE).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    last = text.strip().rpartition("\n")[2]
    return last if re.match(r"[\w.]*(Error|Exception|Interrupt)\b", last) else ""


def _read_base_to_new(
    plan: ProtocolRecord | None, key: RunKey, places: dict[str, Place], results: Results
) -> None:
    # The training's own final test is the base accuracy; test_base serves where none was trained.
    base_place = places.get("train_base") or places.get("test_base")
    new_place = places.get("test_new")
    base = read_part(base_place, results) if base_place else None
    new = read_part(new_place, results) if new_place else None
    if base and new and base.score and new.score:
        b, n = base.score.accuracy, new.score.accuracy
        values = {"base": b, "new": n, "h": harmonic_mean(b, n)}
        protocol = plan.protocol if plan else ABLATION if key.variant else BASE2NEW
        results.add(Record(key, values, protocol), base.directory)
        if new.loaded_epoch and base.epochs and new.loaded_epoch != base.epochs:
            results.notes.append(
                f"{new.directory}: tested the checkpoint of epoch "
                f"{new.loaded_epoch}, but the training had {base.epochs} epochs"
            )
    elif base and base.score:
        results.problems.append(Problem(base.directory, "incomplete: no new-class accuracy"))
    elif new and new.score:
        results.problems.append(Problem(new.directory, "incomplete: no base-class accuracy"))


def _read_all_classes(
    plan: ProtocolRecord | None, models: Models, trained: Collection[str], results: Results
) -> None:
    """One accuracy over all classes: few-shot, or a source and the tests on other datasets.

    The tests come first: their logs say which trainings are their sources. `trained`: all
    datasets with a training.
    """
    sources: dict[tuple[str, str, int], set[tuple[str, str]]] = defaultdict(set)
    shifts = {domain for record in records() for domain in record.domains}
    for key, places in models.items():
        if "evaluation" in places and (run := read_part(places["evaluation"], results)).score:
            shift = key.dataset in shifts  # where no protocol.json says what it is
            protocol = DOMAIN_GENERALIZATION if shift else CROSS_DATASET
            protocol = plan.protocol if plan else protocol
            source = _source(run, plan, trained)
            sources[key.trainer, key.cfg, key.shots].add((protocol, source))
            accuracy = {"accuracy": run.score.accuracy}
            results.add(Record(key, accuracy, protocol, source), run.directory)
    tested = {source for found in sources.values() for _, source in found}
    for key, places in models.items():
        if "all" in places and (run := read_part(places["all"], results)).score:
            accuracy = {"accuracy": run.score.accuracy}
            if plan:
                source = key.dataset if plan.source else ""
                results.add(Record(key, accuracy, plan.protocol, source), run.directory)
                continue
            found = sources[key.trainer, key.cfg, key.shots]
            serves = sorted(protocol for protocol, source in found if source == key.dataset)
            for name in serves:
                results.add(Record(key, accuracy, name, key.dataset), run.directory)
            # The checkouts' scripts share one folder: a source may also be one of many datasets.
            if not serves or not tested >= set(trained):
                results.add(Record(key, accuracy, FEW_SHOT), run.directory)


def _source(run: Run, plan: ProtocolRecord | None, trained: Collection[str]) -> str:
    """The dataset whose training a test on another one belongs to."""
    loaded = locate(run.model_directory) if run.model_directory else None
    if loaded and loaded.part == "all":
        return loaded.key.dataset
    if plan and plan.source:
        return plan.source
    return next(iter(trained)) if len(trained) == 1 else "unknown"
