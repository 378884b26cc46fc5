"""All runs under a folder: what counts, and what does not for which reason."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from sar.errors import DataError
from sar.results.layout import Place, RunKey, is_untrained, locate, run_directories
from sar.results.log import Run, read_run
from sar.results.protocol import Protocol, read_protocol
from sar.results.statistics import harmonic_mean

_DOMAINS = ("imagenetv2", "imagenet_sketch", "imagenet_a", "imagenet_r")
"""Targets of domain generalization where no protocol.json tells it from cross-dataset."""


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


@dataclass
class Results:
    """Everything found under one folder."""

    root: Path
    records: list[Record] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """Oddities of runs that do count."""
    protocols: dict[Path, Protocol] = field(default_factory=dict)
    """Output folder of a protocol -> what was asked for there."""
    places: list[Place] = field(default_factory=list)
    """Every run of known layout that passed the filter, counted or not."""

    @property
    def variants(self) -> dict[str, list[str]]:
        """Of ablations: folder -> KEY VALUE options."""
        return {k: v for plan in self.protocols.values() for k, v in plan.variants.items()}


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
"""Of each model, its places by part."""


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
    first: dict[tuple[str, RunKey, str], Path] = {}
    for directory in run_directories(root.resolve()):
        folder, plan = plans.of(directory)
        place = locate(directory, folder if plan and plan.variants else None)
        if place is None:
            results.problems.append(Problem(directory, "the folder layout is not a known one"))
            continue
        name = (plan.protocol if plan else "", place.key, place.part)
        if first.setdefault(name, directory) == directory:
            models[folder][place.key][place.part] = place
        else:
            results.problems.append(Problem(directory, f"a second run like {first[name]}"))
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
        self.known: dict[Path, Protocol] = {}
        self._folders: dict[Path, Path | None] = {}

    def of(self, directory: Path) -> tuple[Path, Protocol | None]:
        """Its folder and content; without any, the file system's root and None."""
        folder = self._nearest(directory.parent)
        return (folder, self.known[folder]) if folder else (Path(directory.anchor), None)

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
    plan: Protocol | None,
    models: Models,
    admitted: Collection[RunKey],
    results: Results,
) -> None:
    """Read the runs that one protocol.json governs, or all that none does."""
    if plan:
        results.protocols[folder] = plan
    kept = {key: models[key] for key in sorted(models) if key in admitted}
    results.places += [place for places in kept.values() for place in places.values()]
    sources = _Sources(plan, models)
    for key, places in kept.items():
        _read_base_to_new(key, places, results)
        for part in ("all", "evaluation"):
            if place := places.get(part):
                run = _read(place, results)
                if run.score:
                    accuracy = {"accuracy": run.score.accuracy}
                    results.records += sources.records(place, run, accuracy)
    if plan:
        inside = folder.is_relative_to(results.root.resolve())
        for reason in _not_started(plan, models) if inside else ():
            results.problems.append(Problem(folder, reason))


class _Sources:
    """Which model a test on another dataset belongs to, and what else it counts as."""

    def __init__(self, plan: Protocol | None, models: Models) -> None:
        self.plan = plan
        tested = {key for key, places in models.items() if "evaluation" in places}
        self.methods = {(key.trainer, key.cfg, key.shots) for key in tested}
        self.targets = {key.dataset for key in tested}
        self.trained = {
            key.dataset
            for key, places in models.items()
            if "all" in places and (key.trainer, key.cfg, key.shots) in self.methods
        }

    def records(self, place: Place, run: Run, values: dict[str, float]) -> list[Record]:
        """What an accuracy over all classes counts as."""
        key = place.key
        if place.part == "evaluation":
            return [Record(key, values, self._protocol(key.dataset), self._source(run))]
        if self.plan and not self.plan.source:
            return [Record(key, values, self.plan.protocol)]
        if (key.trainer, key.cfg, key.shots) not in self.methods and not self.plan:
            return [Record(key, values, "few-shot")]
        if self.plan:
            return [Record(key, values, self.plan.protocol, key.dataset)]
        # The scripts of the checkouts put all into one folder: the training may be both.
        protocols = sorted({self._protocol(target) for target in self.targets})
        found = [Record(key, values, protocol, key.dataset) for protocol in protocols]
        return found if len(self.trained) == 1 else [*found, Record(key, values, "few-shot")]

    def _protocol(self, target: str) -> str:
        if self.plan and self.plan.source:
            return self.plan.protocol
        return "domain-generalization" if target in _DOMAINS else "cross-dataset"

    def _source(self, run: Run) -> str:
        loaded = locate(run.model_directory) if run.model_directory else None
        if loaded and loaded.part == "all":
            return loaded.key.dataset
        if self.plan and self.plan.source:
            return self.plan.source
        return next(iter(self.trained)) if len(self.trained) == 1 else "unknown"


def _not_started(plan: Protocol, models: Models) -> Iterable[str]:
    """What the protocol asked for and no folder was made for, one line per method and dataset."""
    started = {(k.variant, k.dataset, k.trainer, k.shots, k.seed) for k in models}
    missing: dict[tuple[str, ...], list[int]] = defaultdict(list)
    datasets = [*plan.datasets, *([plan.source] if plan.source else [])]
    for variant in plan.variants or ("",):
        for dataset in datasets:
            for trainer in plan.trainers:
                # An ablation trains the plain trainers once; nothing trained needs no second seed.
                anywhere = bool(plan.variants) and not trainer.startswith("SAR_")
                for shots in plan.shots:
                    for seed in plan.seeds[:1] if is_untrained(trainer) else plan.seeds:
                        if not any(
                            (v, dataset, trainer, n, seed) in started
                            for v in (plan.variants if anywhere else (variant,))
                            for n in (plan.shots if is_untrained(trainer) else (shots,))
                        ):
                            name = (f"{variant} " if variant and not anywhere else "") + trainer
                            missing[name, dataset, f"{shots} shots"].append(seed)
    for (name, dataset, shots_text), seeds in missing.items():
        numbers = ", ".join(map(str, dict.fromkeys(seeds)))
        yield f"not started: {name} on {dataset}, {shots_text}, seed {numbers}"


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
        values = {"base": b, "new": n, "h": harmonic_mean(b, n)}
        results.records.append(Record(key, values, "ablation" if key.variant else "base2new"))
        if new.loaded_epoch and base.epochs and new.loaded_epoch != base.epochs:
            results.notes.append(
                f"{new.directory}: tested the checkpoint of epoch "
                f"{new.loaded_epoch}, but the training had {base.epochs} epochs"
            )
    elif base and base.score:
        results.problems.append(Problem(base.directory, "incomplete: no new-class accuracy"))
    elif new and new.score:
        results.problems.append(Problem(new.directory, "incomplete: no base-class accuracy"))
