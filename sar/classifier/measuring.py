"""`sarclip evaluate`: how well a classifier labels known pictures, printed and written."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch

from sar.classifier.confusion import draw
from sar.classifier.labelling import logits_by_batch
from sar.classifier.predictor import Classifier
from sar.classifier.scores import COLUMNS, Scores, known_pictures, labels_of, score
from sar.errors import DataError
from sar.files import atomic_write, make_folder, write_file
from sar.results.formats import csv_text


def evaluate(classifier: Classifier, place: Path, output: Path) -> Scores:
    """Measure a classifier on the pictures at `place` (`known_pictures`); print, and write files.

    Classes of the pictures that the classifier does not have are added to it. `output` gets
    scores.json, classes.csv and confusion.png.

    Raises:
        DataError: no pictures, or some that cannot be read, after the others have been counted.
        ConfigError: classes that cannot be added.
    """
    known = known_pictures(place)
    labels = labels_of(known, classifier)
    make_folder(output, "give another --output")
    number = {path: position for position, (path, _) in enumerate(known)}
    if len(number) < len(known):
        raise DataError(f"{place} names a picture twice; name each once")
    read: list[int] = []
    logits: list[torch.Tensor] = []
    problem: DataError | None = None
    try:
        for paths, some in logits_by_batch(classifier, list(number)):
            read += [number[path] for path in paths]
            logits.append(some)
    except DataError as error:
        problem = error
    if not read:
        raise problem or DataError(f"{place} has no pictures")
    scores = score(torch.cat(logits), labels[read], classifier.classes, classifier.base_classes)
    print(scores.text())
    _write(scores, f"{classifier.method} on {place}", output)
    if problem is not None:
        raise problem
    return scores


def _write(scores: Scores, title: str, output: Path) -> None:
    content: dict[str, Any] = {
        "accuracy": {
            kind: {**dataclasses.asdict(found), "percent": found.accuracy}
            for kind, found in scores.accuracy.items()
        },
        "harmonic_mean": scores.harmonic_mean,
        "names": scores.names,
        "classes": [dataclasses.asdict(one) for one in scores.classes],
        "confusion": scores.confusion.tolist(),
    }
    write_file(output / "scores.json", json.dumps(content, ensure_ascii=False) + "\n")
    write_file(output / "classes.csv", csv_text(COLUMNS, scores.rows()))
    with atomic_write(output / "confusion.png") as file:
        draw(scores, title).savefig(file, format="png", dpi=130)
    print(f"\nwrote scores.json, classes.csv and confusion.png to {output}")
