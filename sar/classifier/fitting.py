"""What the commands fit on held-out pictures before they use a classifier."""

from __future__ import annotations

from pathlib import Path

from sar.classifier.held_out import HeldOut
from sar.classifier.labelling import novel_in
from sar.classifier.predictor import Classifier
from sar.classifier.recipe import TEMPERATURE, THRESHOLD
from sar.classifier.scores import known_pictures, labels_of, parted
from sar.errors import DataError


def fit(
    classifier: Classifier,
    temperature: bool,
    unknown: bool,
    place: Path | None = None,
    novel: Path | None = None,
) -> None:
    """Fit a temperature, or a threshold for what is unknown, and print what was fitted.

    Args:
        place: pictures of trained classes that the training has not seen; None: those of its own
            dataset. What an exported classifier brings along is then not fitted again.
        novel: file with negative names; None: the novel names of the training.

    Raises:
        DataError: no such pictures or names, and what to give.
    """
    brought = place is None and novel is None
    there = classifier.recipe.fitted_with if brought else {}
    temperature = temperature and TEMPERATURE not in there
    unknown = unknown and THRESHOLD not in there
    if not (temperature or unknown):
        return
    left = HeldOut(classifier.recipe)
    pictures = known_pictures(place) if place else left.pictures()
    known, _ = parted(pictures, classifier)
    if not known:
        raise DataError(
            f"none of the {len(pictures)} held-out pictures shows one of the classes; give others: "
            "--held-out FOLDER"
        )
    paths = [path for path, _ in known]
    if temperature:
        found = classifier.calibrate(paths, labels_of(known, classifier))
        print(f"Temperature {found:.3f}, fitted on {len(paths)} held-out pictures")
    if unknown:
        names = novel_in(novel) if novel else left.negative_names()
        least = classifier.know_unknown(paths, names)
        print(
            f"Unknown: below a share of {least:.4f} for the classes beside "
            f"{len(classifier.recipe.negatives)} negative labels, a threshold that 95 % of "
            f"{len(paths)} held-out pictures reach"
        )
