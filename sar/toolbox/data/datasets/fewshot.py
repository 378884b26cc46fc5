"""Lists of images kept in files that CoOp reads and writes too: few-shot selections, and more.

A file holds a pickled {"train": [Datum], "val": [Datum]}. Pickles can run code, so reading accepts
nothing but `Datum`, whoever wrote it; writing refers to it under Dassl's name.

A selection outlives the list that it was drawn from: labels are corrected, images move between
training and test, folders are copied and then changed. So a file says which images were drawn, and
nothing more. The images themselves are those of the list as it is today, with today's labels, or
the file is refused. Paths are absolute in the file, for CoOp, and are read relative to wherever the
dataset lies now.
"""

import gc
import io
import os
import pickle
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sar.errors import DataError
from sar.storage.files import write_file
from sar.storage.locks import one_at_a_time
from sar.storage.unpickling import InertUnpickler
from sar.toolbox.data.datasets.base_dataset import DatasetBase, Datum, Split
from sar.toolbox.utils.tools import mkdir_if_missing

_DASSL = "dassl.data.datasets.base_dataset"  # the module of its Datum
VAL_SHOTS = 4
"""Validation takes at most so many per class."""
_AGAIN = "draw the shots again; the same seed draws the same"


def fewshot_split(
    dataset: DatasetBase, train: Split, val: Split, num_shots: int, seed: int, folder: str
) -> tuple[Split, Split]:
    """The selection for `num_shots` and `seed`: read from `folder`, or drawn and written there.

    Below one shot, `train` and `val` come back whole. Raises DataError for a file that is not a
    selection from `train` and `val` as they are.
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
            return (
                _of_today(path, drawn[0], train, num_shots, "training"),
                _of_today(path, drawn[1], val, min(num_shots, VAL_SHOTS), "validation"),
            )
        train = dataset.generate_fewshot_dataset(train, num_shots=num_shots)
        if val:
            val = dataset.generate_fewshot_dataset(val, num_shots=min(num_shots, VAL_SHOTS))
        write_data(path, train=train, val=val)
    return train, val


def read_fewshot(path: Path) -> tuple[Split, Split]:
    """Training and validation shots; CoOp's files for ImageNet have no validation shots.

    Raises DataError for a file that is damaged or holds anything else. Images are not looked for.
    """
    train, val = read_data(path, ("train", "val"), _AGAIN, optional="val")
    return train, val


def read_data(
    path: Path, parts: Sequence[str], again: str, optional: str = ""
) -> tuple[Split, ...]:
    """The named lists of images in `path`; the images themselves are not looked for.

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


def _of_today(path: Path, drawn: Split, today: Split, shots: int, part: str) -> Split:
    """Of `today`'s images those that were `drawn`, in that order.

    Raises DataError unless they are `shots` different ones of each class, or all that it has.
    """
    place = _moved(drawn, today, str(path.parent.parent))
    wanted = {place(item.impath): item for item in drawn}
    found = {item.impath: item for item in today if item.impath in wanted}
    odd = [
        f"{item.impath} is no {part} image now"
        if now is None
        else f"{item.impath} was {item.classname!r} (label {item.label}) and is "
        f"{now.classname!r} (label {now.label})"
        for item, now in ((item, found.get(place)) for place, item in wanted.items())
        if now is None or (now.label, now.classname) != (item.label, item.classname)
    ]
    there, chosen = (Counter(item.label for item in items) for items in (today, found.values()))
    odd += [
        f"{chosen[label]} {part} images of label {label} were drawn, and {min(shots, count)} of "
        f"{count} would be now"
        for label, count in there.items()
        if not odd and chosen[label] != min(shots, count)
    ]
    if len(wanted) < len(drawn):
        odd.append("an image is there twice")
    if odd:
        more = f" ({len(odd)} such changes)" if len(odd) > 1 else ""
        raise DataError(
            f"{path} is no selection from the dataset as it is now: {odd[0]}{more}. If the data "
            "was changed on purpose, delete the file to draw new shots; results with the old ones "
            "cannot be compared with new ones"
        )
    return [found[path] for path in wanted]


def _moved(drawn: Split, today: Split, home: str) -> Callable[[str], str]:
    """Maps the path of an image where it was drawn to its path today, below `home`.

    Where the dataset lay then follows from the first image: its path without the longest end that
    is a path below `home` today. If there is none, or it lay at `home`, paths stay as they are.
    """
    inside = f"{home}{os.sep}"
    first = drawn[0].impath if drawn else inside
    if first.startswith(inside):
        return lambda path: path
    ends = [p.removeprefix(inside) for p in (item.impath for item in today) if p.startswith(inside)]
    end = max((end for end in ends if first.endswith(f"{os.sep}{end}")), key=len, default="")
    before = first.removesuffix(end)

    def place(path: str) -> str:
        return inside + path.removeprefix(before) if end and path.startswith(before) else path

    return place


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
    if not path.is_file():
        raise ValueError("it is no file")
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
