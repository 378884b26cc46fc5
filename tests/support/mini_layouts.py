"""Small copies of the fifteen datasets' real layouts: original annotations and tiny pictures.

`write_originals` writes a dataset without its split_zhou file, `write_split` adds one.
"""

import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from PIL import Image

from sar.data.layouts import LAYOUTS
from sar.data.reading import read_imagenet_names

CLASSES = 5
PER_CLASS = 10  # images, of which 3 are for the test
Writer = Callable[[Path, Path], None]
"""Writes a dataset; its arguments are the dataset's folder and that of the images."""
WNIDS = ("n01440764", "n01443537", "n01484850", "n01491361", "n01494475")


def _picture() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), (200, 30, 90)).save(buffer, "JPEG")
    return buffer.getvalue()


PICTURE = _picture()


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(PICTURE)


def by_class(names: Sequence[str]) -> Writer:
    def write(folder: Path, images: Path) -> None:
        for name in names:
            for number in range(PER_CLASS):
                picture(images / name / f"image_{number:04d}.jpg")

    return write


def pets(folder: Path, images: Path) -> None:
    lists: dict[str, list[str]] = {"trainval.txt": [], "test.txt": []}
    for label, name in enumerate(("Abyssinian", "american_bulldog", "Bengal", "boxer", "pug"), 1):
        for number in range(PER_CLASS):
            picture(images / f"{name}_{number}.jpg")
            lists["test.txt" if number < 3 else "trainval.txt"].append(
                f"{name}_{number} {label} 1 1"
            )
    write_lines(folder / "annotations", lists)


def cars(folder: Path, images: Path) -> None:
    import numpy as np
    from scipy.io import savemat

    names = ["AM General Hummer SUV 2000", "Acura RL Sedan 2012", "Audi A5 Coupe 2012"]
    names += ["Ram C/V Cargo Van Minivan 2012", "BMW M3 Coupe 2012"]
    rows: dict[str, list[tuple[str, int]]] = {"cars_train": [], "cars_test": []}
    for label in range(1, CLASSES + 1):
        for number in range(PER_CLASS):
            place = "cars_test" if number < 3 else "cars_train"
            rows[place].append((f"{len(rows[place]) + 1:05d}.jpg", label))
            picture(folder / place / rows[place][-1][0])
    (folder / "devkit").mkdir()
    tables = {
        place: np.array([pairs], dtype=[("fname", object), ("class", object)])
        for place, pairs in rows.items()
    }
    savemat(folder / "devkit" / "cars_train_annos.mat", {"annotations": tables["cars_train"]})
    savemat(folder / "cars_test_annos_withlabels.mat", {"annotations": tables["cars_test"]})
    savemat(folder / "devkit" / "cars_meta.mat", {"class_names": np.array([names], dtype=object)})


def flowers(folder: Path, images: Path) -> None:
    from scipy.io import savemat

    labels = [label for _ in range(PER_CLASS) for label in (3, 1, 5, 2, 4)]
    for number in range(1, len(labels) + 1):
        picture(images / f"image_{number:05d}.jpg")
    savemat(folder / "imagelabels.mat", {"labels": [labels]})
    names = {"3": "canterbury bells", "1": "pink primrose", "5": "english marigold"}
    names |= {"2": "hard-leaved pocket orchid", "4": "sweet pea"}
    (folder / "cat_to_name.json").write_text(json.dumps(names))


