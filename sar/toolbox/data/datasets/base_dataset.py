"""What a dataset is: lists of images with labels and class names."""

import itertools
import os
import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from yacs.config import CfgNode

from sar.classes.names import split_base_new
from sar.data.reading import PARTS, Item, read_split
from sar.errors import ConfigError, DataError
from sar.picture import read_published
from sar.toolbox.data.class_names import one_to_clip, only_numbers
from sar.toolbox.utils.registry import Registry
from sar.toolbox.utils.tools import write_json

DATASET_REGISTRY = Registry("DATASET")
SUBSAMPLES = ("all", "base", "new")
_SHOWN = 10


def build_dataset(cfg: CfgNode) -> "DatasetBase":
    """The dataset DATASET.NAME, read as the rest of DATASET says."""
    if cfg.VERBOSE:
        print(f"Loading dataset: {cfg.DATASET.NAME}")
    return DATASET_REGISTRY.get(cfg.DATASET.NAME)(cfg)


class Datum:
    """One image: its path, label, domain (both from 0) and class name."""

    def __init__(
        self, impath: str = "", label: int = 0, domain: int = 0, classname: str = ""
    ) -> None:
        if not os.path.isfile(impath):
            where = "check --root and that the dataset is unpacked completely"
            if "\\" in impath:
                where = "its path has backslashes; write / in place of them"
            raise DataError(f"image {impath!r} of class {classname!r} does not exist; {where}")
        # The attribute names are part of the few-shot files' format.
        self._impath = impath
        self._label = label
        self._domain = domain
        self._classname = classname

    @property
    def impath(self) -> str:
        return self._impath

    @property
    def label(self) -> int:
        return self._label

    @property
    def domain(self) -> int:
        return self._domain

    @property
    def classname(self) -> str:
        return self._classname


Split = list[Datum]


def to_data(items: Iterable[Item]) -> Split:
    """Raises DataError for the first image that does not exist."""
    return [Datum(path, label, 0, name) for path, label, name in items]


