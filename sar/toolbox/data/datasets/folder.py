"""One's own pictures: a folder of class folders."""

from __future__ import annotations

from pathlib import Path

from PIL import Image
from yacs.config import CfgNode

from sar.errors import DataError
from sar.toolbox.data.datasets.base import DATASET_REGISTRY, DatasetBase, Datum
from sar.toolbox.data.datasets.fewshot import fewshot_split

PARTS = ("train", "test")


@DATASET_REGISTRY.register()
class ImageFolder(DatasetBase):
    """`DATASET.ROOT/train/<class name>/*` and `DATASET.ROOT/test/<class name>/*`.

    Class names are the folder names, underscores read as spaces; labels follow the sorted names,
    so base classes are the first half of the alphabetical list. Files that Pillow has no format for
    are passed over. Raises DataError for missing folders and for classes without pictures.
    """

    def __init__(self, cfg: CfgNode) -> None:
        root = Path(cfg.DATASET.ROOT).expanduser()
        for part in PARTS:
            if not cfg.DATASET.ROOT or not (root / part).is_dir():
                raise DataError(
                    f"ImageFolder found no folder {str(root / part)!r}; give --root a folder with "
                    "train/<class name>/ and test/<class name>/ in it"
                )
        folders = {part: _class_folders(root / part) for part in PARTS}
        names = sorted(folders["train"])
        if names != sorted(folders["test"]):
            odd = sorted(set(names) ^ set(folders["test"]))
            raise DataError(
                f"train and test in {root} have different class folders: {', '.join(odd[:10])} "
                "only in one of them; both must have every class"
            )
        train, test = (_images(folders[part], names) for part in PARTS)
        train, _ = fewshot_split(
            self, train, [], cfg.DATASET.NUM_SHOTS, cfg.SEED, str(root / "split_fewshot")
        )
        train, test = self.subsample_classes(train, test, subsample=cfg.DATASET.SUBSAMPLE_CLASSES)
        super().__init__(train_x=train, test=test)


def _class_folders(folder: Path) -> dict[str, Path]:
    return {path.name: path for path in sorted(folder.iterdir()) if path.is_dir()}


def _images(folders: dict[str, Path], names: list[str]) -> list[Datum]:
    formats = Image.registered_extensions()
    images = []
    for label, name in enumerate(names):
        files = [f for f in sorted(folders[name].iterdir()) if f.suffix.lower() in formats]
        if not files:
            raise DataError(f"{folders[name]} holds no images; add some or remove the folder")
        images += [Datum(str(file), label, 0, name) for file in files]
    return images
