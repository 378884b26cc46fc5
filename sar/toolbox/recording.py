"""Keeps what a test predicts for every image, beside the run's log."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, SequentialSampler

from sar.predictions import Predictions, write_predictions
from sar.toolbox import distributed
from sar.toolbox.data.contents import content_of


class Recorder:
    """Collects predictions batch by batch (`add`), then writes them (`save`)."""

    def __init__(self) -> None:
        self._batches: list[Tensor] = [torch.empty(3, 0, dtype=torch.float64)]

    def add(self, logits: Tensor, labels: Tensor) -> None:
        """A batch: scores (B, C), labels (B,)."""
        # By scores, as the accuracy counts: probabilities may tie where scores do not.
        columns = (labels, logits.argmax(dim=1), logits.float().softmax(dim=1).amax(dim=1))
        self._batches.append(torch.stack([column.cpu().double() for column in columns]))

    def save(self, folder: str, loader: "DataLoader[Any]", names: Sequence[str] = ()) -> None:
        """Write the file into `folder`, once for all processes, in the order of the dataset.

        `names`: those of the classes. Nothing is written if images come in no fixed order, or if
        there is no such folder: then it is no run's.
        """
        places, images = _places(loader), getattr(loader.dataset, "data_source", None)
        if places is None or images is None or not Path(folder).is_dir():
            return
        rows = torch.cat([torch.tensor([places], dtype=torch.float64), torch.cat(self._batches, 1)])
        found = torch.cat(distributed.gather([rows]), dim=1)
        if distributed.is_first() and len(images):
            _, label, predicted, confidence = found[:, found[0].argsort()].numpy()
            whole = Predictions(
                label.astype("int32"),
                predicted.astype("int32"),
                confidence.astype("float32"),
                content_of(images),
                tuple(names),
                tuple(os.path.abspath(image.impath) for image in images),
            )
            write_predictions(folder, whole)


def _places(loader: "DataLoader[Any]") -> list[int] | None:
    """Where in the dataset this process's images stand; None without a fixed order."""
    batches: Any = loader.batch_sampler
    whole = batches.batches if isinstance(batches, distributed.BatchPart) else batches
    if not isinstance(getattr(whole, "sampler", None), SequentialSampler):
        return None
    return [index for batch in batches for index in batch]
