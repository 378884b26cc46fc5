from .data_manager import DataManager, DatasetWrapper
from .datasets import DATASET_REGISTRY, DatasetBase, Datum, build_dataset
from .transforms import build_transform

__all__ = [
    "DATASET_REGISTRY",
    "DataManager",
    "DatasetBase",
    "DatasetWrapper",
    "Datum",
    "build_dataset",
    "build_transform",
]
