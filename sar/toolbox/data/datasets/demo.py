"""The demo datasets: openly licensed drawings by hands the pocket CLIP never saw.

The images of a class are independent drawings, one rendering each. The *training pool* (8 to 16 per
class) comes from icon sets of which pretraining saw other drawings; the *test* images (at least 8)
come from sets that it never saw. `<Name>Kin` has the same images with the classes in another order,
so that the base and the new half both have their share of every group of look-alikes; `<Name>Line`,
`<Name>Filled`, `<Name>Duotone` and `<Name>Colour` are tested on one style of drawing alone, on the
classes drawn in it: domain shifts. Licences: `sar/toolbox/data/demo/LICENSES.md`.
"""

from __future__ import annotations

import io
import json
import math
import random
import zipfile
import zlib
from pathlib import Path
from typing import Any

from PIL import Image, ImageEnhance
from yacs.config import CfgNode

from sar.errors import DataError
from sar.storage.files import expanded, user_folder
from sar.storage.manifest import filled
from sar.toolbox.data.datasets.base_dataset import DATASET_REGISTRY, DatasetBase, Datum
from sar.toolbox.data.datasets.fewshot import fewshot_split

ARCHIVES = Path(__file__).parents[1] / "demo"
SIZE = 48  # pixels per side
STYLES = ("line", "filled", "duotone", "colour")


def rendering(picture: Image.Image, rng: random.Random) -> Image.Image:
    """A random RGB rendering, SIZE x SIZE pixels, of an RGBA picture of the same size.

    Milder than the renderings the pocket CLIP was trained on.
    """
    angle, zoom = math.radians(rng.uniform(-12, 12)), 1 / rng.uniform(0.8, 1.05)
    cos, sin = math.cos(angle) * zoom, math.sin(angle) * zoom
    flip = rng.choice((-1, 1))
    half = SIZE / 2
    x, y = (half + rng.uniform(-0.08, 0.08) * SIZE for _ in range(2))
    # PIL maps output to input coordinates: rotate about the centre, which moves to (x, y).
    affine = (
        *(cos * flip, -sin * flip, half - (cos * x - sin * y) * flip),
        *(sin, cos, half - (sin * x + cos * y)),
    )
    moved = picture.transform(
        (SIZE, SIZE), Image.Transform.AFFINE, affine, Image.Resampling.BICUBIC
    )
    white = rng.random() < 0.35
    shade = tuple(rng.randint(235 if white else 150, 255) for _ in range(3))  # the ink is dark
    image = Image.new("RGB", (SIZE, SIZE), shade)
    image.paste(moved, (0, 0), moved)
    image = ImageEnhance.Brightness(image).enhance(rng.uniform(0.85, 1.15))
    return ImageEnhance.Color(image).enhance(rng.uniform(0.8, 1.2))


def _read(dataset: str, name: str) -> Any:
    """One of the JSON files in the archive of a dataset."""
    file = _archive_file(dataset)
    try:
        with zipfile.ZipFile(file) as archive:
            return json.loads(archive.read(f"{name}.json"))
    except (OSError, zipfile.BadZipFile, KeyError, ValueError) as error:
        raise DataError(f"cannot read {file}: {error}; reinstall the package") from error


def class_names(dataset: str) -> list[str]:
    """The class names of a demo dataset, or of its `Kin`, in the order of their labels."""
    archive = dataset.removesuffix("Kin")
    names: list[str] = _read(archive, "classes")["classes"]
    return names if archive == dataset else [names[label] for label in kin_order(archive)]


def kin_order(dataset: str) -> list[int]:
    """Labels in an order whose halves both have their share of every group of look-alikes.

    The first, third, ... member of the groups written one after the other, then the others.
    """
    place = {name: label for label, name in enumerate(class_names(dataset))}
    labels = [place[name] for group in kin_groups(dataset) for name in group]
    return labels[::2] + labels[1::2]


def kin_groups(dataset: str) -> list[list[str]]:
    """The class names of a demo dataset in groups of look-alikes."""
    groups: list[list[str]] = _read(dataset, "classes")["kin"]
    return groups


def demo_folder(dataset: str, root: Path) -> Path:
    """Where images and shots of a demo dataset lie: each version of its archive has its own."""
    return root / dataset / _version(dataset)


def render(dataset: str, part: str, folder: Path) -> Path:
    """`folder/<part>/<class>/<n>.png`, rendered from the archive of `dataset` unless all is there.

    `part`: "pool", "test" or a style. The renderings are seeded by their names: every machine gets
    the same images. The folder appears complete or not at all, also when several processes start at
    once. Raises DataError when the archive cannot be read, StorageError when it cannot be written.
    """

    def fill(building: Path) -> None:
        with zipfile.ZipFile(_archive_file(dataset)) as archive:
            for name in sorted(archive.namelist()):
                if not name.startswith(f"{part}/"):
                    continue
                with Image.open(io.BytesIO(archive.read(name))) as picture:
                    image = rendering(picture.convert("RGBA"), random.Random(f"{dataset}/{name}"))
                file = building / Path(name).relative_to(part).with_suffix(".png")
                file.parent.mkdir(exist_ok=True)
                image.save(file, compress_level=1)

    try:
        return filled(folder / part, fill, _version(dataset))
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(
            f"cannot render {_archive_file(dataset)} into {folder / part}: {error}; check the free "
            "space and permissions there, or reinstall the package"
        ) from error


def _version(dataset: str) -> str:
    return f"{zlib.crc32(_archive_file(dataset).read_bytes()):08x}"


def _archive_file(dataset: str) -> Path:
    return ARCHIVES / f"{dataset}.zip"


class DemoDataset(DatasetBase):
    """A demo dataset: `archive` holds its pictures, `tested_on` says which part is the test."""

    archive = ""
    tested_on = "test"
    kin = False

    def __init__(self, cfg: CfgNode) -> None:
        names = class_names(self.archive)
        root = expanded(cfg.DATASET.ROOT or user_folder() / "data")
        folder = demo_folder(self.archive, root)
        order = kin_order(self.archive) if self.kin else list(range(len(names)))
        self.all_classnames = [names[label] for label in order]  # of base and new classes
        labels = {old: new for new, old in enumerate(order)}
        train = self._images(render(self.archive, "pool", folder / "images"), names, labels)
        test = self._images(render(self.archive, self.tested_on, folder / "images"), names, labels)
        splits = "split_fewshot_kin" if self.kin else "split_fewshot"
        train, _ = fewshot_split(
            self, train, [], cfg.DATASET.NUM_SHOTS, cfg.SEED, str(folder / splits)
        )
        train, test = self.subsample_classes(train, test, subsample=cfg.DATASET.SUBSAMPLE_CLASSES)
        super().__init__(train_x=train, test=test)

    @staticmethod
    def _images(folder: Path, names: list[str], labels: dict[int, int]) -> list[Datum]:
        found = [(int(image.parent.name), image) for image in sorted(folder.glob("*/*.png"))]
        return [Datum(str(image), labels[old], 0, names[old]) for old, image in found]


DATASETS = tuple(sorted(file.stem for file in ARCHIVES.glob("Demo*.zip")))
for _archive in DATASETS:
    for _suffix, _part in (("", "test"), ("Kin", "test"), *((s.title(), s) for s in STYLES)):
        DATASET_REGISTRY.register()(
            type(
                f"{_archive}{_suffix}",
                (DemoDataset,),
                {
                    "archive": _archive,
                    "tested_on": _part,
                    "kin": _suffix == "Kin",
                    "__doc__": DemoDataset.__doc__,
                },
            )
        )
