from .base_dataset import DATASET_REGISTRY, DatasetBase, Datum, build_dataset
from .fewshot import fewshot_split, read_fewshot, write_data

__all__ = [
    "DATASET_REGISTRY",
    "DatasetBase",
    "Datum",
    "build_dataset",
    "fewshot_split",
    "read_fewshot",
    "write_data",
]
