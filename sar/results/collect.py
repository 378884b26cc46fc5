"""All runs under a folder: what counts, and what does not for which reason."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from sar.errors import DataError
from sar.results.layout import Place, RunKey, is_untrained, locate, run_directories
from sar.results.log import Run, read_run
from sar.results.protocol import read_protocol
from sar.results.statistics import harmonic_mean


@dataclass(frozen=True)
class Record:
    """The accuracies of one trained model (one seed), in percent."""

    key: RunKey
    values: dict[str, float]
    """Base-to-new: `base`, `new`, `h`. A run over all classes: `accuracy`."""

    def as_dict(self) -> dict[str, str | int | float]:
        """Flat, for JSON and CSV: dataset, trainer, cfg, shots, seed, variant if there is one, then
        the accuracies."""
        key = {k: v for k, v in vars(self.key).items() if k != "variant" or v}
        return {**key, **{k: round(v, 4) for k, v in self.values.items()}}


@dataclass(frozen=True)
class Problem:
    """A run that is not counted, and why."""

    directory: Path
    reason: str


@dataclass
class Results:
    """Everything found under one folder."""

    root: Path
    records: list[Record] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """Oddities of runs that do count."""


@dataclass(frozen=True)
class Filter:
    """Which runs to read; an empty collection lets everything pass."""

    datasets: Collection[str] = ()
    trainers: Collection[str] = ()
    cfgs: Collection[str] = ()

    def admits(self, key: RunKey) -> bool:
        wanted = ((self.datasets, key.dataset), (self.trainers, key.trainer), (self.cfgs, key.cfg))
        return all(not names or name in names for names, name in wanted)


def collect(root: str | Path, only: Filter | None = None) -> Results:
    """Read every log under `root` (any level of an output folder).

    Raises:
        DataError: `root` is not a directory, or nothing in it passes the filter.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{root} is not a directory; give an output folder such as output/base2new")
    results = Results(root)
    models: dict[RunKey, dict[str, Place]] = defaultdict(dict)
    protocol = read_protocol(root)
    variants = root.resolve() if protocol and protocol.variants else None
    for directory in run_directories(root.resolve()):
        if place := locate(directory, variants):
            models[place.key][place.part] = place
        else:
            results.problems.append(Problem(directory, "the folder layout is not a known one"))
    admitted = {key: models[key] for key in sorted(models) if not only or only.admits(key)}
    if models and not admitted:
        raise DataError(f"no run under {root} passes the filter; found {_inventory(models)}")
    for key, places in admitted.items():
        _read_base_to_new(key, places, results)
        for part in ("all", "evaluation"):
            if part in places:
                run = _read(places[part], results)
                if run.score:
                    results.records.append(Record(key, {"accuracy": run.score.accuracy}))
    return results


def _inventory(keys: Collection[RunKey]) -> str:
    columns = {
        "datasets": {k.dataset for k in keys},
        "trainers": {k.trainer for k in keys},
        "configs": {k.cfg for k in keys},
    }
    return "; ".join(f"{name}: {', '.join(sorted(found))}" for name, found in columns.items())


def _read(place: Place, results: Results) -> Run:
    action, _, subset = place.part.partition("_")
    trained = action not in ("test", "evaluation") and not is_untrained(place.key.trainer)
    run = read_run(place.directory, trained=trained, subset=subset or None)
    if not run.score:
        results.problems.append(Problem(place.directory, run.reason))
    return run


def _read_base_to_new(key: RunKey, places: dict[str, Place], results: Results) -> None:
    # The training's own final test is the base accuracy; test_base serves where none was trained.
    base_place = places.get("train_base") or places.get("test_base")
    new_place = places.get("test_new")
    base = _read(base_place, results) if base_place else None
    new = _read(new_place, results) if new_place else None
    if base and new and base.score and new.score:
        b, n = base.score.accuracy, new.score.accuracy
        results.records.append(Record(key, {"base": b, "new": n, "h": harmonic_mean(b, n)}))
        if new.loaded_epoch and base.epochs and new.loaded_epoch != base.epochs:
            results.notes.append(
                f"{new.directory}: tested the checkpoint of epoch "
                f"{new.loaded_epoch}, but the training had {base.epochs} epochs"
            )
    elif base and base.score:
        results.problems.append(Problem(base.directory, "incomplete: no new-class accuracy"))
    elif new and new.score:
        results.problems.append(Problem(new.directory, "incomplete: no base-class accuracy"))
