"""All runs under a folder: what counts, and what does not for which reason."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from sar.errors import DataError
from sar.results.claims import is_model_of
from sar.results.counting import Models, read_all_classes, read_base_to_new
from sar.results.evaluations import Evaluation, read_evaluation
from sar.results.folders import Place, RunKey, is_untrained, locate
from sar.results.intervals import add_resamples
from sar.results.log import read_head
from sar.results.missing import not_started
from sar.results.protocol import PROTOCOL_FILE, ProtocolRecord, read_protocol
from sar.results.record import Problem, Results
from sar.results.starts import path_in
from sar.results.walk import Walk


@dataclass(frozen=True)
class Filter:
    """Which runs to read; an empty collection lets everything pass."""

    datasets: Collection[str] = ()
    trainers: Collection[str] = ()
    cfgs: Collection[str] = ()

    def admits(self, key: RunKey) -> bool:
        wanted = ((self.datasets, key.dataset), (self.trainers, key.trainer), (self.cfgs, key.cfg))
        return all(not names or name in names for names, name in wanted)

    def admits_evaluation(self, one: Evaluation) -> bool:
        wanted = ((self.datasets, one.trained_on), (self.trainers, one.method))
        return not self.cfgs and all(not names or name in names for names, name in wanted)


_ORACLE = "'TRAINER.SAR.NOVEL', 'oracle'"  # as a log states options
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
    plans, heads = _Plans(), dict[Path, Mapping[str, str]]()
    models: dict[Path, Models] = defaultdict(lambda: defaultdict(dict))
    walk = Walk(root.resolve())
    results.problems += [Problem(folder, reason) for folder, reason in walk.closed]
    for directory in walk.runs:
        folder = plans.above(directory)
        heads[directory] = read_head(directory)
        place = _locate(directory, folder, plans, heads[directory])
        if place is None:
            results.problems.append(Problem(directory, _unknown(heads[directory])))
            continue
        # What lies in two output folders belongs to two models, whatever their names say.
        parts = models[folder or place.output][place.key]
        if (first := parts.setdefault(place.part, place)) is not place:
            results.second(directory, first.directory)
    for file in walk.evaluations:
        try:
            one = read_evaluation(file)
        except DataError as error:
            results.problems.append(Problem(file.parent, str(error)))
        else:
            results.evaluations += [one] * only.admits_evaluation(one)
    results.problems += plans.damaged
    _reunite(models, heads)
    keys = {key for found in models.values() for key in found}
    admitted = {key for key in keys if only.admits(key)}
    if keys and not admitted:
        raise DataError(f"no run under {root} passes the filter; found {_inventory(keys)}")
    halves = _halves(models)
    for folder, found in models.items():
        _read_folder(folder, plans.known.get(folder), found, admitted, halves, results)
    results.notes += _leaks(results, heads)
    add_resamples(results)
    return results


class _Plans:
    """The protocol.json that governs a run: the nearest one above it."""

    def __init__(self) -> None:
        self.known: dict[Path, ProtocolRecord] = {}
        self.damaged: list[Problem] = []
        self._folders: dict[Path, Path | None] = {}

    def above(self, directory: Path) -> Path | None:
        """The folder it is in, also if it cannot be read."""
        return self._nearest(directory.parent)

    def _nearest(self, directory: Path) -> Path | None:
        if directory not in self._folders:
            if self._holds_one(directory):
                self._folders[directory] = directory
            elif directory == directory.parent:
                self._folders[directory] = None
            else:
                self._folders[directory] = self._nearest(directory.parent)
        return self._folders[directory]

    def _holds_one(self, directory: Path) -> bool:
        try:
            plan = read_protocol(directory)
        except DataError as error:
            self.damaged.append(Problem(directory / PROTOCOL_FILE, str(error)))
            return True
        if plan:
            self.known[directory] = plan
        return plan is not None


def _locate(
    directory: Path, folder: Path | None, plans: _Plans, said: Mapping[str, str]
) -> Place | None:
    plan = plans.known.get(folder) if folder else None
    place = locate(directory, folder if plan and plan.variants else None, said)
    if place and folder and not plan and place.output != folder:
        # Of a damaged protocol.json it is not known whether it is an ablation's: what lies in
        # different folders must not become one model.
        return locate(directory, folder, said)
    return place


def _unknown(said: Mapping[str, str]) -> str:
    """Why a run in a folder of no known layout is not counted."""
    written = path_in(said, "output_dir")
    known = written is not None and locate(written, said=said) is not None
    return "the folder layout is not a known one" + f"; {written} was, at its time" * known


def _reunite(models: Mapping[Path, Models], heads: Mapping[Path, Mapping[str, str]]) -> None:
    """Put tests to their trainings in another output folder, as TCP's script leaves them."""
    alone = [
        (key, parts)
        for found in models.values()
        for key, parts in found.items()
        if parts.keys() == {"test_new"} and not is_untrained(key.trainer)
    ]
    for key, parts in alone:
        test = parts["test_new"]
        for found in models.values():
            home = found.get(key, {})
            training = home.get("train_base")
            if training and "test_new" not in home and _belongs(test, training, heads):
                home["test_new"] = parts.pop("test_new")
                break
    for found in models.values():
        for key in [key for key, parts in found.items() if not parts]:
            del found[key]


def _belongs(test: Place, training: Place, heads: Mapping[Path, Mapping[str, str]]) -> bool:
    """Whether a test in another output folder says that it tested this training."""
    said, trained = heads[test.directory], heads[training.directory]
    stated = said.get("model_dir") and said.get("output_dir")
    return bool(stated) and is_model_of(said, test.directory, trained, training.directory)


def _halves(models: Mapping[Path, Models]) -> list[str]:
    """Which halves of the classes are tested at all: `base`, `new`."""
    parts = {part for found in models.values() for places in found.values() for part in places}
    return ["base"] * bool(parts & {"train_base", "test_base"}) + ["new"] * ("test_new" in parts)


def _read_folder(
    folder: Path,
    plan: ProtocolRecord | None,
    models: Models,
    admitted: Collection[RunKey],
    halves: Collection[str],
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
    read_base_to_new(plan, kept, ("base", "new") if plan else halves, results)
    trained = {k.dataset for k, p in models.items() if "all" in p and not is_untrained(k.trainer)}
    read_all_classes(plan, kept, trained, results)
    # Asked for one run's folder, nobody wants to hear of the others.
    if plan and folder.is_relative_to(results.root.resolve()) and len(kept) == len(models):
        results.problems += [Problem(folder, reason) for reason in not_started(plan, models)]


def _leaks(results: Results, heads: Mapping[Path, Mapping[str, str]]) -> list[str]:
    """A note about the runs that were trained with what no result may know."""
    knowing = {
        " ".join(filter(None, (place.key.variant, place.key.trainer)))
        for place in results.places
        if _ORACLE in heads[place.directory].get("opts", "")
    }
    return [
        f"{name}: trained with the true new classes as novel names (TRAINER.SAR.NOVEL oracle), a "
        "leak: an upper bound, not a result"
        for name in sorted(knowing)
    ]


def _inventory(keys: Collection[RunKey]) -> str:
    columns = {
        "datasets": {k.dataset for k in keys},
        "trainers": {k.trainer for k in keys},
        "configs": {k.cfg for k in keys},
    }
    return "; ".join(f"{name}: {', '.join(sorted(found))}" for name, found in columns.items())
