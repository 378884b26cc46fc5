"""Lists of images kept in files that CoOp reads and writes too: few-shot selections, and more.

A file holds a pickled {"train": [Datum], "val": [Datum]}. Pickles can run code, so reading accepts
nothing but `Datum`, whoever wrote it; writing refers to it under Dassl's name.
"""

import gc
import io
import os
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sar.errors import DataError
from sar.files import write_file
from sar.locks import one_at_a_time
from sar.toolbox.data.datasets.base_dataset import DatasetBase, Datum, Split
from sar.toolbox.utils.tools import mkdir_if_missing
from sar.unpickling import InertUnpickler

_DASSL = "dassl.data.datasets.base_dataset"  # the module of its Datum
_VAL_SHOTS = 4  # validation takes at most this many per class
_AGAIN = "draw the shots again; the same seed draws the same"


def fewshot_split(
    dataset: DatasetBase, train: Split, val: Split, num_shots: int, seed: int, folder: str
) -> tuple[Split, Split]:
    """The selection for `num_shots` and `seed`: read from `folder`, or drawn and written there.

    Below one shot, `train` and `val` come back whole. Raises DataError for a file whose classes
    are not those of `train`.
    """
    if num_shots < 1:
        return train, val
    path = Path(folder, f"shot_{num_shots}-seed_{seed}.pkl")
    try:
        mkdir_if_missing(folder)
    except OSError as error:
        print(f"Cannot make {folder}: {error}")
    with one_at_a_time(Path(folder, ".lock"), "drawing shots"):
        if path.exists():
            print(f"Loading preprocessed few-shot data from {path}")
            drawn = read_fewshot(path)
            _check_classes(path, drawn[0], train)
            return drawn
        train = dataset.generate_fewshot_dataset(train, num_shots=num_shots)
        if val:
            val = dataset.generate_fewshot_dataset(val, num_shots=min(num_shots, _VAL_SHOTS))
        write_data(path, train=train, val=val)
    return train, val


def read_fewshot(path: Path) -> tuple[Split, Split]:
    """Training and validation shots; CoOp's files for ImageNet have no validation shots.

    Raises DataError for a file that is damaged, holds anything else or names lost images.
    """
    train, val = read_data(path, ("train", "val"), _AGAIN, optional="val")
    for item in (*train, *val):
        _check_image(path, item, _AGAIN)
    return train, val


def read_data(
    path: Path, parts: Sequence[str], again: str, optional: str = ""
) -> tuple[Split, ...]:
    """The named lists of images in `path`; only the first image of each is looked for.

    Args:
        again: what happens if the user deletes the file.
        optional: a part that may be missing, and is then empty.

    Raises DataError for a file that is damaged or holds anything else.
    """
    try:
        content = _load(path)
        lists = tuple(
            content.get(part, []) if part == optional else content[part] for part in parts
        )
        if not all(isinstance(item, Datum) for items in lists for item in items):
            raise TypeError("it holds other things than images")
    except Exception as error:  # a damaged pickle fails in many ways
        raise DataError(f"{path} cannot be read ({error}); delete it to {again}") from error
    for items in lists:
        if items:
            _check_image(path, items[0], again)
    return lists


def write_data(path: Path, **parts: Split) -> None:
    """Write what `read_data` reads; where that is not allowed, say so and go on."""
    # Protocol 2 names a class in plain text, once; Dassl need not be installed to be named.
    data = pickle.dumps(parts, protocol=2)
    try:
        ours, theirs = (f"c{module}\n".encode() for module in (Datum.__module__, _DASSL))
        write_file(path, data.replace(ours, theirs, 1))
    except OSError as error:
        print(f"Cannot save {path}: {error}. The list is made anew each time")
    else:
        print(f"Saved list of images to {path}")


def _check_image(path: Path, item: Datum, again: str) -> None:
    if not os.path.isfile(item.impath):
        raise DataError(
            f"{path} names {item.impath}, which does not exist. If the dataset was moved, delete "
            f"the file to {again}"
        )


def _check_classes(path: Path, drawn: Split, train: Split) -> None:
    then, now = ({item.label: item.classname for item in items} for items in (drawn, train))
    odd = [label for label in sorted({*then, *now}) if then.get(label) != now.get(label)]
    if odd:
        raise DataError(
            f"{path} was drawn from other classes than the dataset has now: label {odd[0]} was "
            f"{then.get(odd[0])!r} and is {now.get(odd[0])!r} ({len(odd)} labels differ). If the "
            "class list has changed, delete the file to draw new shots; results with the old list "
            "cannot be compared with new ones"
        )


def _load(path: Path) -> Any:
    # A million new objects (ImageNet) make the garbage collector search in vain, for half the time.
    collecting = gc.isenabled()
    gc.disable()
    try:
        return _Unpickler(io.BytesIO(path.read_bytes())).load()
    finally:
        if collecting:
            gc.enable()


class _Unpickler(InertUnpickler):
    def unknown(self, module: str, name: str) -> Any:
        if name == "Datum":
            return Datum
        raise pickle.UnpicklingError(f"it refers to {module}.{name}")
