"""The few-shot selection of a dataset, kept in files that CoOp reads and writes too.

A file holds a pickled {"train": [Datum], "val": [Datum]}. Pickles can run code, so reading accepts
nothing but `Datum`, whoever wrote it; writing refers to it under Dassl's name.
"""

import io
import os
import pickle
from pathlib import Path
from typing import Any

from sar.errors import DataError
from sar.files import atomic_write
from sar.toolbox.data.datasets.base import DatasetBase, Datum, Split
from sar.toolbox.utils.tools import mkdir_if_missing

_DASSL = "dassl.data.datasets.base_dataset"  # the module of its Datum
_VAL_SHOTS = 4  # validation takes at most this many per class


def fewshot_split(
    dataset: DatasetBase, train: Split, val: Split, num_shots: int, seed: int, folder: str
) -> tuple[Split, Split]:
    """The selection for `num_shots` and `seed`: read from `folder`, or drawn and written there.

    Below one shot, `train` and `val` come back whole.
    """
    if num_shots < 1:
        return train, val
    path = Path(folder, f"shot_{num_shots}-seed_{seed}.pkl")
    if path.exists():
        print(f"Loading preprocessed few-shot data from {path}")
        return read_fewshot(path)
    train = dataset.generate_fewshot_dataset(train, num_shots=num_shots)
    val = dataset.generate_fewshot_dataset(val, num_shots=min(num_shots, _VAL_SHOTS))
    print(f"Saving preprocessed few-shot data to {path}")
    write_fewshot(path, train, val)
    return train, val


def read_fewshot(path: Path) -> tuple[Split, Split]:
    """Raises DataError for a file that is damaged, holds anything else or names lost images."""
    try:
        data = _Unpickler(io.BytesIO(path.read_bytes())).load()
        train, val = data["train"], data["val"]
    except Exception as error:  # a damaged pickle fails in many ways
        raise DataError(
            f"few-shot file {path} cannot be read ({error}); delete it to draw the shots again"
        ) from error
    for item in (*train, *val):
        if not os.path.isfile(item.impath):
            raise DataError(
                f"few-shot file {path} names {item.impath}, which does not exist. If the dataset "
                "was moved, delete the file: the same seed draws the same shots again"
            )
    return train, val


def write_fewshot(path: Path, train: Split, val: Split) -> None:
    mkdir_if_missing(path.parent)
    # Protocol 2 names a class in plain text, once; Dassl need not be installed to be named.
    data = pickle.dumps({"train": train, "val": val}, protocol=2)
    with atomic_write(path) as file:
        file.write(data.replace(f"c{Datum.__module__}\n".encode(), f"c{_DASSL}\n".encode(), 1))


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if name == "Datum":
            return Datum
        if (module, name) == ("copyreg", "__newobj__"):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it refers to {module}.{name}")
