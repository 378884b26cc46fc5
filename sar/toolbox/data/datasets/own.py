"""One's own pictures: a folder of class folders, or a table of files.

Which classes are base and which are new says `classes.yaml` beside the pictures, or the file that
DATASET.CLASSES names (`sar.classes.class_list`). Then only base classes need training pictures,
labels follow the list, and pictures of classes that are not in it are left out. Without a list
all classes need both; their names are sorted, and the first half is base.
"""

from __future__ import annotations

import csv
import hashlib
import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from yacs.config import CfgNode

from sar.classes.class_list import (
    FILE,
    ClassList,
    check_pictures,
    list_file,
    read_class_list,
)
from sar.classes.identity import prompt_name, shown
from sar.classes.names import split_base_new
from sar.data.reading import PARTS, class_folders, files_in
from sar.errors import DataError
from sar.files import expanded
from sar.texts import open_text
from sar.toolbox.data.class_names import one_to_clip
from sar.toolbox.data.datasets.base_dataset import DATASET_REGISTRY, DatasetBase, to_data
from sar.toolbox.data.datasets.fewshot import fewshot_split

Pictures = dict[str, dict[str, list[str]]]  # part -> class name -> paths
TABLE = "images.csv"
COLUMNS = ("path", "label", "split")
# What others call the column split, and what they write into it.
SPLIT_WORDS = frozenset({"subset", "set", "part", "partition", "fold", "phase", "usage"})
PART_WORDS = frozenset(
    {*PARTS, "training", "valid", "validation", "dev", "testing", "eval", "0", "1", "true", "false"}
)
SHARES = {"train": 0.5, "val": 0.2}  # of a class, in a table without split; the rest is test


class OwnDataset(DatasetBase):
    """Pictures of one's own; subclasses find them."""

    folder = ""  # below DATASET.ROOT; empty: DATASET.ROOT is the place of the pictures itself

    def __init__(self, cfg: CfgNode) -> None:
        if not cfg.DATASET.ROOT:
            raise DataError(f"{type(self).__name__} needs --root, the place of the pictures")
        root = (expanded(cfg.DATASET.ROOT) / self.folder).absolute()
        where, pictures = self.find(root)
        folder = where if where.is_dir() else where.parent
        file = list_file(root, cfg.DATASET.CLASSES)
        if file:
            classes = read_class_list(file)
            pictures = {part: _by_clean_name(found) for part, found in pictures.items()}
            left_out = check_pictures(classes, pictures["train"], pictures["test"], where, file)
            if left_out:
                print(f"Left out, not in {file}: {', '.join(left_out)}")
        else:
            file = folder / FILE
            classes = _first_half(pictures, where, file)
        self.all_classnames = names = classes.names
        if odd := one_to_clip(dict(enumerate(names))):
            raise DataError(f"{where}: {odd}; merge the classes, or rename them")
        train, val, test = (
            to_data(
                (path, label, name)
                for label, name in enumerate(names)
                for path in pictures[part].get(name, ())
            )
            for part in PARTS
        )
        train, val = fewshot_split(
            self, train, val, cfg.DATASET.NUM_SHOTS, cfg.SEED, str(folder / "split_fewshot")
        )
        split = len(classes.base)
        labels = {"all": range(len(names)), "base": range(split), "new": range(split, len(names))}
        kept = labels[cfg.DATASET.SUBSAMPLE_CLASSES]
        train, val, test = self.keep_classes(train, val, test, labels=kept)
        if not kept:
            raise DataError(f"{file} has no new classes; add some, or test on base or all")
        if cfg.DATASET.SUBSAMPLE_CLASSES == "new" and not train:
            train = test  # new classes are tested, never trained
        super().__init__(
            train_x=train, val=val or None, test=test, classnames=[names[label] for label in kept]
        )

    def find(self, root: Path) -> tuple[Path, Pictures]:
        """The folder or table that lists the pictures, and the pictures."""
        raise NotImplementedError


@DATASET_REGISTRY.register()
class ImageFolder(OwnDataset):
    """`DATASET.ROOT/train/<class name>/*`, `test/<class name>/*` and perhaps `val/<class name>/*`.

    Class names are the folder names, underscores read as spaces. Files that Pillow has no format
    for are passed over. Raises DataError for missing folders and classes without pictures.
    """

    def find(self, root: Path) -> tuple[Path, Pictures]:
        for part in ("train", "test"):
            if not (root / part).is_dir():
                raise DataError(
                    f"ImageFolder found no folder {str(root / part)!r}; give --root a folder with "
                    "train/<class name>/ and test/<class name>/ in it"
                )
        return root, {part: _class_folders(root / part) for part in PARTS}


