"""Datasets that need no code of their own: classes made from their records."""

from __future__ import annotations

from sar.data.layouts import layout_of
from sar.settings.dataset_records import records
from sar.toolbox.data.datasets.base_dataset import DATASET_REGISTRY, DatasetBase
from sar.toolbox.data.datasets.fixed_split import CoOpDataset
from sar.toolbox.data.datasets.own import ImageCSV, ImageFolder

BASES: dict[str, type[DatasetBase]] = {
    "folders": ImageFolder,
    "table": ImageCSV,
    "split": CoOpDataset,
}
"""By the reader of a record."""


def register_recorded() -> None:
    """Register what `sar.settings.dataset_records` knows and no Python file has registered."""
    for record in records():
        if record.reader and record.name not in DATASET_REGISTRY.registered_names():
            base = BASES[record.reader]
            body = {"layout": layout_of(record), "folder": record.folder, "__doc__": base.__doc__}
            DATASET_REGISTRY.register(type(record.name, (base,), body))
