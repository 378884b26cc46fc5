"""AAPE for retrieval: an image's embedding is changed by the prompt generated from it.

*A reconstruction*, with the parts of `sar.toolbox.aggregation`. The reference prompts of an image
are its captions; f is its feature, r_k those of its captions, s their summary, p the generated
prompt embedding, and the image is looked for by

    v    = p  (COMBINE "replace")    or    normalize(f + p)  ("add")
    loss = (CE(image to text) + CE(text to image)) / 2 of CLIP's scaled cosines of v and one caption
           of each image, drawn anew, within the batch
           + DISTILL_WEIGHT * distance(p, stopgrad(s)) + REWARD_WEIGHT * reward(s, f)

Captions keep CLIP's own features. Before the first step p is f, and v too. In a test no caption of
the image is needed: s is for training alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sar.errors import DataError, NotFiniteError, WeightsError, one_line
from sar.storage.files import make_folder
from sar.storage.sealed import read_sealed, write_sealed
from sar.tasks.encoder import Encoder, Features, check_clip
from sar.toolbox.aggregation import (
    AGGREGATORS,
    DISTANCES,
    REWARDS,
    PromptGenerator,
    padded,
    pair_logits,
)
from sar.toolbox.clip.prompted import normalize
from sar.toolbox.utils.checkpoint import misfits

RECORD, WEIGHTS = "adapter.json", "adapter.safetensors"
COMBINATIONS = ("add", "replace")


@dataclass(frozen=True)
class Settings:
    """Of a training."""

    combine: str = "add"
    aggregator: str = "attention"
    heads: int = 4
    reward: str = "cosine"
    reward_weight: float = 1.0
    distance: str = "cosine"
    distill_weight: float = 1.0
    epochs: int = 10
    batch: int = 32
    lr: float = 3e-4
    seed: int = 1


class Adapter(nn.Module):
    """The prompt generator, and how its output is combined with the image's feature."""

    def __init__(self, dim: int, combine: str) -> None:
        super().__init__()
        self.generator = PromptGenerator(dim)
        self.combine = combine

    def forward(self, images: Tensor) -> Tensor:
        """Image features (B, D) -> embeddings (B, D) to look for them by, both normalized."""
        generated: Tensor = self.generator(images)
        return self.combined(images, generated)

    def combined(self, images: Tensor, generated: Tensor) -> Tensor:
        """The same, of prompt embeddings (B, D) that are there already."""
        return generated if self.combine == "replace" else normalize(images + generated)


def train(
    features: Features, settings: Settings, scale: float, tell: Callable[[str], None] = print
) -> Adapter:
    """Learns from the captions of the images; `tell` gets a line after each epoch.

    The global random state stays as it is.

    Args:
        scale: CLIP's, of the cosines.

    Raises:
        NotFiniteError: the loss is NaN or infinite.
    """
    n, dim = features.images.shape
    prompts, present = padded(features.captions, features.counts.tolist())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        adapter = Adapter(dim, settings.combine)
        aggregator = AGGREGATORS[settings.aggregator](dim, settings.heads)
    draws = torch.Generator().manual_seed(settings.seed)
    optimizer = torch.optim.AdamW([*adapter.parameters(), *aggregator.parameters()], lr=settings.lr)
    aggregator.begin(settings.seed)
    for epoch in range(settings.epochs):
        total = 0.0
        for rows in torch.randperm(n, generator=draws).split(settings.batch):
            images, concepts = features.images[rows], features.concepts[rows]
            which = (torch.rand(len(rows), generator=draws) * features.counts[rows]).long()
            generated = adapter.generator(images)
            found = adapter.combined(images, generated)
            loss = _contrast(found, prompts[rows, which], concepts, scale)
            summary = aggregator(images, prompts[rows], present[rows])
            factor = torch.tensor(scale)
            reward = REWARDS[settings.reward](summary, images, concepts, factor)
            distance = DISTANCES[settings.distance](generated, summary.detach())
            loss = loss + settings.reward_weight * reward + settings.distill_weight * distance
            if not torch.isfinite(loss):
                raise NotFiniteError(f"the loss is {loss.item()} in epoch {epoch + 1}; lower --lr")
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(rows)
        tell(f"epoch {epoch + 1}/{settings.epochs}: loss {total / n:.4f}")
    return adapter.eval()


def _contrast(images: Tensor, captions: Tensor, concepts: Tensor, scale: float) -> Tensor:
    """Cross-entropy both ways of the pairs (B, D); others of the same concept are no mistake."""
    logits = pair_logits(images, captions, concepts, scale)
    label = torch.arange(len(logits))
    return (F.cross_entropy(logits, label) + F.cross_entropy(logits.t(), label)) / 2


def save_adapter(
    adapter: Adapter, folder: Path, encoder: Encoder, settings: Settings, trained_on: str
) -> None:
    """Writes RECORD and WEIGHTS into `folder`, made if need be."""
    record = {
        "clip": encoder.name,
        "clip_content": encoder.content,
        "trained_on": trained_on,
        "settings": dataclasses.asdict(settings),
    }
    make_folder(folder)
    write_sealed(folder / RECORD, record, folder / WEIGHTS, adapter.state_dict())


def load_adapter(folder: Path, encoder: Encoder, combine: str = "add") -> Adapter:
    """The adapter in a folder that `save_adapter` wrote, or the generator of a trained AAPE.

    Args:
        encoder: the CLIP that its features are from.
        combine: of a classifier's generator, whose training does not say.

    Raises:
        WeightsError, DataError: there is none, it does not fit, or it was trained on another CLIP.
    """
    if (folder / RECORD).is_file():
        record, state = read_sealed(folder / RECORD, folder / WEIGHTS, "train it again")
        try:
            combine, content = record["settings"]["combine"], record["clip_content"]
            if combine not in COMBINATIONS:
                raise ValueError(f"combine is {combine!r}, expected {' or '.join(COMBINATIONS)}")
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"{folder / RECORD} describes no adapter ({one_line(repr(error))}); train it again"
            ) from error
    else:
        state, content = _of_classifier(folder)
    check_clip(encoder, content, folder)
    adapter = Adapter(encoder.dim, combine)
    if problems := misfits(state, adapter.state_dict()):
        raise WeightsError(f"{folder} holds no adapter: {'; '.join(problems)}; train it again")
    adapter.load_state_dict(state)
    return adapter.eval()


def _of_classifier(folder: Path) -> tuple[dict[str, Tensor], str]:
    """The generator of a training of AAPE, and what its CLIP computes."""
    from sar.classifier.recipe import clip_content, read_run

    recipe, trainer = read_run(folder)
    prefix = "prompt_learner.generator."
    state: dict[str, Any] = {
        f"generator.{name.removeprefix(prefix)}": value
        for name, value in recipe.learned.items()
        if name.startswith(prefix)
    }
    if not state:
        raise WeightsError(
            f"{folder} holds a training of {recipe.cfg.TRAINER.NAME}, which generates no prompt "
            "embeddings; expected one of AAPE, or of `sarclip retrieval train`"
        )
    return state, clip_content(trainer)
