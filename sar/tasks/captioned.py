"""Images with captions: COCO's, NoCaps' and Karpathy's files, and demo sets of drawings.

The demo sets are made from what is in the package: drawings, and the descriptions of their classes
as captions, five a concept. In one style they are split by concept: those of the base half of their
dataset are for training, the others for the test, with one drawing each, since its captions are
true of any. The others are split by drawing: the training pool of the datasets, and test drawings,
which are by other hands. To choose settings there are two parts of the pool, "fit" and "held".
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sar.errors import ConfigError, DataError
from sar.storage.texts import read_json
from sar.tasks.drawings import CHOICES, Concept, concepts
from sar.toolbox.data.datasets import demo

DEMO = "demo"
SPLITS = ("train", "test")
"""Of the demo set in one style."""
PARTS = ("train", "fit", "held", "test")
"""Of the others; fit and held make up train."""
HELD, TESTED = 4, 4  # one drawing of so many is held; so many of a concept are for the test
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
    domains: Sequence[str] = ()
    """Of NoCaps: in-domain, near-domain or out-domain; empty strings, or nothing, elsewhere."""

    def __post_init__(self) -> None:
        if not self.images:
            raise DataError(f"{self.title} has no image with a caption; choose another --split")


def read_captioned(source: str, split: str, images: Path | None = None) -> Captioned:
    """What a source names.

    Args:
        source: ``demo``, ``demo:`` and a style or one of `CHOICES`, or a file of Karpathy's, COCO's
            or NoCaps.
        split: of the demo set or of Karpathy's file, several joined by ``+``
            (``train+restval``). A file of COCO's or NoCaps is one split, whatever its name.
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
            rows = _coco(content, file)
        else:
            rows = _karpathy(content["images"], split.split("+"))
        place = images or file.parent
        paths = [place / name for name, _ in rows]
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"cannot use {file}: no {error} where it should be; {_FORMAT}") from error
    if missing := [path for path in paths if not path.is_file()]:
        raise DataError(
            f"{len(missing)} of {len(paths)} images of {file} are not there, such as {missing[0]}; "
            "give their folder with --images"
        )
    captions = [_plain(texts, name) for name, texts in rows]
    domains = {image.get("file_name"): image.get("domain", "") for image in content["images"]}
    groups = [domains.get(name, "") for name, _ in rows]
    return Captioned(f"{file.name} ({split})", paths, captions, range(len(paths)), groups)


def _karpathy(images: Any, splits: Sequence[str]) -> list[tuple[str, list[str]]]:
    if odd := [image["split"] for image in images if not isinstance(image["split"], str)]:
        raise TypeError(f"text, but {odd[0]!r}")
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


def _coco(content: Any, file: Path) -> list[tuple[str, list[str]]]:
    captions = defaultdict(list)
    for annotation in content["annotations"]:
        captions[annotation["image_id"]].append(annotation["caption"])
    if unknown := captions.keys() - {image["id"] for image in content["images"]}:
        raise DataError(
            f"{file} has captions of {len(unknown)} images that it does not list, such as image_id "
            f"{next(iter(unknown))}; take images and annotations of one file together"
        )
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


def demo_set(which: str, split: str, root: Path | None = None) -> Captioned:
    """The demo set in one style, or of the training pool and the test drawings.

    Args:
        which: a style, or one of `CHOICES`.
        root: where the drawings are rendered.

    Raises:
        ConfigError: an unknown style or split.
    """
    in_style = which in demo.STYLES
    parts = SPLITS if in_style else PARTS
    if (not in_style and which not in CHOICES) or split not in parts:
        raise ConfigError(
            f"there is no demo set {which!r}, split {split!r}; expected {DEMO}, or {DEMO}: and one "
            f"of {', '.join((*CHOICES[1:], *demo.STYLES))}, and the split {' or '.join(parts)}"
        )
    images: list[Path] = []
    captions: list[tuple[str, ...]] = []
    numbers: list[int] = []
    for concept in concepts():
        wanted = concept.base == (split == "train") if in_style else concept.among(which)
        if not (wanted and concept.captions):
            continue
        if in_style:
            found = concept.drawings(which, root)
            found = found if split == "train" else found[:1]
        else:
            found = part_of(concept, split, root)
        images += found
        captions += [concept.captions] * len(found)
        numbers += [concept.number] * len(found)
    title = f"demo drawings, {which} ({split})" if which else f"demo drawings ({split})"
    return Captioned(title, images, captions, numbers)


def part_of(concept: Concept, split: str, root: Path | None = None) -> list[Path]:
    """The drawings of a concept in one of `PARTS`."""
    if split == "test":
        return concept.drawings("test", root)[:TESTED]
    found = concept.drawings("pool", root)
    border = len(found) - len(found) // HELD
    return {"fit": found[:border], "held": found[border:]}.get(split, found)
