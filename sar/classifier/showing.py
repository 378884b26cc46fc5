"""The content of the page of `sarclip app`: pictures, answers, relations of classes."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

from sar.classifier.confidence import known_share
from sar.classifier.predictor import Classifier, Guess
from sar.classifier.recipe import TEMPERATURE, THRESHOLD, Recipe
from sar.command_line.extras import extra
from sar.errors import ConfigError, DataError
from sar.inspection.models import IMAGES
from sar.inspection.relations import compare, similarities
from sar.picture import read_seen

with extra("app"):
    from matplotlib.figure import Figure

    from sar.inspection.figure import draw

MOST_PICTURES = 32
FEWEST_CLASSES = 3
"""Of which relations can be compared."""
_THUMBNAIL = (320, 320)
Variants = Callable[[tuple[str, ...]], Classifier]


@dataclass(frozen=True)
class Pictures:
    """Those that could be read, and a line for each that could not."""

    names: tuple[str, ...] = ()
    thumbnails: tuple[Image.Image, ...] = ()
    images: Tensor | None = None
    """(N, 3, H, W) fp32, transformed; None: no pictures."""
    problems: tuple[str, ...] = ()


class Answer(NamedTuple):
    """What a classifier says of a picture."""

    guesses: list[Guess]
    """The likeliest classes, the likeliest first."""
    unknown: float | None
    """Share of probability of the negative labels, from 0 to 1; None: there are none."""
    rejected: bool
    """Whether that is too much for a picture of one of the classes."""


def variants(classifier: Classifier, most: int = 3) -> Variants:
    """A function from class names to the classifier with these classes; itself never changes.

    The function raises ConfigError for names that cannot be classes.

    Args:
        most: how many of the latest are kept; each holds a copy of the CLIP.
    """

    @lru_cache(most)
    def of(names: tuple[str, ...]) -> Classifier:
        other = copy.copy(classifier)  # the CLIP is shared, and all else replaced
        other.set_classes(names)
        return other

    return of


def read_pictures(classifier: Classifier, files: Sequence[str]) -> Pictures:
    """The first MOST_PICTURES files, ready for `answers`."""
    names, thumbnails, images, problems = [], [], [], []
    for file in files[:MOST_PICTURES]:
        name = Path(file).name
        try:
            picture = read_seen(file)
        except DataError:
            problems.append(f"{name} cannot be read as a picture")
            continue
        names.append(name)
        images.append(classifier.transform(picture))
        picture.thumbnail(_THUMBNAIL)
        thumbnails.append(picture)
    if len(files) > MOST_PICTURES:
        problems.append(
            f"{len(files)} pictures, of which the first {MOST_PICTURES} are looked at; "
            "sarclip predict labels whole folders"
        )
    batch = torch.stack(images) if images else None
    return Pictures(tuple(names), tuple(thumbnails), batch, tuple(problems))


def answers(classifier: Classifier, pictures: Pictures, top: int) -> list[Answer]:
    """An answer for each picture, of `top` classes at most."""
    if pictures.images is None:
        return []
    found = [classifier.output_of_batch(images) for images in classifier.batches(pictures.images)]
    output, classes = torch.cat(found), len(classifier.classes)
    guesses = classifier.guesses(output[:, :classes], top)
    if output.shape[1] == classes:
        return [Answer(some, None, False) for some in guesses]
    known = known_share(output, classes).tolist()
    return [
        Answer(some, 1 - share, classifier.rejects(share))
        for some, share in zip(guesses, known, strict=True)
    ]


def relations_follow_pictures(classifier: Classifier) -> bool:
    """Whether its prompts, and so the relations of its classes, depend on the picture."""
    try:
        classifier.class_features()
    except ConfigError:
        return True
    return False


def relations(classifier: Classifier, hand_crafted: Tensor, pictures: Pictures) -> Figure:
    """The figure of `sarclip inspect` for the classes of a classifier.

    Args:
        hand_crafted: (C, D) text features of the same classes under the hand-crafted prompt.
        pictures: for which prompts are made that depend on the picture; their mean is shown.

    Raises:
        ConfigError: fewer than three classes, or no pictures where the prompt depends on them.
    """
    names = classifier.classes
    if len(names) < FEWEST_CLASSES:
        raise ConfigError(f"relations are shown among {FEWEST_CLASSES} classes or more")
    images = None if pictures.images is None else pictures.images[:IMAGES]
    features = classifier.class_features(images)
    learned = similarities(features.mean(dim=0) if features.dim() == 3 else features)
    reference = similarities(hand_crafted)
    cfg = classifier.recipe.cfg
    found = compare(reference, learned, names, cfg.TRAINER.SAR.TEMPERATURE)
    title = f"Relations among the {len(names)} classes, by prompt"
    method = classifier.method
    return draw(title, names, reference, {method: learned}, {method: found})


def caption(answer: Answer) -> str:
    """One line below a picture."""
    first = answer.guesses[0]
    return "I don't know" if answer.rejected else f"{first.name}: {first.probability:.0%}"


def verdict(answer: Answer, recipe: Recipe) -> str:
    """What is said above the bars, in Markdown; `recipe`: of the classifier that answered."""
    first, least, others = answer.guesses[0], recipe.threshold, recipe.of_other_classes
    said = [f"### {plain_text(first.name)}: {first.probability:.1%}"]
    if answer.unknown is not None:
        if answer.rejected:
            said = ["### I don't know"]
        other = "; that limit is of other classes" * (THRESHOLD in others)
        said.append(
            f"{answer.unknown:.1%} of the probability is with things that are none of the "
            f"classes; from {1 - least:.1%} on, a picture is unknown{other}."
        )
    if TEMPERATURE in others:
        said.append("The temperature of the probabilities was fitted with other classes.")
    return "\n".join(said)


def bars(answer: Answer) -> dict[str, float]:
    """The probabilities of the likeliest classes, by their names."""
    return dict(answer.guesses)


def counted(classifier: Classifier) -> str:
    """How many classes there are, and of which kind."""
    trained, new = len(classifier.base_classes), len(classifier.new_classes)
    return f"{trained + new} classes: {trained} trained, {new} by name alone"


def plain_text(text: str) -> str:
    """`text` escaped, so that none of its characters means anything in Markdown."""
    return re.sub(r"([\\`*_{}\[\]<>()#+.!|~$&-])", r"\\\1", " ".join(text.split()))
