"""One's own pictures: a folder of class folders, or a table of files.

`classes.yaml` beside the pictures, or the file that DATASET.CLASSES names, says which classes are
base and which are new (`sar.classes.class_list`). Then only base classes need training pictures,
labels follow the list, and pictures of classes that are not in it are left out. Without a list
every class needs training and test pictures; names are sorted, and the first half is base.

Nothing is written beside the pictures: the shots of a seed lie in the cache.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

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
from sar.data.own_pictures import OwnPictures, check_links, in_folders, in_table, summary
from sar.data.reading import PARTS
from sar.errors import DataError
from sar.picture import read_seen
from sar.storage.files import expanded
from sar.toolbox.data.class_names import alike, one_to_clip
from sar.toolbox.data.datasets.base_dataset import DATASET_REGISTRY, DatasetBase, to_data
from sar.toolbox.data.datasets.own_shots import own_shots


class OwnDataset(DatasetBase):
    """Pictures of one's own, read as people see them; subclasses find them."""

    folder = ""  # below DATASET.ROOT; empty: DATASET.ROOT is the place of the pictures itself
    read_image = staticmethod(read_seen)

    def __init__(self, cfg: CfgNode) -> None:
        if not cfg.DATASET.ROOT:
            raise DataError(f"{type(self).__name__} needs --root, the place of the pictures")
        root = (expanded(cfg.DATASET.ROOT) / self.folder).absolute()
        found = self.find(root)
        file = list_file(root, cfg.DATASET.CLASSES)
        classes, left_out = classes_of(found, file)
        if line := summary(found, left_out):
            print(line)
        check_links(found)
        _check_left_out(found.place, classes.names, left_out)
        self.novel_list = str(file) if classes.novel else ""
        self.all_classnames = names = classes.names
        if odd := one_to_clip(dict(enumerate(names))):
            raise DataError(f"{found.place}: {odd}; merge the classes, or rename them")
        train, val, test = (
            to_data(
                (path, label, name)
                for label, name in enumerate(names)
                for path in found.pictures[part].get(name, ())
            )
            for part in PARTS
        )
        split = len(classes.base)
        labels = {"all": range(len(names)), "base": range(split), "new": range(split, len(names))}
        kept = labels[cfg.DATASET.SUBSAMPLE_CLASSES]
        if not kept:
            raise DataError(
                f"{file or found.folder / FILE} has no new classes; add some, or test on base or "
                "all"
            )
        train, val, test = self.keep_classes(train, val, test, labels=kept)
        train, val = own_shots(self, found.folder, train, val, cfg.DATASET.NUM_SHOTS, cfg.SEED)
        if cfg.DATASET.SUBSAMPLE_CLASSES == "new" and not train:
            train = test  # new classes are tested, never trained
        super().__init__(
            train_x=train, val=val or None, test=test, classnames=[names[label] for label in kept]
        )

    def find(self, root: Path) -> OwnPictures:
        """The pictures at a place; DataError where there are none."""
        raise NotImplementedError


@DATASET_REGISTRY.register()
class ImageFolder(OwnDataset):
    """`DATASET.ROOT/train/<class name>/*`, `test/<class name>/*` and perhaps `val/<class name>/*`.

    Class names are the folder names, underscores read as spaces. Files that Pillow has no format
    for are passed over. Raises DataError for missing folders and classes without pictures.
    """

    def find(self, root: Path) -> OwnPictures:
        return in_folders(root)


@DATASET_REGISTRY.register()
class ImageCSV(OwnDataset):
    """A UTF-8 table `path,label[,split]`: DATASET.ROOT, or images.csv in that folder.

    `path` is relative to the table, `label` is the class name, `split` one of train, val, test.
    Without `split`, half of a class's pictures are for training, a fifth for validation, the rest
    for the test: by a hash of the path, so that pictures added later hardly move the others.
    """

    def find(self, root: Path) -> OwnPictures:
        return in_table(root)


def classes_of(found: OwnPictures, file: Path | None) -> tuple[ClassList, list[str]]:
    """The classes that the list in `file`, or without one their names, makes of pictures.

    With a list the names of `found` become the list's.

    Returns:
        The classes, and those that have pictures but are not among them.

    Raises:
        DataError: a class lacks pictures that it needs, or the list cannot be read.
    """
    for part, folders in found.pictures.items():
        if empty := sorted(name for name, paths in folders.items() if not paths):
            place = found.place / part / empty[0]
            instead = f" ({summary(found)})" if found.passed_over else ""
            raise DataError(f"{place} holds no images{instead}; add some or remove the folder")
    if file is None:
        return _first_half(found), []
    classes = read_class_list(file)
    found.pictures = {part: _by_clean_name(folders) for part, folders in found.pictures.items()}
    train, test = found.pictures["train"], found.pictures["test"]
    return classes, check_pictures(classes, train, test, found.place, file)


def _check_left_out(place: Path, names: Sequence[str], left_out: Sequence[str]) -> None:
    """DataError for pictures left out under another spelling of a class in the list."""
    everything = [*names, *(name for name in left_out if prompt_name(name))]
    for first, *others in alike(dict(enumerate(everything))):
        if first < len(names) <= others[-1]:
            raise DataError(
                f"{place}: pictures of {shown(everything[others[-1]])} are not in the class list, "
                f"but CLIP reads that name as {shown(names[first])}, which is; spell both alike"
            )


def _first_half(found: OwnPictures) -> ClassList:
    train, test = ({*found.pictures[part]} for part in ("train", "test"))
    if odd := sorted(train ^ test):
        raise DataError(
            f"train and test in {found.place} have different classes: "
            f"{', '.join(map(shown, odd[:10]))} only in one of them. Without a class list "
            f"({found.folder / FILE}) both must have every class; with one, new classes need test "
            "pictures only"
        )
    return ClassList(*split_base_new(sorted(train)), novel=[])


def _by_clean_name(folders: dict[str, list[str]]) -> dict[str, list[str]]:
    clean: dict[str, list[str]] = defaultdict(list)
    for name, paths in folders.items():
        clean[prompt_name(name)] += paths
    return clean
