"""What a test predicted for every image: a small file beside its log, read without torch."""

from __future__ import annotations

import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sar.errors import DataError
from sar.storage.files import atomic_write

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PREDICTIONS_FILE = "predictions.npz"
_TEXTS = ("names", "paths")
_TEXT = ("utf-8", "surrogatepass")  # a file's name may be in no encoding


@dataclass(frozen=True)
class Predictions:
    """One entry for each of N test images, in the order of the dataset.

    Raises:
        DataError: numbers of entries that differ, or none, or what is no probability.
    """

    label: NDArray[np.int32]
    """(N,) the true class."""
    predicted: NDArray[np.int32]
    """(N,) the class with the highest score."""
    confidence: NDArray[np.float32]
    """(N,) its probability, from 0 to 1."""
    images: str
    """A hash (64 hex digits) of which images there are, with which labels, in which order."""
    names: tuple[str, ...] = ()
    """Of the classes by their numbers; empty in files of earlier versions."""
    paths: tuple[str, ...] = ()
    """(N,) where the images lay; empty in files of earlier versions."""

    def __post_init__(self) -> None:
        shapes = {array.shape for array in (self.label, self.predicted, self.confidence)}
        if len(shapes) != 1 or self.label.ndim != 1 or not len(self.label):
            raise DataError(f"predictions need a label, a class and a confidence each: {shapes}")
        if not ((self.confidence >= 0) & (self.confidence <= 1)).all():
            raise DataError("confidences that are not from 0 to 1")
        if self.paths and len(self.paths) != len(self.label):
            raise DataError(f"{len(self.paths)} paths of {len(self.label)} images")

    @property
    def correct(self) -> NDArray[np.bool_]:
        """(N,) whether the true class was predicted."""
        return self.label == self.predicted

    @property
    def accuracy(self) -> float:
        """In percent; equal to what the log's counts give."""
        return 100.0 * int(self.correct.sum()) / len(self.label)

    def are_of(self, accuracy: float) -> bool:
        """Whether a test with this accuracy, in percent, may have made them."""
        return abs(self.accuracy - accuracy) < 1e-9


def write_predictions(folder: str | os.PathLike[str], predictions: Predictions) -> None:
    """Write the file into a run's folder, whole or not at all."""
    import numpy as np

    content = vars(predictions) | {
        name: np.frombuffer(_joined(getattr(predictions, name)), np.uint8) for name in _TEXTS
    }
    with atomic_write(Path(folder, PREDICTIONS_FILE)) as file:
        np.savez_compressed(file, allow_pickle=False, **content)


def _joined(texts: tuple[str, ...]) -> bytes:
    return "\0".join(text.replace("\0", " ") for text in texts).encode(*_TEXT)


def read_predictions(folder: str | os.PathLike[str]) -> Predictions | None:
    """The predictions in a run's folder; None where there are none.

    Raises:
        DataError: the file is damaged.
    """
    path = Path(folder, PREDICTIONS_FILE)
    if not path.is_file():
        return None
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as found:
            arrays = {name: found[name] for name in ("label", "predicted", "confidence")}
            texts: dict[str, Any] = {
                name: tuple(found[name].tobytes().decode(*_TEXT).split("\0"))
                for name in _TEXTS
                if name in found and found[name].size
            }
            images = str(found["images"])
            int(images, 16)  # ValueError for what is no hash
            return Predictions(**arrays, images=images, **texts)
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, DataError) as error:
        raise DataError(
            f"{path} is damaged ({error}); test again with --eval-only, or remove it"
        ) from error