class DatasetBase:
    """Training, validation and test images. Subclasses read them and call `__init__` here."""

    dataset_dir = ""  # folder below DATASET.ROOT
    domains: Sequence[str] = ()
    read_image = staticmethod(read_published)
    """How a picture becomes RGB."""

    def __init__(
        self,
        train_x: Split | None = None,
        train_u: Split | None = None,
        val: Split | None = None,
        test: Split | None = None,
        classnames: Sequence[str] = (),
    ) -> None:
        """`classnames`: of labels 0, 1, ...; by default those of the training images."""
        if not train_x or not test:
            raise DataError(f"{type(self).__name__} has no training or no test images")
        self.train_x = train_x
        self.train_u = train_u
        self.val = val
        self.test = test
        if classnames:
            self.num_classes = len(classnames)
            self.lab2cname, self.classnames = dict(enumerate(classnames)), list(classnames)
        else:
            self.num_classes = self.get_num_classes(train_x)
            self.lab2cname, self.classnames = self.get_lab2cname(train_x)
        if len(self.classnames) != self.num_classes:
            raise DataError(
                f"{type(self).__name__} has labels up to {self.num_classes - 1} but training "
                f"images of {len(self.classnames)} classes only"
            )
        self._check_labels()

    def _check_labels(self) -> None:
        """DataError for images of unknown classes; a line about names that CLIP misunderstands."""
        for item in itertools.chain(self.train_x, self.val or (), self.test):
            if self.lab2cname.get(item.label) != item.classname:
                known = self.lab2cname.get(item.label, "not known")
                raise DataError(
                    f"{item.impath} is {item.classname!r}, label {item.label}, but that label is "
                    f"{known!r} among the training images; correct the lists of this dataset"
                )
        tested = {item.label for item in self.test}
        if lacking := [name for label, name in self.lab2cname.items() if label not in tested]:
            more = ", ..." if len(lacking) > _SHOWN else ""
            print(
                f"Note: no test images of {len(lacking)} of {len(self.lab2cname)} classes "
                f"({', '.join(lacking[:_SHOWN])}{more}): results say nothing of them"
            )
        if odd := one_to_clip(self.lab2cname):
            print(f"Note: {odd}")
        if only_numbers(self.classnames):
            print(
                f"Note: the class names are numbers, and CLIP reads them so: {self.classnames[:5]}"
                ". If these are labels, give the classes their names"
            )

    @staticmethod
    def get_num_classes(data_source: Split) -> int:
        return max(item.label for item in data_source) + 1

    @staticmethod
    def get_lab2cname(data_source: Split) -> tuple[dict[int, str], list[str]]:
        """Label -> class name, and the names in the order of their labels."""
        mapping = {item.label: item.classname for item in data_source}
        return mapping, [mapping[label] for label in sorted(mapping)]

    def generate_fewshot_dataset(
        self, *data_sources: Split, num_shots: int = -1, repeat: bool = False
    ) -> Any:
        """Draw `num_shots` images per class from each source, with Python's global generator.

        Classes are visited in the order in which the source first shows them. A class with fewer
        images gives all of them, or draws with replacement if `repeat`. Below one shot the
        sources come back whole. One source returns a list, several a list of lists.
        """
        output: list[Split] = []
        if num_shots >= 1:
            print(f"Creating a {num_shots}-shot dataset")
        for source in data_sources:
            if num_shots < 1:
                output.append(source)
                continue
            drawn: Split = []
            for items in self.split_dataset_by_label(source).values():
                if len(items) >= num_shots:
                    drawn += random.sample(items, num_shots)
                else:
                    drawn += random.choices(items, k=num_shots) if repeat else items
            output.append(drawn)
        return output[0] if len(output) == 1 else output

    @staticmethod
    def split_dataset_by_label(data_source: Split) -> dict[int, Split]:
        output: dict[int, Split] = defaultdict(list)
        for item in data_source:
            output[item.label].append(item)
        return output

    @staticmethod
    def subsample_classes(*sources: Split, subsample: str = "all") -> list[Split]:
        """Keep the base or the new classes of each source, relabelled from 0.

        The labels of the first source, sorted, are cut after ceil(n / 2).
        """
        if subsample not in SUBSAMPLES:
            raise ConfigError(
                f"DATASET.SUBSAMPLE_CLASSES is {subsample!r}; expected one of "
                f"{', '.join(SUBSAMPLES)}"
            )
        if subsample == "all":
            return list(sources)
        print(f"SUBSAMPLE {subsample.upper()} CLASSES!")
        labels = sorted({item.label for item in sources[0]})
        base, new = split_base_new(labels)
        return DatasetBase.keep_classes(*sources, labels=base if subsample == "base" else new)

    @staticmethod
    def keep_classes(*sources: Split, labels: Sequence[int]) -> list[Split]:
        """The images of these labels, relabelled 0, 1, ... in their order."""
        relabel = {label: new for new, label in enumerate(labels)}
        return [
            [
                Datum(item.impath, relabel[item.label], item.domain, item.classname)
                for item in source
                if item.label in relabel
            ]
            for source in sources
        ]

    @staticmethod
    def read_split(filepath: str, path_prefix: str) -> tuple[Split, Split, Split]:
        """Train, validation and test images of a split file.

        The file is JSON: {"train" | "val" | "test": [[path below `path_prefix`, label, class name],
        ...]}.
        """
        print(f"Reading split from {filepath}")
        parts = read_split(filepath, path_prefix)
        train, val, test = (to_data(parts[part]) for part in PARTS)
        return train, val, test

    @staticmethod
    def save_split(train: Split, val: Split, test: Split, filepath: str, path_prefix: str) -> None:
        """Write what `read_split` reads."""
        parts = {"train": train, "val": val, "test": test}
        split = {
            part: [
                (os.path.relpath(item.impath, path_prefix), item.label, item.classname)
                for item in items
            ]
            for part, items in parts.items()
        }
        write_json(split, filepath)
        print(f"Saved split to {filepath}")
