"""One linear layer from an image's feature to a prefix of a frozen language model.

As LiMBeR does it (Merullo et al., *Linearly Mapping from Image to Text Space*, ICLR 2023): K
embeddings are put where words would be, and the language model goes on from there. The layer learns
from captions; CLIP and the language model stay as they are. With AAPE it sees the generated
embedding beside the image's feature: *a reconstruction*, it is not known how the paper joins them.

    prefix = W f + b        or        W [f; p] + b        (K x d numbers)
    loss   = cross-entropy of a caption of the image, drawn anew each time, behind the prefix
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sar.errors import ConfigError, DataError, NotFiniteError, WeightsError, one_line
from sar.storage.files import make_folder
from sar.storage.sealed import read_sealed, write_sealed
from sar.tasks.encoder import Encoder, check_clip
from sar.tasks.language import LanguageModel
from sar.tasks.language_models import load_language_model
from sar.toolbox.aggregation import PromptGenerator
from sar.toolbox.utils.checkpoint import misfits

RECORD, WEIGHTS = "mapping.json", "mapping.safetensors"


@dataclass(frozen=True)
class Settings:
    """Of a training."""

    tokens: int = 4
    """K, of the prefix."""
    epochs: int = 15
    batch: int = 8
    lr: float = 0.01
    seed: int = 1


class Mapping(nn.Module):
    """Image features (B, D) -> prefixes (B, K, d) of a language model.

    Args:
        dim, width: D and d. generator: of a trained AAPE; it is frozen, and kept with the layer.
    """

    def __init__(
        self, dim: int, width: int, tokens: int, generator: PromptGenerator | None = None
    ) -> None:
        super().__init__()
        self.generator = generator and generator.requires_grad_(False)
        self.tokens = tokens
        self.linear = nn.Linear(2 * dim if generator else dim, tokens * width)

    def forward(self, images: Tensor) -> Tensor:
        seen = torch.cat([images, self.generator(images)], dim=-1) if self.generator else images
        prefix: Tensor = self.linear(seen).unflatten(-1, (self.tokens, -1))
        return prefix


def train(
    images: Tensor,
    captions: Sequence[Sequence[str]],
    model: LanguageModel,
    settings: Settings,
    generator: PromptGenerator | None = None,
    tell: Callable[[str], None] = print,
) -> Mapping:
    """Learns from images (N, D), normalized, and their captions; `tell` gets a line each epoch.

    The global random state stays as it is.

    Raises:
        ConfigError: the longest caption does not fit into the language model. NotFiniteError: the
        loss is NaN or infinite.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        mapping = Mapping(images.shape[1], model.width, settings.tokens, generator)
    images, mapping = images.to(model.device), mapping.to(model.device)
    draws = torch.Generator().manual_seed(settings.seed)
    ids = {text: [*model.encode(text), model.end] for of_one in captions for text in of_one}
    longest = 1 + settings.tokens + max(map(len, ids.values()))
    if longest > model.length:
        raise ConfigError(
            f"the longest caption and its prefix need {longest} positions, and {model.name} has "
            f"{model.length}; take fewer --tokens, or shorten it"
        )
    layer = mapping.linear
    optimizer = torch.optim.AdamW(layer.parameters(), lr=settings.lr)
    steps = settings.epochs * math.ceil(len(images) / settings.batch)
    decay = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, steps)
    for epoch in range(settings.epochs):
        total = 0.0
        for rows in torch.randperm(len(images), generator=draws).split(settings.batch):
            drawn = torch.rand(len(rows), generator=draws).tolist()
            said = [captions[n] for n in rows.tolist()]
            texts = [of_one[int(r * len(of_one))] for of_one, r in zip(said, drawn, strict=True)]
            loss = _loss(mapping(images[rows]), [ids[text] for text in texts], model)
            if not torch.isfinite(loss):
                raise NotFiniteError(f"the loss is {loss.item()} in epoch {epoch + 1}; lower --lr")
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            decay.step()
            total += loss.item() * len(rows)
        tell(f"epoch {epoch + 1}/{settings.epochs}: loss {total / len(images):.4f}")
    return mapping.cpu().eval()


