"""Reads which images a dataset has: its split file, lists or class folders."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from sar.classes.names import class_names
from sar.data.layouts import Layout
from sar.errors import DataError, one_line
from sar.storage.texts import read_json, read_text

Item = tuple[str, int, str]  # path of the image, label from 0, class name
Parts = dict[str, list[Item]]  # of "train", "val" and "test"
PARTS = ("train", "val", "test")
_SPLIT = "expected train, val and test lists of [path, label, class name]"
_WNIDS = Path(__file__).with_name("imagenet_wnids.txt")


def read_split(file: Path | str, images: Path | str) -> Parts:
    """The split {"train" | "val" | "test": [[path below `images`, label, class name], ...]}.

    A line says which other parts it has. Raises DataError if the file is missing, damaged or
    something else, or as `check_parts` does.
    """
    split = read_json(file, _SPLIT)
    try:
        parts = {
            part: [(os.path.join(images, path), label, name) for path, label, name in items]
            for part, items in ((part, split[part]) for part in PARTS)
        }
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError(
            f"{file} is not a split file ({one_line(repr(error))}); {_SPLIT}"
        ) from error
    check_parts(parts, file)
    if others := sorted(split.keys() - parts.keys()):
        print(f"Not used, parts of {file}: {one_line(', '.join(others))}")
    return parts


def check_parts(parts: Parts, where: Path | str) -> None:
    """DataError unless a split says one thing about each image and tests only trained classes.

    Labels are whole numbers from 0, each with one name and each name with one label; every label is
    among the training images; an image is there once, however its path is written.
    """
    names: dict[int, str] = {}
    labels: dict[str, int] = {}
    place: dict[str, str] = {}
    trained: set[int] = set()
    for part in PARTS:
        for path, label, name in parts[part]:
            if type(label) is not int or label < 0 or not isinstance(name, str):
                raise DataError(
                    f"{where}: {path} has the label {label!r} and the class name {name!r} in "
                    f"{part}; expected a whole number from 0 and a text"
                )
            if names.setdefault(label, name) != name or labels.setdefault(name, label) != label:
                before = label if names[label] != name else labels[name]
                raise DataError(
                    f"{where}: {path} in {part} is label {label}, {name!r}, but label {before} is "
                    f"{names[before]!r} before; a label has one name, and a name one label, in all "
                    "parts"
                )
            if part != "train" and label not in trained:
                raise DataError(
                    f"{where}: {path} in {part} is label {label}, {name!r}, of which there are no "
                    "training images; add some, or remove the class"
                )
            if (key := os.path.normpath(path)) in place:
                raise DataError(
                    f"{where}: {path} in {part} is there twice, first in {place[key]}; an image "
                    "belongs to one part, and stands there once"
                )
            place[key] = part
        if part == "train":
            trained = set(names)


def read_aircraft(folder: Path, images: Path) -> Parts:
    """FGVCAircraft's own lists: variants.txt names the classes, the others `<image> <variant>`."""
    labels = {name: label for label, name in enumerate(lines_of(folder / "variants.txt"))}
    parts: Parts = {}
    for part in PARTS:
        file, parts[part] = f"images_variant_{part}.txt", []
        for line in lines_of(folder / file):
            image, _, name = line.partition(" ")
            if name not in labels:
                raise DataError(f"{folder / file}: {name!r} is not in variants.txt ({line!r})")
            parts[part].append((str(images / f"{image}.jpg"), labels[name], name))
    check_parts(parts, folder)
    return parts


def read_imagenet_names(folder: Path) -> dict[str, str]:
    """WordNet id -> class name, in the order of the ids.

    From classnames.txt in `folder` or in the imagenet folder beside it. Without one, the same
    names from the package.
    """
    for place in (folder, folder.parent / "imagenet"):
        file = place / "classnames.txt"
        if file.is_file():
            pairs = [line.split(None, 1) for line in lines_of(file)]
            if odd := next((pair for pair in pairs if len(pair) < 2), None):
                raise DataError(f"{file} has a line {odd[0]!r}; expected a WordNet id and a name")
            return {wnid: name for wnid, name in pairs}  # noqa: C416 (lists, not tuples)
    return dict(zip(lines_of(_WNIDS), class_names("ImageNet"), strict=True))


