"""Makes the train, validation and test split of a dataset from its original annotations.

As CoOp does where the published `split_zhou_*.json` is missing: the same rules, and the same draws
from Python's global generator.
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from sar.data.layouts import Layout
from sar.data.reading import Item, Parts, class_folders, files_in, lines_of
from sar.errors import DataError
from sar.toolbox.utils.tools import read_json

TRAIN, VAL = 0.5, 0.2  # fractions of a class; the rest is for the test
HELD_OUT = 0.2  # fraction of a class's training images that becomes validation images
CALTECH_LEFT_OUT = ("BACKGROUND_Google", "Faces_easy")
RENAMED = {
    "airplanes": "airplane",
    "Faces": "face",
    "Leopards": "leopard",
    "Motorbikes": "motorbike",
    "AnnualCrop": "Annual Crop Land",
    "HerbaceousVegetation": "Herbaceous Vegetation Land",
    "Highway": "Highway or Road",
    "Industrial": "Industrial Buildings",
    "Pasture": "Pasture Land",
    "PermanentCrop": "Permanent Crop Land",
    "Residential": "Residential Buildings",
    "SeaLake": "Sea or Lake",
}


def make_split(layout: Layout, folder: Path) -> Parts:
    """A split of the dataset in `folder`. Raises DataError if its annotations are missing too."""
    try:
        return _MAKERS[layout.name](folder, folder / layout.prefix)
    except (OSError, KeyError, ValueError, DataError) as error:
        raise DataError(
            f"{layout.name} has no {layout.split} in {folder}, and no split can be made from the "
            f"original annotations ({error}). {layout.where_to_get(folder.parent)}"
        ) from error


def _by_class_folder(folder: Path, images: Path) -> Parts:
    names = [name for name in class_folders(images) if name not in CALTECH_LEFT_OUT]
    return _cut(
        (label, RENAMED.get(name, name), files_in(images / name))
        for label, name in enumerate(names)
    )


def _flowers(folder: Path, images: Path) -> Parts:
    by_label: dict[int, list[str]] = defaultdict(list)
    for number, label in enumerate(_matlab(folder / "imagelabels.mat", "labels"), start=1):
        by_label[int(label)].append(str(images / f"image_{number:05d}.jpg"))
    names = read_json(folder / "cat_to_name.json")
    return _cut((label - 1, names[str(label)], paths) for label, paths in by_label.items())


def _cut(classes: Iterable[tuple[int, str, list[str]]]) -> Parts:
    """Shuffle the images of each (label, class name, paths) and divide them among the parts."""
    parts: Parts = {"train": [], "val": [], "test": []}
    for label, name, paths in classes:
        random.shuffle(paths)
        train, val = round(len(paths) * TRAIN), round(len(paths) * VAL)
        if not 0 < val < len(paths) - train:
            raise ValueError(f"class {name!r} has {len(paths)} images: too few to split")
        for part, chosen in zip(
            parts, (paths[:train], paths[train : train + val], paths[train + val :]), strict=True
        ):
            parts[part] += [(path, label, name) for path in chosen]
    return parts


def _pets(folder: Path, images: Path) -> Parts:
    def read(file: str) -> list[Item]:
        items = []
        for line in lines_of(folder / "annotations" / file):
            image, label, *_ = line.split(" ")
            name = image.rpartition("_")[0].lower()
            items.append((str(images / f"{image}.jpg"), int(label) - 1, name))
        return items

    return _hold_out(read("trainval.txt"), read("test.txt"))


def _cars(folder: Path, images: Path) -> Parts:
    names = [str(name[0]) for name in _matlab(folder / "devkit" / "cars_meta.mat", "class_names")]

    def read(file: Path, place: str) -> list[Item]:
        items = []
        for row in _matlab(file, "annotations"):
            label = int(row["class"][0, 0]) - 1
            model, _, year = names[label].rpartition(" ")
            items.append((str(images / place / row["fname"][0]), label, f"{year} {model}"))
        return items

    return _hold_out(
        read(folder / "devkit" / "cars_train_annos.mat", "cars_train"),
        read(folder / "cars_test_annos_withlabels.mat", "cars_test"),
    )


def _sun(folder: Path, images: Path) -> Parts:
    labels = {line[1:]: label for label, line in enumerate(lines_of(folder / "ClassName.txt"))}

    def read(file: str) -> list[Item]:
        items = []
        for line in lines_of(folder / file):
            category = line[1:].rpartition("/")[0]  # a/abbey, c/church/outdoor
            name = " ".join(reversed(category.split("/")[1:]))
            items.append((str(images / line[1:]), labels[category], name))
        return items

    return _hold_out(read("Training_01.txt"), read("Testing_01.txt"))


def _ucf(folder: Path, images: Path) -> Parts:
    lists = folder / "ucfTrainTestlist"
    numbered = (line.split(" ") for line in lines_of(lists / "classInd.txt"))
    labels = {action: int(number) - 1 for number, action in numbered}

    def read(file: str) -> list[Item]:
        items = []
        for line in lines_of(lists / file):
            action, video = line.split(" ")[0].split("/")
            name = "_".join(re.findall("[A-Z][^A-Z]*", action))
            frame = images / name / video.replace(".avi", ".jpg")
            items.append((str(frame), labels[action], name))
        return items

    return _hold_out(read("trainlist01.txt"), read("testlist01.txt"))


def _hold_out(trainval: list[Item], test: list[Item]) -> Parts:
    """Validation images are drawn from the training images of each class."""
    by_label: dict[int, list[Item]] = defaultdict(list)
    for item in trainval:
        by_label[item[1]].append(item)
    train, val = [], []
    for items in by_label.values():
        count = round(len(items) * HELD_OUT)
        if not count:
            raise ValueError(f"class {items[0][2]!r} has {len(items)} images: too few to split")
        random.shuffle(items)
        val += items[:count]
        train += items[count:]
    return {"train": train, "val": val, "test": test}


def _matlab(file: Path, key: str) -> Any:
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise DataError(f"reading {file.name} needs SciPy: pip install scipy") from error
    return loadmat(file)[key][0]


_MAKERS: dict[str, Callable[[Path, Path], Parts]] = {
    "Caltech101": _by_class_folder,
    "DescribableTextures": _by_class_folder,
    "EuroSAT": _by_class_folder,
    "Food101": _by_class_folder,
    "OxfordFlowers": _flowers,
    "OxfordPets": _pets,
    "StanfordCars": _cars,
    "SUN397": _sun,
    "UCF101": _ucf,
}