def _loss(prefix: Tensor, captions: Sequence[Sequence[int]], model: LanguageModel) -> Tensor:
    """Cross-entropy of captions, with their ends, behind prefixes (B, K, d); mean over tokens."""
    told = [torch.tensor(ids) for ids in captions]
    padded = nn.utils.rnn.pad_sequence(told, batch_first=True, padding_value=model.end)
    asked = nn.utils.rnn.pad_sequence(told, batch_first=True, padding_value=-100)
    padded, asked = padded.to(model.device), asked.to(model.device)
    start = model.embed(torch.full((len(told), 1), model.start, device=model.device))
    # Padding is behind the end, where nothing is asked and nothing before it looks.
    rows = torch.cat([start, prefix, model.embed(padded[:, :-1])], dim=1)
    logits = model.logits(rows, prefix.shape[1])  # the last prefix token gives the first word
    return F.cross_entropy(logits.flatten(0, 1), asked.flatten(), ignore_index=-100)


def save_mapping(
    mapping: Mapping,
    folder: Path,
    encoder: Encoder,
    model: LanguageModel,
    settings: Settings,
    trained_on: str,
) -> None:
    """Writes RECORD and WEIGHTS into `folder`, made if need be."""
    record = {
        "clip": encoder.name,
        "clip_content": encoder.content,
        "language_model": model.name,
        "language_model_content": model.content,
        "trained_on": trained_on,
        "settings": dataclasses.asdict(settings),
    }
    make_folder(folder)
    write_sealed(folder / RECORD, record, folder / WEIGHTS, mapping.state_dict())


def load_mapping(folder: Path, encoder: Encoder, model: LanguageModel) -> Mapping:
    """The mapping in a folder that `save_mapping` wrote.

    Raises:
        WeightsError, DataError: there is none, or it was trained on another CLIP or language model.
    """
    return _built(folder, *_read(folder), encoder, model)


def _built(
    folder: Path,
    record: dict[str, Any],
    state: dict[str, Tensor],
    encoder: Encoder,
    model: LanguageModel,
) -> Mapping:
    check_clip(encoder, record["clip_content"], folder)
    if record["language_model_content"] != model.content:
        raise WeightsError(
            f"{folder} was trained on another language model than {model.name} "
            f"({record['language_model']}); give its own with --lm"
        )
    generator = PromptGenerator(encoder.dim) if "generator.linear1.weight" in state else None
    mapping = Mapping(encoder.dim, model.width, record["settings"]["tokens"], generator)
    if problems := misfits(state, mapping.state_dict()):
        raise WeightsError(f"{folder} holds no mapping: {'; '.join(problems)}; train it again")
    mapping.load_state_dict(state)
    return mapping.eval()


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    record, state = read_sealed(folder / RECORD, folder / WEIGHTS, "train it again")
    try:
        names = [record[key] for key in ("clip", "clip_content", "language_model")]
        names.append(record["language_model_content"])
        if not all(isinstance(name, str) for name in names):
            raise ValueError(f"one of {names} is no text")
        if not (isinstance(tokens := record["settings"]["tokens"], int) and tokens > 0):
            raise ValueError(f"tokens is {tokens!r}, expected a number above 0")
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{folder / RECORD} describes no mapping ({one_line(repr(error))}); train it again"
        ) from error
    return record, state


def load_mappings(
    folders: Sequence[Path], clip: str | None, language_model: str | None
) -> tuple[Encoder, LanguageModel, dict[str, Mapping]]:
    """Mappings by their folders' names, with their CLIP and their language model.

    Args:
        clip, language_model: by default those that the first was trained with.

    Raises:
        WeightsError, DataError: as `load_mapping`, `Encoder` and `load_language_model` do.
    """
    read = {folder: _read(folder) for folder in folders}
    record, _ = read[folders[0]]
    encoder = Encoder(clip or record["clip"])
    model = load_language_model(language_model or record["language_model"])
    found = {str(place): _built(place, *what, encoder, model) for place, what in read.items()}
    return encoder, model, found


@torch.no_grad()
def prefixes(mapping: Mapping | None, images: Tensor, width: int) -> Tensor:
    """(N, K, d) of images (N, D); K is 0 without a mapping: no image is seen."""
    return images.new_empty(len(images), 0, width) if mapping is None else mapping(images)
