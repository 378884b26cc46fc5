"""Whose similarities the learned prompts should keep: the choices of ``TRAINER.SAR.TEACHER``.

text       the frozen text encoder's, of the prompts that TRAINER.SAR.TEMPLATE says
images     the frozen image encoder's: the mean of a class's training images
sentences  a sentence encoder's, of the bare class names (all-MiniLM-L6-v2; no vision at all)
FILE       the same from a file that tools/sentences.py has made
shuffled   those of text, each class with another class's features: a control
constant   all classes equally similar, as much as they are in text on average: a control
"""

import copy
import inspect
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sar.classes.identity import identity, shown
from sar.encoding import in_float32
from sar.errors import DataError, HostError, one_line
from sar.storage.files import expanded
from sar.storage.sealed import read_tensors

TEXT, IMAGES, SENTENCES, SHUFFLED, CONSTANT = TEACHERS = (
    "text",
    "images",
    "sentences",
    "shuffled",
    "constant",
)
SUFFIX = ".safetensors"
SHIPPED_SENTENCES = Path(__file__).parent / "classes" / f"sentences{SUFFIX}"
_BATCH = 100
_AGAIN = "expected a file of tools/sentences.py"


def teacher_features(
    teacher: str,
    text: Callable[[], Tensor],
    names: Sequence[str],
    seed: int,
    clip_model: Any,
    dm: Any,
) -> Tensor:
    """The teacher's features of the C classes `names`, (C, D') float32.

    Args:
        teacher: as in ``TRAINER.SAR.TEACHER``.
        text: gives the features of hand-crafted prompts, (C, D); with ``text`` and ``shuffled``
            also those of several, (T, C, D), which are then returned as such. The teachers that
            have features of their own do not call it.
        seed: of ``shuffled``.
        clip_model, dm: the host's frozen CLIP and its data manager, whose training images are
            labelled by their place in `names`.

    Raises:
        DataError: a class without images, or a file that cannot be read or lacks a class.
        HostError: an image encoder that takes more than images, or has prompts of its own.
    """
    if teacher == TEXT:
        return text()
    if teacher == SHUFFLED:
        return text()[..., _exchanged(len(names), seed), :]
    if teacher == CONSTANT:
        return _equally_similar(text())
    if teacher == IMAGES:
        return _means_of_images(clip_model.visual, dm, names)
    return read_embeddings(SHIPPED_SENTENCES if teacher == SENTENCES else expanded(teacher), names)


def _exchanged(n: int, seed: int) -> Tensor:
    """A random order (n,) of n classes, at least two, in which none is in its own place."""
    order: list[int] = torch.randperm(n, generator=torch.Generator().manual_seed(seed)).tolist()
    for place in range(n):
        if order[place] == place:
            other = (place + 1) % n
            order[place], order[other] = order[other], place
    return torch.tensor(order)


def _equally_similar(text: Tensor) -> Tensor:
    """(C, 1 + C): any two rows have the mean cosine of two rows of `text`, or 0 if it is less."""
    unit, n = F.normalize(text), len(text)
    mean = ((unit.sum(dim=0).square().sum() - n) / (n * (n - 1))).clamp_min(0)
    return torch.cat([mean.sqrt().expand(n, 1), (1 - mean).sqrt() * torch.eye(n)], dim=1)


@torch.no_grad()
def _means_of_images(visual: Any, dm: Any, names: Sequence[str]) -> Tensor:
    """Means (C, D) of the training images' features, each of length 1, as in a test."""
    own = [name for name, _ in visual.named_parameters() if "VPT" in name]
    if own or len(inspect.signature(visual.forward).parameters) != 1:
        raise HostError(
            f"TRAINER.SAR.TEACHER {IMAGES} needs CLIP's plain image encoder; this host's "
            f"{type(visual).__name__} has prompts in it. Choose another teacher."
        )
    encoder = in_float32(visual)
    device = next(encoder.parameters()).device
    data = copy.copy(dm.test_loader.dataset)  # with the transform of a test
    data.data_source = list(dm.dataset.train_x)
    labels = torch.tensor([item.label for item in data.data_source])
    counts = torch.bincount(labels, minlength=len(names))
    if len(counts) != len(names) or not counts.all():
        raise DataError(
            f"TRAINER.SAR.TEACHER {IMAGES} needs training images of all {len(names)} classes, and "
            f"there are some of {int((counts > 0).sum())}. Novel classes have none: set "
            "TRAINER.SAR.NOVEL to none."
        )
    sums: Tensor | None = None
    for part in torch.arange(len(labels)).split(_BATCH):
        images = torch.stack([data[i]["img"] for i in part.tolist()])
        found = F.normalize(encoder(images.to(device, torch.float32))).cpu()  # (B, D)
        sums = found.new_zeros(len(names), found.shape[1]) if sums is None else sums
        sums.index_add_(0, labels[part], found)
    assert sums is not None
    return sums / counts[:, None]


def read_embeddings(path: Path, names: Sequence[str]) -> Tensor:
    """The embeddings (C, D'), float32, that a file has for `names`, in any spelling of theirs.

    The file is a .safetensors one with a matrix ``embeddings`` and, as metadata ``names``, a JSON
    list of the names of its rows. Raises `DataError` for another file, or one that lacks a name;
    `WeightsError` for one that cannot be read.
    """
    tensors, said = read_tensors(path, _AGAIN)
    try:
        rows, known = tensors["embeddings"].float(), json.loads(said["names"])
        place = {identity(name): i for i, name in enumerate(known)}
        if rows.dim() != 2 or not len(rows) == len(known) == len(place):
            raise ValueError(f"{len(place)} different names for embeddings {tuple(rows.shape)}")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"the embeddings in {path} cannot be used: {one_line(repr(error))}; {_AGAIN}"
        ) from error
    if missing := [name for name in names if identity(name) not in place]:
        raise DataError(
            f"{path} has no embedding of {len(missing)} of {len(names)} classes: "
            f"{', '.join(map(shown, missing[:10]))}{', ...' * (len(missing) > 10)}. Make a file "
            "with them by tools/sentences.py, and give it as TRAINER.SAR.TEACHER."
        )
    return rows[[place[identity(name)] for name in names]]
