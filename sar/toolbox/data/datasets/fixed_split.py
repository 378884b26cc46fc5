"""Datasets with fixed splits, such as ten of the field's in the folders of CoOp's DATASETS.md.

One class serves them all; what differs is in their records.
"""

from __future__ import annotations

from pathlib import Path

from yacs.config import CfgNode

from sar.data.layouts import Layout
from sar.data.reading import PARTS, Parts, read_aircraft
from sar.storage.locks import one_at_a_time
from sar.toolbox.data.datasets.base_dataset import DatasetBase, Split, to_data
from sar.toolbox.data.datasets.fewshot import fewshot_split
from sar.toolbox.data.datasets.splitting import make_split


class CoOpDataset(DatasetBase):
    """A dataset with train, validation and test images, as `layout` describes it."""

    layout: Layout

    def __init__(self, cfg: CfgNode) -> None:
        folder = self.layout.at(cfg.DATASET.ROOT)
        self.dataset_dir = str(folder)
        train, val, test = self._read(folder)
        if remark := self.layout.remark(len(train), len(val), len(test)):
            print(remark)
        train, val = fewshot_split(
            self, train, val, cfg.DATASET.NUM_SHOTS, cfg.SEED, str(folder / "split_fewshot")
        )
        train, val, test = self.subsample_classes(
            train, val, test, subsample=cfg.DATASET.SUBSAMPLE_CLASSES
        )
        super().__init__(train_x=train, val=val, test=test)

    def _read(self, folder: Path) -> tuple[Split, Split, Split]:
        images, file = folder / self.layout.prefix, folder / self.layout.split
        if not self.layout.split:
            return _to_data(read_aircraft(folder, images))
        with one_at_a_time(folder / ".lock", f"making {file.name}"):
            if file.is_file():
                return self.read_split(str(file), str(images))
            made = _to_data(make_split(self.layout, folder))
            self.save_split(*made, str(file), str(images))
        print(
            "This split was made here, by chance: its results are not those of the published "
            f"{file.name}. {self.layout.where_to_get(folder.parent)}"
        )
        return made


def _to_data(parts: Parts) -> tuple[Split, Split, Split]:
    train, val, test = (to_data(parts[part]) for part in PARTS)
    return train, val, test
