"""Where the field's fifteen datasets lie below the data folder, and what belongs to them.

The facts are in the records of `configs/datasets`. Their sources: layout and archives, CoOp's
DATASETS.md and huggingface.co/zhengli97/prompt_learning_dataset; numbers, Zhou et al., *Learning to
Prompt for Vision-Language Models* (IJCV 2022), and the datasets' own papers; checksums,
metadata/external_assets.json of github.com/dczyjh/HAPR-LAPR (b37bae4), files of that archive.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from sar.errors import ConfigError, DataError
from sar.settings.dataset_records import DatasetRecord, records
from sar.storage.files import expanded

GUIDE = "https://github.com/KaiyangZhou/CoOp/blob/main/DATASETS.md"


@dataclass(frozen=True)
class Layout:
    """A dataset as it should be found.

    Attributes:
        name: registered name. `config`: file in configs/datasets, without suffix.
        folder: below the data folder; all that follows is below it.
        images: folders with pictures.
        lists: files that name the pictures -> SHA-256 of the published ones; without any, the
            folders of `images` hold a folder per class.
        classes: number of classes. `counts`: images for training, validation and test.
        archive: file in the hub repository; empty: not there.
        archive_revision, archive_sha256: the commit that has it and its checksum; empty: not
            pinned.
    """

    name: str
    config: str
    folder: str
    images: Sequence[str]
    lists: Mapping[str, str]
    classes: int
    counts: Sequence[int]
    archive: str
    archive_revision: str = ""
    archive_sha256: str = ""

    @property
    def split(self) -> str:
        """The split_zhou_*.json of [path, label, class name] lists; empty: it has none."""
        return next((file for file in self.lists if file.endswith(".json")), "")

    @property
    def prefix(self) -> str:
        """The folder that paths in the lists are relative to, within the dataset's; or empty."""
        return self.images[0] if len(self.images) == 1 else ""

    def at(self, root: str | Path) -> Path:
        """The dataset's folder. Raises DataError, with what was found instead, if it is missing."""
        root = Path(os.path.abspath(expanded(root)))
        path = root / self.folder
        if path.is_dir():
            return path
        if not root.is_dir():
            found = f"there is no folder {root}"
        elif self.images and all((root / images).is_dir() for images in self.images):
            found = f"{root} is that folder itself: give the one around it"
        else:
            inside = sorted(p.name for p in root.iterdir() if p.is_dir())[:12]
            found = f"{root} has {', '.join(inside) or 'no folders'}"
        raise DataError(
            f"{self.name} expects a folder {self.folder!r} in --root, but {found}. "
            + self.where_to_get(root)
        )

    def remark(self, *found: int) -> str:
        """A note if a dataset's parts have other numbers of images than published; otherwise empty.

        Args:
            found: numbers of images in the last parts of `counts`.
        """
        published = self.counts[-len(found) :]
        if not self.counts or tuple(found) == tuple(published):
            return ""
        return (
            f"Note: {self.name} has {', '.join(f'{n:,}' for n in found)} images here, published: "
            f"{', '.join(f'{n:,}' for n in published)}. Results are not comparable with published "
            "ones (see sarclip data status)"
        )

    def where_to_get(self, root: Path) -> str:
        """What to do if it is missing from `root`."""
        if not self.archive and self.name not in LAYOUTS:
            return "It is described in its record (docs/add-a-dataset.md)"
        return f"Get it with `sarclip data download {self.name} --root {root}`, or see {GUIDE}"


def layout_of(record: DatasetRecord) -> Layout:
    """The part of a dataset's record that says where its files are."""
    return Layout(**{field.name: getattr(record, field.name) for field in fields(Layout)})


LAYOUTS = {record.name: layout_of(record) for record in records() if record.counts}
"""By registered name: the datasets whose number of images is known, so that it can be checked."""


def find_layout(name: str) -> Layout:
    """By registered name or configuration file's name, whatever the letter case.

    Raises ConfigError, which names the datasets there are.
    """
    for layout in LAYOUTS.values():
        if name.lower() in (layout.name.lower(), layout.config):
            return layout
    raise ConfigError(f"unknown dataset {name!r}; expected all or one of {', '.join(LAYOUTS)}")
