"""Class names of the field's eleven base-to-new datasets, in label order.

They are data (``sar/classes/datasets/<name>.json``, each with its sources), so that class lists,
splits and novel classes can be worked with before any image is there. The names are those which
CoOp's loaders give (Zhou et al., IJCV 2022), underscores included.
"""

import json
from collections.abc import Sequence
from importlib import resources
from typing import TypeVar

from sar.errors import DataError

_FOLDER = resources.files("sar.classes") / "datasets"
_Name = TypeVar("_Name")


def known_datasets() -> list[str]:
    """Registered names of the datasets whose class names are packaged, sorted."""
    return sorted(
        entry.name.removesuffix(".json")
        for entry in _FOLDER.iterdir()
        if entry.name.endswith(".json")
    )


def class_names(dataset: str) -> list[str]:
    """All class names of a dataset, in label order.

    `dataset` is the registered name (``cfg.DATASET.NAME``, e.g. ``"OxfordPets"``). Raises
    `DataError` for a dataset that is not packaged.
    """
    if dataset not in (known := known_datasets()):
        raise DataError(
            f"No class names are packaged for the dataset {dataset!r}; expected one of "
            f"{', '.join(known)}. Class names of other datasets come from their images."
        )
    content = json.loads((_FOLDER / f"{dataset}.json").read_text("utf-8"))
    names: list[str] = content["classes"]
    return names


def split_base_new(classes: Sequence[_Name]) -> tuple[list[_Name], list[_Name]]:
    """Base classes, the first ceil(n/2) of n, and new classes, the rest (CoCoOp's protocol)."""
    middle = (len(classes) + 1) // 2
    return list(classes[:middle]), list(classes[middle:])
