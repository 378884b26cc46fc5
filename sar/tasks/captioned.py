"""Images with captions: COCO's and Karpathy's files, and a demo set of drawings.

The demo set is made from what is in the package: the drawings of one style, and the descriptions of
their classes as captions, five a concept. It is split by concept: those of the base half of their
dataset are for training, the others for the test. In the test each concept has one drawing, since
its captions are true of any.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sar.classes.descriptions import find, shipped_descriptions
from sar.classes.identity import identity
from sar.classes.names import split_base_new
from sar.errors import ConfigError, DataError
from sar.files import user_folder
from sar.texts import read_json
from sar.toolbox.data.datasets import demo

DEMO = "demo"
SPLITS = ("train", "test")
CAPTIONS = 5  # of a concept of the demo set
_FORMAT = (
    'expected Karpathy\'s JSON ({"images": [{"filename", "split", "sentences": [{"raw"}]}]}) or '
    'COCO\'s captions ({"images": [{"id", "file_name"}], "annotations": [{"image_id", "caption"}]})'
)


@dataclass(frozen=True)
class Captioned:
    """Images, each with at least one caption."""

    title: str
    images: Sequence[Path]
    captions: Sequence[Sequence[str]]
    concepts: Sequence[int]
    """Images with the same number have captions that are true of all of them."""

    def __post_init__(self) -> None:
        if not self.images:
            raise DataError(f"{self.title} has no image with a caption; choose another --split")


def read_captioned(source: str, split: str, images: Path | None = None) -> Captioned:
    """What a source names.

    Args:
        source: ``demo:STYLE``, or a file of Karpathy's or COCO's.
        split: of the demo set or of Karpathy's file, several joined by ``+``
            (``train+restval``). A file of COCO's is one split, whatever its name.
        images: the folder of the images; by default that of the file.

    Raises:
        ConfigError: an unknown style or split. DataError: a file that cannot be used, or images
            that are not there.
    """
    kind, _, style = source.partition(":")
    if kind == DEMO:
        return demo_set(style, split)
    file = Path(source)
    content = read_json(file, _FORMAT)
    try:
        if "annotations" in content:
            rows = _coco(content)
        else:
            rows = _karpathy(content["images"], split.split("+"))
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"cannot use {file}: no {error} where it should be; {_FORMAT}") from error
    place = images or file.parent
    paths = [place / name for name, _ in rows]
    if missing := [path for path in paths if not path.is_file()]:
        raise DataError(
            f"{len(missing)} of {len(paths)} images of {file} are not there, such as {missing[0]}; "
            "give their folder with --images"
        )
    captions = [_plain(texts, name) for name, texts in rows]
    return Captioned(f"{file.name} ({split})", paths, captions, range(len(paths)))


def _karpathy(images: Any, splits: Sequence[str]) -> list[tuple[str, list[str]]]:
    if unknown := set(splits) - {image["split"] for image in images}:
        known = ", ".join(sorted({image["split"] for image in images}))
        raise ConfigError(f"there is no split {sorted(unknown)[0]!r}; expected one of {known}")
    return [
        (
            f"{image.get('filepath', '')}/{image['filename']}".lstrip("/"),
            [sentence["raw"] for sentence in image["sentences"]],
        )
        for image in images
        if image["split"] in splits
    ]


def _coco(content: Any) -> list[tuple[str, list[str]]]:
    captions = defaultdict(list)
    for annotation in content["annotations"]:
        captions[annotation["image_id"]].append(annotation["caption"])
    return [
        (image["file_name"], captions[image["id"]])
        for image in content["images"]
        if image["id"] in captions
    ]


def _plain(captions: Sequence[Any], name: str) -> list[str]:
    found = [" ".join(text.split()) for text in captions if isinstance(text, str)]
    if not found or not all(found) or len(found) < len(captions):
        raise DataError(f"{name} has no caption, an empty one, or one that is no text; {_FORMAT}")
    return found


def demo_set(style: str, split: str, root: Path | None = None) -> Captioned:
    """The demo set in one style; `root`: where the drawings are rendered.

    Raises:
        ConfigError: an unknown style or split.
    """
    if style not in demo.STYLES or split not in SPLITS:
        raise ConfigError(
            f"there is no demo set {style!r}, split {split!r}; expected {DEMO}: and one of "
            f"{', '.join(demo.STYLES)}, and the split {' or '.join(SPLITS)}"
        )
    images: list[Path] = []
    captions: list[list[str]] = []
    concepts: list[int] = []
    seen: set[str] = set()
    for dataset in demo.DATASETS:
        names = demo.class_names(dataset)
        described = find(names, shipped_descriptions(dataset) or {})
        base = set(split_base_new(names)[0])
        folder = demo.demo_folder(dataset, root or user_folder() / "data") / "images"
        drawings = demo.render(dataset, style, folder)
        for label, name in enumerate(names):
            # A concept of several datasets belongs to the first, whatever style it is drawn in.
            if identity(name) in seen:
                continue
            seen.add(identity(name))
            found = sorted((drawings / f"{label:03d}").glob("*.png"))
            if found and described[label] and (name in base) == (split == "train"):
                used = found if split == "train" else found[:1]
                images += used
                captions += [described[label][:CAPTIONS]] * len(used)
                concepts += [len(seen)] * len(used)
    return Captioned(f"demo drawings, {style} ({split})", images, captions, concepts)
