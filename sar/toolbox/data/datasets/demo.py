"""The demo datasets: openly licensed emoji artwork in drawing styles the pocket CLIP never saw.

A class has one source picture per style (a few have several). Its training pool is 24 random
renderings (scale, rotation, shift, flip, background, brightness) of the Fluent *flat* picture; its
test images are 10 renderings of the Fluent *3D* picture, a style held out from both pretraining and
training. `<Name>Contrast` and `<Name>Fx` share classes and training pool and are tested on Fluent
high contrast and FxEmoji (only the classes that FxEmoji draws): domain shifts. Shots of one class
are therefore not independent pictures. Licences: `sar/toolbox/data/demo/LICENSES.md`.
"""

from __future__ import annotations

import io
import json
import math
import random
import zipfile
from collections import defaultdict
from pathlib import Path

from PIL import Image, ImageEnhance
from yacs.config import CfgNode

from sar.errors import DataError
from sar.files import atomic_folder, user_folder
from sar.toolbox.data.datasets.base_dataset import DATASET_REGISTRY, DatasetBase, Datum
from sar.toolbox.data.datasets.fewshot import fewshot_split

ARCHIVES = Path(__file__).parents[1] / "demo"
SIZE = 64  # pixels per side
POOL, TEST = 24, 10  # renderings per class
SHOTS_STYLE = "fluent-flat"


def rendering(picture: Image.Image, rng: random.Random) -> Image.Image:
    """A random RGB rendering, SIZE x SIZE pixels, of an RGBA picture of the same size.

    Milder than the renderings the pocket CLIP was trained on.
    """
    angle, zoom = math.radians(rng.uniform(-17, 17)), 1 / rng.uniform(0.7, 1.05)
    cos, sin = math.cos(angle) * zoom, math.sin(angle) * zoom
    flip = rng.choice((-1, 1))
    half = SIZE / 2
    x, y = (half + rng.uniform(-0.12, 0.12) * SIZE for _ in range(2))
    # PIL maps output to input coordinates: rotate about the centre, which moves to (x, y).
    affine = (
        *(cos * flip, -sin * flip, half - (cos * x - sin * y) * flip),
        *(sin, cos, half - (sin * x + cos * y)),
    )
    moved = picture.transform(
        (SIZE, SIZE), Image.Transform.AFFINE, affine, Image.Resampling.BICUBIC
    )
    white = rng.random() < 0.35
    shade = tuple(rng.randint(235, 255) if white else rng.randint(0, 255) for _ in range(3))
    image = Image.new("RGB", (SIZE, SIZE), shade)
    image.paste(moved, (0, 0), moved)
    image = ImageEnhance.Brightness(image).enhance(rng.uniform(0.85, 1.15))
    return ImageEnhance.Color(image).enhance(rng.uniform(0.8, 1.2))


def class_names(dataset: str) -> list[str]:
    """The class names of a demo dataset, in the order of their labels."""
    file = ARCHIVES / f"{dataset}.zip"
    try:
        with zipfile.ZipFile(file) as archive:
            names: list[str] = json.loads(archive.read("classes.json"))["classes"]
            return names
    except (OSError, zipfile.BadZipFile, KeyError, ValueError) as error:
        raise DataError(f"cannot read {file}: {error}; reinstall the package") from error


def render(dataset: str, style: str, count: int, folder: Path) -> Path:
    """`folder/<style>/<class>/<n>.png`, rendered from the archive of `dataset` unless there.

    The renderings are seeded by their names: every machine gets the same images. The folder
    appears complete or not at all, also when several processes start at once.
    """
    target = folder / style
    if target.is_dir():
        return target
    archive_file = ARCHIVES / f"{dataset}.zip"
    try:
        with zipfile.ZipFile(archive_file) as archive:
            pictures = defaultdict(list)
            for name in sorted(archive.namelist()):
                if name.startswith(f"{style}/"):
                    with Image.open(io.BytesIO(archive.read(name))) as picture:
                        pictures[name.split("/")[1]].append(picture.convert("RGBA"))
        with atomic_folder(target) as building:
            for label, sources in pictures.items():
                (building / label).mkdir()
                for number in range(count):
                    rng = random.Random(f"{dataset}/{style}/{label}/{number}")
                    image = rendering(sources[number % len(sources)], rng)
                    image.save(building / label / f"{number:02d}.png", compress_level=1)
    except (OSError, zipfile.BadZipFile) as error:
        if not target.is_dir():  # else another process was faster
            raise DataError(
                f"cannot render {archive_file} into {target}: {error}; check the free space and "
                "permissions there, or reinstall the package"
            ) from error
    return target


class DemoDataset(DatasetBase):
    """A demo dataset; `archive` holds its pictures, `test_style` says what it is tested on."""

    archive = ""
    test_style = "fluent-3d"

    def __init__(self, cfg: CfgNode) -> None:
        root = Path(cfg.DATASET.ROOT or user_folder() / "data").expanduser()
        folder = root / self.archive
        self.all_classnames = names = class_names(self.archive)  # of base and new classes
        train = self._images(render(self.archive, SHOTS_STYLE, POOL, folder / "images"), names)
        test = self._images(render(self.archive, self.test_style, TEST, folder / "images"), names)
        train, _ = fewshot_split(
            self, train, [], cfg.DATASET.NUM_SHOTS, cfg.SEED, str(folder / "split_fewshot")
        )
        train, test = self.subsample_classes(train, test, subsample=cfg.DATASET.SUBSAMPLE_CLASSES)
        super().__init__(train_x=train, test=test)

    @staticmethod
    def _images(folder: Path, names: list[str]) -> list[Datum]:
        return [
            Datum(str(image), int(image.parent.name), 0, names[int(image.parent.name)])
            for image in sorted(folder.glob("*/*.png"))
        ]


for _archive in ("DemoAnimals", "DemoFood", "DemoObjects", "DemoTravel"):
    for _suffix, _style in (("", "fluent-3d"), ("Contrast", "fluent-contrast"), ("Fx", "fxemoji")):
        DATASET_REGISTRY.register()(
            type(
                f"{_archive}{_suffix}",
                (DemoDataset,),
                {"archive": _archive, "test_style": _style, "__doc__": DemoDataset.__doc__},
            )
        )