def class_folders(folder: Path) -> list[str]:
    """The names of the folders in `folder`, sorted. DataError for one that is no text."""
    try:
        with os.scandir(folder) as entries:
            found = sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))
    except OSError as error:
        raise DataError(f"cannot list {folder}: {error.strerror}") from error
    for name in found:
        if not name.isascii() and "\\udc" in ascii(name):  # bytes that are no UTF-8
            raise DataError(
                f"the name of the folder {name!a} in {folder} is not in UTF-8; rename it (the "
                "program convmv does so)"
            )
    return found


def read_wnid_folders(folder: Path, names: Mapping[str, str]) -> list[Item]:
    """The images of class folders named by WordNet id; labels follow the sorted ids.

    Within a class the order is the file system's, as it is in CoOp.
    """
    return [
        (path, label, _name(names, wnid, folder))
        for label, wnid in enumerate(class_folders(folder))
        for path in files_in(folder / wnid)
    ]


def list_change(
    folder: Path, listed: Iterable[Item], names: Mapping[str, str], since: float
) -> str:
    """What is no longer right in a list of what `read_wnid_folders` reads; empty if all is right.

    Only class folders that have changed after the time `since` are listed again.
    """
    classes = class_folders(folder)
    places = [str(folder / wnid) for wnid in classes]
    labels = {place: label for label, place in enumerate(places)}
    moved = os.stat(folder).st_mtime >= since  # a class folder may have taken another one's place
    changed = {place for place in places if moved or os.stat(place).st_mtime >= since}
    seen: dict[str, set[str]] = {}
    for path, label, name in listed:
        place, _, image = path.rpartition(os.sep)
        if labels.get(place) != label:
            return f"{path} has label {label} there, and {labels.get(place, 'none')} now"
        if names.get(classes[label]) != name:
            return (
                f"class {classes[label]} is {name!r} there, and {names.get(classes[label])!r} now"
            )
        if place not in seen:
            seen[place] = set()
        if place in changed:
            seen[place].add(image)
    for place in changed | (labels.keys() - seen.keys()):
        if seen.get(place, set()) != {os.path.basename(path) for path in files_in(Path(place))}:
            return f"other images lie in {place} now"
    return ""


def read_numbered_folders(folder: Path, names: Mapping[str, str]) -> list[Item]:
    """The images of class folders 0, 1, ..., one for each of `names`, in their order."""
    missing = [str(label) for label in range(len(names)) if not (folder / str(label)).is_dir()]
    if missing:
        raise DataError(
            f"{folder} has no class folders {', '.join(missing[:5])}, ... ({len(missing)} of "
            f"{len(names)} missing); unpack the dataset again"
        )
    return [
        (path, label, name)
        for label, name in enumerate(names.values())
        for path in files_in(folder / str(label))
    ]


def image_paths(layout: Layout, root: Path | str) -> Iterator[tuple[str, str]]:
    """(part, path) of every image that a dataset's split, lists or class folders name.

    Raises DataError if these cannot be read. The images themselves may be missing.
    """
    folder = layout.at(root)
    if layout.lists:
        read = read_split if layout.split else read_aircraft
        parts = read(folder / layout.split, folder / layout.prefix)
        for part, items in parts.items():
            for path, _, _ in items:
                yield part, path
        return
    for images in layout.images:
        part = "train" if images.endswith("train") else "test"
        for name in class_folders(folder / images):
            for path in files_in(folder / images / name):
                yield part, path


def files_in(folder: Path) -> list[str]:
    """Paths of what is in `folder`, hidden entries aside, in the file system's order.

    Raises DataError if it cannot be listed.
    """
    try:
        return [os.path.join(folder, name) for name in os.listdir(folder) if name[0] != "."]
    except OSError as error:
        raise DataError(f"cannot list {folder}: {error.strerror}") from error


def lines_of(file: Path) -> list[str]:
    """The lines of a text file, stripped, without empty ones; DataError if it cannot be read."""
    return [line.strip() for line in read_text(file).splitlines() if line.strip()]


def _name(names: Mapping[str, str], wnid: str, folder: Path) -> str:
    try:
        return names[wnid]
    except KeyError:
        raise DataError(
            f"the class folder {folder / wnid} is not in classnames.txt; expected folders named "
            "by ImageNet's WordNet ids (n01440764, ...)"
        ) from None
