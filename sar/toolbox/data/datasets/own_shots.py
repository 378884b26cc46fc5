"""The few shots that are drawn from one's own pictures: kept in the cache, not beside them.

So every trainer learns from the same ones, even if pictures are added between two trainings. A
selection that is no longer valid is drawn anew: there are no published results to compare with.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

from sar.errors import DataError, StorageError
from sar.storage.cache import cache_folder, key_of
from sar.storage.files import make_folder, write_file
from sar.storage.texts import read_json
from sar.toolbox.data.datasets.base_dataset import DatasetBase, Split
from sar.toolbox.data.datasets.fewshot import VAL_SHOTS


def own_shots(
    dataset: DatasetBase, home: Path, train: Split, val: Split, num_shots: int, seed: int
) -> tuple[Split, Split]:
    """The selection for `num_shots` and `seed`; below one shot, `train` and `val` come back whole.

    Args:
        home: the folder that paths in the selection are relative to.
    """
    if num_shots < 1:
        return train, val
    parts = {"train": (train, num_shots), "val": (val, min(num_shots, VAL_SHOTS))}
    file = _file(home, train, num_shots, seed)
    if file and (found := _kept(file, home, parts)):
        print(f"Loading few-shot data from {file}")
        return found["train"], found["val"]
    drawn = {
        part: dataset.generate_fewshot_dataset(items, num_shots=shots) if items else items
        for part, (items, shots) in parts.items()
    }
    if file:
        _keep(file, home, drawn)
    return drawn["train"], drawn["val"]


def _file(home: Path, train: Split, num_shots: int, seed: int) -> Path | None:
    """Where the selection from these classes is kept; None where nothing is."""
    if (folder := cache_folder()) is None:
        return None
    classes = dict.fromkeys(f"{item.label} {item.classname}" for item in train)
    key = key_of(*map(ascii, (str(home), *classes)))[:16]  # a folder's name may be in no encoding
    return folder / "shots" / key / f"shot_{num_shots}-seed_{seed}.json"


def _kept(file: Path, home: Path, parts: dict[str, tuple[Split, int]]) -> dict[str, Split] | None:
    """The selection in a file; None unless it is one from today's pictures."""
    if not file.is_file():
        return None
    try:
        listed = read_json(file)
        return {
            part: _chosen([os.path.join(home, path) for path in listed[part]], items, shots)
            for part, (items, shots) in parts.items()
        }
    except (DataError, LookupError, TypeError) as error:
        print(f"Note: the shots in {file} are drawn anew: {error}")
        return None


def _chosen(paths: list[str], items: Split, shots: int) -> Split:
    today = {item.impath: item for item in items}
    if lost := [path for path in paths if path not in today]:
        raise DataError(f"{lost[0]} is not there any more")
    chosen = [today[path] for path in dict.fromkeys(paths)]
    there, taken = (Counter(item.label for item in some) for some in (items, chosen))
    for label, count in there.items():
        if taken[label] != min(shots, count):
            raise DataError(f"{taken[label]} of {count} pictures of label {label} are in it")
    return chosen


def _keep(file: Path, home: Path, drawn: dict[str, Split]) -> None:
    listed = {
        part: [os.path.relpath(i.impath, home) for i in items] for part, items in drawn.items()
    }
    try:
        make_folder(file.parent)
        write_file(file, json.dumps(listed, indent=1) + "\n")
    except StorageError as error:
        print(f"Cannot keep the shots: {error}")
    else:
        print(f"Saved list of images to {file}")
