"""From runs to records: what the logs at the places of a model prove."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import replace

from sar.results.claims import contradiction
from sar.results.folders import (
    CONSOLE_FILE,
    Place,
    RunKey,
    fixed_views_name,
    is_untrained,
    locate,
    model_of,
)
from sar.results.log import Run, read_run
from sar.results.protocol import (
    ABLATION,
    BASE2NEW,
    CROSS_DATASET,
    DOMAIN_GENERALIZATION,
    FEW_SHOT,
    ProtocolRecord,
)
from sar.results.record import Problem, Record, Results
from sar.results.starts import number
from sar.results.statistics import harmonic_mean
from sar.settings.dataset_records import records
from sar.storage.files import read_end

Models = dict[RunKey, dict[str, Place]]
"""Model -> part -> place."""
Trainings = Mapping[RunKey, Run]
_SUBSETS = {"train_base": "base", "test_base": "base", "test_new": "new"}


def read_part(place: Place, results: Results, trainings: Trainings | None = None) -> Run:
    """What the run at a place proves; without a score it is listed among the problems.

    Args:
        trainings: those that a test may belong to; it must have tested what one of them made.
    """
    tested = is_untrained(place.key.trainer) or model_of(place.key) != place.key
    trained = place.part in ("train_base", "all") and not tested
    run = read_run(
        place.directory,
        trained=trained,
        subset=_SUBSETS.get(place.part, "all"),
        against=lambda start: contradiction(start, place, trainings or {}),
    )
    results.notes += [f"{place.directory}: {note}" for note in run.notes]
    if run.score and (first := results.copied(place, run.content)):
        reason = f"a copy of {first}: the logs are the same, byte for byte"
        run = replace(run, score=None, reason=reason)
    if not run.score:
        words = filter(None, (run.reason, _last_words(place)))
        results.problems.append(Problem(place.directory, "; ".join(words)))
    return run


def as_trained(key: RunKey, *runs: Run | None) -> RunKey:
    """The key that a result counts under: what was trained on fixed views is a method of its own.

    Args:
        runs: the training and its tests; the first that states its views decides.
    """
    stated = [run.said["VIEWS"] for run in runs if run and "VIEWS" in run.said]
    views = number("".join(stated[:1])) or 0
    if views == 0 or is_untrained(key.trainer):
        return key
    return replace(key, trainer=fixed_views_name(key.trainer, views))


def _last_words(place: Place) -> str:
    """The error message a process left in console.txt; the log holds only the toolbox's own."""
    last = read_end(place.directory / CONSOLE_FILE).strip().rpartition("\n")[2]
    return last if re.match(r"[\w.]*(Error|Exception|Interrupt)\b", last) else ""


def read_base_to_new(
    plan: ProtocolRecord | None,
    models: Models,
    halves: Collection[str],
    results: Results,
) -> None:
    """Base and new accuracy of every model.

    Args:
        halves: which of `base` and `new` there are at all; a model that lacks one of them is
            incomplete.
    """
    for key, places in models.items():
        # The training's own final test is the base accuracy; test_base serves where none was
        # trained.
        base_place = places.get("train_base") or places.get("test_base")
        new_place = places.get("test_new")
        base = read_part(base_place, results) if base_place else None
        known = {key: base} if base and base_place and base_place.part == "train_base" else {}
        if base and known and "test_base" in places:
            _compare(base, read_part(places["test_base"], results, known), results)
        new = read_part(new_place, results, known) if new_place else None
        found = {
            half: (run.directory, run.score.accuracy)
            for half, run in (("base", base), ("new", new))
            if run and run.score
        }
        if not found:
            continue
        values = {half: accuracy for half, (_, accuracy) in found.items()}
        if missing := [half for half in halves if half not in found]:
            directory = next(directory for directory, _ in found.values())
            reason = f"incomplete: no {missing[0]}-class accuracy"
            results.problems.append(Problem(directory, reason))
            continue
        if len(values) == 2:
            values["h"] = harmonic_mean(values["base"], values["new"])
        protocol = plan.protocol if plan else ABLATION if key.variant else BASE2NEW
        folders = {half: directory for half, (directory, _) in found.items()}
        record = Record(as_trained(key, base, new), values, protocol, folders=folders)
        results.add(record, *folders.values())


def _compare(training: Run, test: Run, results: Results) -> None:
    """Say what becomes of a test on the base classes, which the training has tested itself."""
    if not test.score:
        return
    accuracy = f"{test.score.accuracy:.2f} %"
    if test.score == training.score:
        results.notes.append(f"{test.directory}: {accuracy}, as in the training's own test")
        return
    own = f"{training.score.accuracy:.2f} %" if training.score else "no result"
    reason = f"{accuracy}, but the training itself has {own}"
    results.problems.append(Problem(test.directory, reason))


def read_all_classes(
    plan: ProtocolRecord | None, models: Models, trained: Collection[str], results: Results
) -> None:
    """One accuracy over all classes: few-shot, or a source and the tests on other datasets.

    The tests' logs say which trainings are their sources. `trained`: all datasets with a training.
    """
    there = {key: places["all"] for key, places in models.items() if "all" in places}
    trainings = {k: read_part(place, results) for k, place in there.items() if k == model_of(k)}
    runs = trainings | {
        k: read_part(place, results, trainings) for k, place in there.items() if k not in trainings
    }
    sources: dict[tuple[str, str, int], set[tuple[str, str]]] = defaultdict(set)
    shifts = {domain for record in records() for domain in record.domains}
    for key, places in models.items():
        if "evaluation" not in places:
            continue
        run = read_part(places["evaluation"], results, trainings)
        if run.score:
            shift = key.dataset in shifts  # where no protocol.json says what it is
            protocol = DOMAIN_GENERALIZATION if shift else CROSS_DATASET
            protocol = plan.protocol if plan else protocol
            source = _source(run, key.trainer, plan, trained)
            sources[key.trainer, key.cfg, key.shots].add((protocol, source))
            accuracy = {"accuracy": run.score.accuracy}
            folders = {"accuracy": run.directory}
            training = trainings.get(replace(model_of(key), dataset=source))
            name = as_trained(key, training, run)
            results.add(Record(name, accuracy, protocol, source, folders), run.directory)
    tested = {source for found in sources.values() for _, source in found}
    for key, run in runs.items():
        if not run.score:
            continue
        accuracy, folders = {"accuracy": run.score.accuracy}, {"accuracy": run.directory}
        name = as_trained(key, run)
        if plan:
            source = key.dataset if plan.source else ""
            results.add(Record(name, accuracy, plan.protocol, source, folders), run.directory)
            continue
        found = sources[key.trainer, key.cfg, key.shots]
        serves = sorted(protocol for protocol, source in found if source == key.dataset)
        for protocol in serves:
            results.add(Record(name, accuracy, protocol, key.dataset, folders), run.directory)
        # The checkouts' scripts share one folder: a source may also be one of many datasets.
        if not serves or not tested >= set(trained):
            results.add(Record(name, accuracy, FEW_SHOT, folders=folders), run.directory)


def _source(run: Run, trainer: str, plan: ProtocolRecord | None, trained: Collection[str]) -> str:
    """The dataset whose training a test on another one belongs to."""
    model = run.model_directory
    loaded = locate(model, said={"trainer": trainer}) if model else None
    if loaded and loaded.part == "all":
        return loaded.key.dataset
    if plan and plan.source:
        return plan.source
    return next(iter(trained)) if len(trained) == 1 else "unknown"