def aircraft(folder: Path, images: Path) -> None:
    names = ("707-320", "A300B4", "F/A-18", "BAE 146-200", "Cessna 172")
    parts = ("train", "val", "test")
    lists: dict[str, list[str]] = {f"images_variant_{part}.txt": [] for part in parts}
    for number in range(CLASSES * PER_CLASS):
        picture(images / f"{number:07d}.jpg")
        part = "test" if number % 10 < 3 else "val" if number % 10 < 5 else "train"
        name = names[number // PER_CLASS]
        lists[f"images_variant_{part}.txt"].append(f"{number:07d} {name}")
    write_lines(folder, lists | {"variants.txt": names})


def sun(folder: Path, images: Path) -> None:
    names = ("/a/abbey", "/a/apse/indoor", "/b/bakery/shop", "/c/church/outdoor", "/y/yard")
    lists: dict[str, list[str]] = {"Training_01.txt": [], "Testing_01.txt": []}
    for name in names:
        for number in range(PER_CLASS):
            file = f"{name}/sun_{number}.jpg"
            picture(images / file[1:])
            lists["Testing_01.txt" if number < 3 else "Training_01.txt"].append(file)
    write_lines(folder, lists | {"ClassName.txt": names})


def ucf(folder: Path, images: Path) -> None:
    names = ("ApplyEyeMakeup", "BabyCrawling", "Biking", "YoYo", "HandstandPushups")
    parts = ("Apply_Eye_Makeup", "Baby_Crawling", "Biking", "Yo_Yo", "Handstand_Pushups")
    lists: dict[str, list[str]] = {"trainlist01.txt": [], "testlist01.txt": []}
    for label, (name, place) in enumerate(zip(names, parts, strict=True), 1):
        for number in range(PER_CLASS):
            picture(images / place / f"v_{name}_g{number:02d}_c01.jpg")
            video = f"{name}/v_{name}_g{number:02d}_c01.avi"
            if number < 3:
                lists["testlist01.txt"].append(video)
            else:
                lists["trainlist01.txt"].append(f"{video} {label}")
    index = [f"{label} {name}" for label, name in enumerate(names, 1)]
    write_lines(folder / "ucfTrainTestlist", lists | {"classInd.txt": index})


def imagenet(folder: Path, images: Path) -> None:
    for number in range(PER_CLASS):
        for wnid in WNIDS:
            place = "val" if number < 3 else "train"
            picture(folder / "images" / place / wnid / f"{wnid}_{number}.JPEG")


def imagenet_v2(folder: Path, images: Path) -> None:
    for label in range(1000):
        picture(images / str(label) / "a.jpeg")


def imagenet_variant(folder: Path, images: Path) -> None:
    for wnid in WNIDS[1:]:
        for number in range(3):
            picture(images / wnid / f"sketch_{number}.jpg")
    if folder.name != "imagenet-sketch":
        (images / "README.txt").write_text("about")


ORIGINALS: dict[str, Writer] = {
    "ImageNet": imagenet,
    "Caltech101": by_class(
        ("BACKGROUND_Google", "Faces", "Faces_easy", "airplanes", "ant", "yin_yang", "Leopards")
    ),
    "OxfordPets": pets,
    "StanfordCars": cars,
    "OxfordFlowers": flowers,
    "Food101": by_class(("apple_pie", "baklava", "pho", "ramen", "waffles")),
    "FGVCAircraft": aircraft,
    "SUN397": sun,
    "DescribableTextures": by_class(("banded", "braided", "dotted", "woven", "zigzagged")),
    "EuroSAT": by_class(("AnnualCrop", "Forest", "Highway", "River", "SeaLake")),
    "UCF101": ucf,
    "ImageNetV2": imagenet_v2,
    "ImageNetSketch": imagenet_variant,
    "ImageNetA": imagenet_variant,
    "ImageNetR": imagenet_variant,
}


def write_originals(name: str, root: Path) -> Path:
    """The dataset without a split_zhou file. Returns its folder."""
    layout = LAYOUTS[name]
    folder = root / layout.folder
    folder.mkdir(parents=True)
    ORIGINALS[name](folder, folder / layout.images[0])
    if name.startswith("ImageNet"):
        write_classnames(folder)
    return folder


def write_classnames(folder: Path) -> None:
    """ImageNet's 1000 ids and names."""
    names = read_imagenet_names(Path("nowhere"))
    lines = [f"{wnid} {name}" for wnid, name in names.items()]
    write_lines(folder, {"classnames.txt": lines})


def write_lines(folder: Path, files: Mapping[str, Sequence[str]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, lines in files.items():
        (folder / name).write_text("".join(f"{line}\n" for line in lines))


def write_split(name: str, folder: Path) -> dict[str, list[tuple[str, int, str]]]:
    """A split_zhou file over all pictures of a dataset: each folder or name stem is a class."""
    layout = LAYOUTS[name]
    images = folder / layout.prefix
    parts: dict[str, list[tuple[str, int, str]]] = {"train": [], "val": [], "test": []}
    files = sorted(path for place in layout.images for path in (folder / place).rglob("*.jpg"))
    for number, file in enumerate(files):
        part = ("train", "train", "val", "test")[number % 4]
        label = number * CLASSES // len(files)
        parts[part].append((file.relative_to(images).as_posix(), label, f"class {label}"))
    (folder / layout.split).write_text(json.dumps(parts))
    return parts