@DATASET_REGISTRY.register()
class ImageCSV(OwnDataset):
    """A UTF-8 table `path,label[,split]`: DATASET.ROOT, or images.csv in that folder.

    `path` is relative to the table, `label` is the class name, `split` one of train, val, test.
    Without `split`, half of a class's pictures are for training, a fifth for validation, the rest
    for the test: by a hash of the path, so that pictures added later hardly move the others.
    """

    def find(self, root: Path) -> tuple[Path, Pictures]:
        table = root / TABLE if root.is_dir() else root
        rows = read_table(table)
        if "split" not in rows[0]:
            _assign_parts(rows)
        pictures: Pictures = {part: defaultdict(list) for part in PARTS}
        place: dict[str, str] = {}
        for line, row in enumerate(rows, start=2):
            path, part = os.path.normpath(row["path"]), row["split"]
            if part not in PARTS:
                raise DataError(f"{table}, line {line}: split is {part!r}; {', '.join(PARTS)}?")
            if path in place:
                raise DataError(
                    f"{table}, line {line}: {row['path']} is there twice, for {place[path]} and "
                    f"{part}; a picture belongs to one class and one part"
                )
            place[path] = part
            pictures[part][row["label"]].append(str(table.parent / path))
        return table, pictures


def _first_half(pictures: Pictures, where: Path, file: Path) -> ClassList:
    names = sorted(pictures["train"])
    if odd := sorted({*names} ^ {*pictures["test"]}):
        raise DataError(
            f"train and test in {where} have different classes: {', '.join(map(shown, odd[:10]))} "
            f"only in one of them. Without a class list ({file}) both must have every class; with "
            "one, new classes need test pictures only"
        )
    return ClassList(*split_base_new(names), novel=[])


def _by_clean_name(found: dict[str, list[str]]) -> dict[str, list[str]]:
    clean: dict[str, list[str]] = defaultdict(list)
    for name, paths in found.items():
        clean[prompt_name(name)] += paths
    return clean


def _class_folders(folder: Path) -> dict[str, list[str]]:
    if not folder.is_dir():
        return {}
    formats = Image.registered_extensions()
    found = {}
    for name in class_folders(folder):
        paths = sorted(p for p in files_in(folder / name) if Path(p).suffix.lower() in formats)
        if not paths:
            raise DataError(f"{folder / name} holds no images; add some or remove the folder")
        found[name] = paths
    return found


def read_table(table: Path) -> list[dict[str, str]]:
    try:
        with open_text(table, newline="") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            header = [name.strip().lower() for name in reader.fieldnames or []]
            reader.fieldnames = header
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"cannot read {table}: {error}; ImageCSV expects --root to be a table path,label"
            f"[,split], or a folder with {TABLE} in it"
        ) from error
    if not {"path", "label"} <= {*header} or not rows:
        raise DataError(
            f"{table} begins with {','.join(header)[:80] or 'nothing'} and has {len(rows)} rows; "
            "expected a first line path,label or path,label,split, separated by commas, and one "
            "line per picture"
        )
    _check_columns(table, header, rows)
    for line, row in enumerate(rows, start=2):
        if None in row or not all(row.get(name) for name in COLUMNS if name in header):
            raise DataError(
                f"{table}, line {line}: expected {len(header)} fields, {', '.join(COLUMNS)} set"
            )
    return rows


def _check_columns(table: Path, header: Sequence[str], rows: Sequence[dict[str, str]]) -> None:
    """Names the columns that are not understood; DataError if one of them may be the split."""
    if len(set(header)) < len(header):
        raise DataError(f"{table} has a column twice: {', '.join(header)}; remove one of them")
    others = [name for name in header if name not in COLUMNS]
    if "split" not in header:
        for name in others:
            if name in SPLIT_WORDS or {row[name] or "" for row in rows} <= PART_WORDS:
                raise DataError(
                    f"{table} has no column split, but a column {name!r}, which is not understood. "
                    f"If it says the part of a picture, name it split, with {', '.join(PARTS)} in "
                    "it; if not, remove it"
                )
    if others:
        print(f"Not used, columns of {table}: {', '.join(name or '(no name)' for name in others)}")


def _assign_parts(rows: list[dict[str, str]]) -> None:
    by_class = defaultdict(list)
    for row in sorted(rows, key=lambda row: hashlib.sha256(row["path"].encode()).digest()):
        by_class[row["label"]].append(row)
    for members in by_class.values():
        train = max(1, round(len(members) * SHARES["train"]))
        # A class of three has none left for validation: without a test picture it would be refused.
        val = max(0, min(round(len(members) * SHARES["val"]), len(members) - train - 1))
        for rank, row in enumerate(members):
            row["split"] = "train" if rank < train else "val" if rank < train + val else "test"
