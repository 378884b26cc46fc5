"""ImageNet and four datasets with its classes, on which ImageNet's prompts are tested.

Labels are CoOp's: 1000 for ImageNet, ImageNetV2 and ImageNetSketch; 0 to 199, after the sorted
WordNet ids, for ImageNetA and ImageNetR, whose classifiers know 200 class names only.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from yacs.config import CfgNode

from sar.data.layouts import LAYOUTS, Layout
from sar.data.reading import (
    class_folders,
    list_change,
    read_imagenet_names,
    read_numbered_folders,
    read_wnid_folders,
)
from sar.errors import ConfigError, DataError
from sar.toolbox.data.datasets.base_dataset import DATASET_REGISTRY, DatasetBase, Split, to_data
from sar.toolbox.data.datasets.fewshot import fewshot_split, read_data, write_data


@DATASET_REGISTRY.register()
class ImageNet(DatasetBase):
    """Trained on ImageNet's training images; its validation images serve for validation and test.

    The list of images is kept in preprocessed.pkl, which CoOp reads and writes too. Where it is not
    what the folders and classnames.txt say today, the images are listed anew.
    """

    layout = LAYOUTS["ImageNet"]

    def __init__(self, cfg: CfgNode) -> None:
        folder = self.layout.at(cfg.DATASET.ROOT)
        self.dataset_dir = str(folder)
        train, test = self._read(folder)
        if remark := self.layout.remark(len(train), 0, len(test)):
            print(remark)
        train, _ = fewshot_split(
            self, train, [], cfg.DATASET.NUM_SHOTS, cfg.SEED, str(folder / "split_fewshot")
        )
        train, test = self.subsample_classes(train, test, subsample=cfg.DATASET.SUBSAMPLE_CLASSES)
        super().__init__(train_x=train, val=test, test=test)

    @staticmethod
    def _read(folder: Path) -> tuple[Split, Split]:
        listed = folder / "preprocessed.pkl"
        places = [folder / images for images in ImageNet.layout.images]
        train_classes, val_classes = map(class_folders, places)
        if train_classes != val_classes:
            odd = sorted(set(train_classes) ^ set(val_classes))
            raise DataError(
                f"train and val in {folder / 'images'} have different class folders ("
                f"{', '.join(odd[:5])}, ... {len(odd)} in one of them only), so labels would not "
                "agree. val pictures must lie in class folders too; unpack the missing ones"
            )
        names = read_imagenet_names(folder)
        if listed.exists():
            train, test = read_data(listed, ("train", "test"), "list the images again")
            since = listed.stat().st_mtime
            changes = (
                list_change(place, ((d.impath, d.label, d.classname) for d in items), names, since)
                for place, items in zip(places, (train, test), strict=True)
            )
            change = next(filter(None, changes), "")
            if not change:
                with contextlib.suppress(OSError):
                    os.utime(listed)  # seen to be as the folders are now
                return train, test
            print(f"{listed} is no longer right: {change}. The images are listed anew")
        train, test = (to_data(read_wnid_folders(place, names)) for place in places)
        write_data(listed, train=train, test=test)
        return train, test


class ImageNetVariant(DatasetBase):
    """Images for a test only; they stand in for training images too, which give the class names."""

    layout: Layout

    def __init__(self, cfg: CfgNode) -> None:
        name = self.layout.name
        if cfg.DATASET.SUBSAMPLE_CLASSES != "all":
            raise ConfigError(
                f"DATASET.SUBSAMPLE_CLASSES is {cfg.DATASET.SUBSAMPLE_CLASSES!r}, but {name} is "
                "tested on all its classes; leave it at all"
            )
        folder = self.layout.at(cfg.DATASET.ROOT)
        self.dataset_dir = str(folder)
        images, names = folder / self.layout.images[0], read_imagenet_names(folder)
        if name == "ImageNetV2":
            items = read_numbered_folders(images, names)
        else:
            items = read_wnid_folders(images, names)
        data = to_data(items)
        if remark := self.layout.remark(len(data)):
            print(remark)
        super().__init__(train_x=data, test=data)


for _name in ("ImageNetV2", "ImageNetSketch", "ImageNetA", "ImageNetR"):
    DATASET_REGISTRY.register()(
        type(
            _name,
            (ImageNetVariant,),
            {"layout": LAYOUTS[_name], "__doc__": ImageNetVariant.__doc__},
        )
    )
