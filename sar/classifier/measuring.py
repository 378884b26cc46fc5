"""`sarclip evaluate`: how well a classifier labels known pictures, printed and written."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from sar.classifier.confidence import detection, known_share
from sar.classifier.confusion import draw
from sar.classifier.labelling import outputs_by_batch
from sar.classifier.predictor import Classifier
from sar.classifier.scores import (
    COLUMNS,
    Detection,
    Known,
    Scores,
    calibration,
    known_pictures,
    labels_of,
    parted,
    score,
)
from sar.errors import ConfigError, DataError
from sar.predictions import Predictions
from sar.results.evaluations import SCORES_FILE
from sar.results.formats import csv_text
from sar.results.gallery import Mistake, gallery_page, surest
from sar.storage.files import atomic_write, make_folder, write_file
from sar.storage.locks import RUN_LOCK, alone
from sar.storage.texts import read_json
from sar.toolbox.config import dataset_title

MOST_MISTAKES = 48


@contextlib.contextmanager
def own_output(output: Path, asked: Mapping[str, Any]) -> Iterator[None]:
    """The folder that `evaluate` writes to, for this process alone; `asked`: by which command.

    What the same command has left there is replaced.

    Raises:
        ConfigError: it holds what another command measured. BusyError: another is at work there.
    """
    with alone(output / RUN_LOCK, output, "another --output"):
        if (output / SCORES_FILE).exists():
            _check_same(output, asked)
        yield


def _check_same(output: Path, asked: Mapping[str, Any]) -> None:
    with contextlib.suppress(DataError, KeyError, TypeError, AttributeError):
        before = read_json(output / SCORES_FILE)["asked"]
        for what, now in asked.items():
            if (then := before.get(what)) != now:
                raise ConfigError(
                    f"{output} holds another evaluation: its {what} was {_in_words(then)}, now "
                    f"{_in_words(now)}; give another --output"
                )
        return
    raise ConfigError(
        f"{output} holds an evaluation that does not say of what it is; give another --output"
    )


def _in_words(given: Any) -> str:
    if given is True or not given:
        return "given" if given else "not given"
    return ", ".join(given) if isinstance(given, list) else str(given)


def evaluate(
    classifier: Classifier,
    place: Path,
    output: Path,
    unknown: bool = False,
    calibrated: bool = False,
    asked: Mapping[str, Any] = MappingProxyType({}),
) -> Scores:
    """Measure a classifier on the pictures at `place` (`known_pictures`); print, and write files.

    `output` gets scores.json, classes.csv, confusion.png and mistakes.html.

    Args:
        unknown: pictures of classes that the classifier does not have are to be told as unknown;
            else these classes are added to it.
        calibrated: calibration errors are measured, too.
        asked: the options of the command, as scores.json says them (`own_output`).

    Raises:
        DataError: no pictures, or some that cannot be read, after the others have been counted.
        ConfigError: classes that cannot be added.
    """
    known = known_pictures(place)
    others: Known = []
    if unknown:
        known, others = parted(known, classifier)
        if not others:
            print(f"All pictures of {place} show classes of the model: none should be unknown")
    labels = labels_of(known, classifier)
    make_folder(output, "give another --output")
    paths = [path for path, _ in (*known, *others)]
    number = {path: position for position, path in enumerate(paths)}
    if len(number) < len(paths):
        raise DataError(f"{place} names a picture twice; name each once")
    read, outputs, problem = _outputs(classifier, paths)
    places = torch.tensor([number[path] for path in read], dtype=torch.long)
    if not read or not (seen := places < len(known)).any():
        raise problem or DataError(f"{place} has no pictures of the classes")
    output_of_all, labels = torch.cat(outputs), labels[places[seen]]
    names, base = classifier.classes, classifier.base_classes
    logits = output_of_all[seen, : len(names)]
    scores = score(logits, labels, names, base)
    if calibrated:
        at = classifier.recipe.temperature
        scores = replace(scores, calibration=calibration(logits, labels, names, base, at))
    if unknown and not seen.all():
        scores = replace(scores, detection=_detection(classifier, output_of_all, seen))
    print(scores.text())
    mistakes = _mistakes(classifier, logits, labels, [paths[at] for at in places[seen].tolist()])
    about = {**_about(classifier, place), "asked": dict(asked)}
    _write(about, scores, mistakes, output)
    if problem is not None:
        raise problem
    return scores


def _outputs(
    classifier: Classifier, paths: Sequence[Path]
) -> tuple[list[Path], list[torch.Tensor], DataError | None]:
    """The pictures that could be read, their outputs by batch, and what to say of the others."""
    read: list[Path] = []
    outputs: list[torch.Tensor] = []
    try:
        for some, output in outputs_by_batch(classifier, paths):
            read += some
            outputs.append(output)
    except DataError as error:
        return read, outputs, error
    return read, outputs, None


def _mistakes(
    classifier: Classifier, logits: torch.Tensor, labels: torch.Tensor, paths: Sequence[Path]
) -> list[Mistake]:
    """The surest ones of logits (N, C) for labels (N,); `paths`: of the N pictures."""
    sure, predicted = classifier.probabilities(logits).max(dim=1)
    found = Predictions(
        labels.numpy().astype("int32"),
        predicted.numpy().astype("int32"),
        sure.numpy(),
        "",
        classifier.classes,
        tuple(map(str, paths)),
    )
    return surest(found, MOST_MISTAKES)


def _detection(classifier: Classifier, output: torch.Tensor, known: torch.Tensor) -> Detection:
    """`known`: (N,) which pictures of an `output` (N, C + M) show one of the classes."""
    share = known_share(output, len(classifier.classes))
    passed = 100.0 * (share >= classifier.recipe.threshold).double()
    return Detection(
        *detection(share[known], share[~known]),
        kept=float(passed[known].mean()),
        rejected=100.0 - float(passed[~known].mean()),
        known=int(known.sum()),
        unknown=int((~known).sum()),
    )


def _about(classifier: Classifier, place: Path) -> dict[str, Any]:
    """What was measured, and on what; tables group by it."""
    cfg = classifier.recipe.cfg
    trained = bool(classifier.recipe.learned)
    return {
        "pictures": str(place.absolute()),
        "method": classifier.method,
        "clip": cfg.MODEL.BACKBONE.NAME,
        "trained_on": dataset_title(cfg) if trained else "",
        "shots": cfg.DATASET.NUM_SHOTS if trained else 0,
        "seed": cfg.SEED if trained else 1,
    }


def _write(
    about: dict[str, Any],
    scores: Scores,
    mistakes: Sequence[Mistake],
    output: Path,
) -> None:
    title = f"{about['method']} on {about['pictures']}"
    content: dict[str, Any] = {
        **about,
        "accuracy": {
            kind: {**dataclasses.asdict(found), "percent": found.accuracy}
            for kind, found in scores.accuracy.items()
        },
        "harmonic_mean": scores.harmonic_mean,
        "openworld_auc": scores.openworld_auc,
        "calibration": {
            kind: {"ece": plain, "adaptive_ece": adaptive}
            for kind, (plain, adaptive) in scores.calibration.items()
        },
        "unknown": scores.detection and dataclasses.asdict(scores.detection),
        "names": scores.names,
        "classes": [dataclasses.asdict(one) for one in scores.classes],
        "confusion": scores.confusion.tolist(),
    }
    write_file(output / SCORES_FILE, json.dumps(content, ensure_ascii=False) + "\n")
    write_file(output / "classes.csv", csv_text(COLUMNS, scores.rows()))
    with atomic_write(output / "confusion.png") as file, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # names in scripts that the font has not
        draw(scores, title).savefig(file, format="png", dpi=130)
    write_file(output / "mistakes.html", gallery_page(mistakes, f"Surest mistakes: {title}"))
    print(f"\nwrote scores.json, classes.csv, confusion.png and mistakes.html to {output}")
