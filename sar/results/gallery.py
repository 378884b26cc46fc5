"""Pictures that were taken for another class, surest first, small enough to be inside a page."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass

from sar.errors import DataError
from sar.picture import read_seen
from sar.predictions import Predictions
from sar.results.pages import data_uri, template

SIDE = 128  # pixels of a thumbnail


@dataclass(frozen=True)
class Mistake:
    """A picture and what it was taken for."""

    path: str
    true: str
    predicted: str
    confidence: float
    """From 0 to 1."""
    image: str
    """A small copy as a data: URI."""


def surest(predictions: Predictions, most: int) -> list[Mistake]:
    """At most so many mistakes, the surest first, of pictures that are still there.

    At most a third show one class, so that one that is always wrong hides no other.
    """
    if not (predictions.names and predictions.paths):
        return []
    wrong = (~predictions.correct).nonzero()[0]
    found: list[Mistake] = []
    shown: dict[str, int] = {}
    for row in wrong[(-predictions.confidence[wrong]).argsort(kind="stable")].tolist():
        if len(found) == most:
            break
        true = predictions.names[predictions.label[row]]
        path = predictions.paths[row]
        if shown.get(true, 0) >= max(1, most // 3) or not os.path.isfile(path):
            continue
        try:
            image = thumbnail(path)
        except DataError:
            continue
        shown[true] = shown.get(true, 0) + 1
        predicted = predictions.names[predictions.predicted[row]]
        found.append(Mistake(path, true, predicted, float(predictions.confidence[row]), image))
    return found


def gallery_page(mistakes: Sequence[Mistake], title: str) -> str:
    """A page of its own, without anything outside it."""
    return template("mistakes.html.j2").render(mistakes=mistakes, title=title)


def thumbnail(path: str) -> str:
    """A small copy of a picture as a data: URI. Raises DataError where it cannot be read."""
    image = read_seen(path)
    image.thumbnail((SIDE, SIDE))
    content = io.BytesIO()
    image.save(content, "JPEG", quality=80)
    return data_uri("jpeg", content.getvalue())
