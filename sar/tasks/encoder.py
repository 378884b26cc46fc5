"""Features of images and their captions from a frozen CLIP, kept on disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sar.encoding import encode_tokens
from sar.errors import DataError, WeightsError
from sar.picture import read_seen
from sar.storage.cache import arithmetic, kept, key_of
from sar.tasks.captioned import Captioned
from sar.toolbox.clip import load_clip
from sar.toolbox.clip.prompted import normalize
from sar.toolbox.config import get_cfg_default
from sar.toolbox.data.contents import stamps
from sar.toolbox.data.transforms import build_transform
from sar.toolbox.engine.origin import content_of

_IMAGES, _CAPTIONS = 100, 512  # encoded at a time


@dataclass(frozen=True)
class Features:
    """Normalized features, float32, on the CPU."""

    images: Tensor
    """(N, D)"""
    captions: Tensor
    """(M, D), those of the first image first."""
    counts: Tensor
    """(N,) long: how many captions each image has."""
    concepts: Tensor
    """(N,) long: images with the same number have captions that are true of all of them."""

    @property
    def owner(self) -> Tensor:
        """(M,) long: the row of each caption's image."""
        return owner_of(self.counts)


def owner_of(counts: Tensor) -> Tensor:
    """(M,) long: the image of each caption, of (N,) numbers of captions."""
    return torch.arange(len(counts)).repeat_interleave(counts)


class Encoder:
    """A frozen CLIP by its name or file; raises what `load_clip` raises."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        backbone = load_clip(name, self.device)
        self.model: Any = backbone.model
        self.tokenizer = backbone.tokenizer
        self.content = content_of(self.model)
        cfg = get_cfg_default()
        cfg.MODEL.BACKBONE.NAME = name
        # As in all configurations of CLIP that were published.
        cfg.INPUT.INTERPOLATION, cfg.INPUT.TRANSFORMS = "bicubic", ("normalize",)
        self._transform = build_transform(cfg, is_train=False)

    @cached_property
    def dim(self) -> int:
        """Of features."""
        dim: int = self._of_texts(["a"]).shape[1]
        return dim

    @property
    def scale(self) -> float:
        """CLIP's factor of cosines."""
        scale: float = self.model.logit_scale.exp().item()
        return scale

    def features(self, data: Captioned) -> Features:
        """Those of all images and captions. Raises as `images` does."""
        texts = [caption for of_one in data.captions for caption in of_one]
        counts = torch.tensor([len(of_one) for of_one in data.captions])
        concepts = torch.tensor(data.concepts)
        return Features(self.images(data.images), self.texts(texts), counts, concepts)

    def images(self, paths: Sequence[Path]) -> Tensor:
        """Features (N, D) of pictures, normalized.

        Raises:
            DataError: one is missing, or cannot be read.
        """
        if missing := [path for path in paths if not path.is_file()]:
            raise DataError(f"there is no picture {missing[0]}; check its path")
        key = key_of(self._how, "\n".join(stamps(paths)))
        return kept("images", key, lambda: {"features": self._of_images(paths)})["features"]

    def texts(self, texts: Sequence[str]) -> Tensor:
        """Features (M, D) of texts, normalized; they are cut behind the last word that fits."""
        key = key_of(self._how, "\n".join(texts))
        return kept("texts", key, lambda: {"features": self._of_texts(texts)})["features"]

    @property
    def _how(self) -> str:
        return f"{arithmetic(self.device)} {self._transform} {self.content}"

    @torch.no_grad()
    def _of_images(self, paths: Sequence[Path]) -> Tensor:
        found = []
        for i in range(0, len(paths), _IMAGES):
            batch = [self._transform(read_seen(str(path))) for path in paths[i : i + _IMAGES]]
            found.append(normalize(self.model.encode_image(torch.stack(batch).to(self.device))))
        return torch.cat(found).float()

    @torch.no_grad()
    def _of_texts(self, texts: Sequence[str]) -> Tensor:
        found = []
        for i in range(0, len(texts), _CAPTIONS):
            tokens = self.tokenizer([self._cut(text) for text in texts[i : i + _CAPTIONS]])
            tokens = tokens.to(self.device)
            features = encode_tokens(self.model, self.model.token_embedding, tokens)
            found.append(normalize(features))
        return torch.cat(found).float()

    def _cut(self, text: str) -> str:
        words = text.split()
        room = self.tokenizer.length - self.tokenizer.starts - 1
        while len(self.tokenizer.encode(" ".join(words))) > room:
            words = words[:-1] if len(words) > 1 else [words[0][: len(words[0]) // 2]]
        return " ".join(words)


def check_clip(encoder: Encoder, content: str, folder: Path) -> None:
    """Raises WeightsError unless the content of `folder` was trained on this CLIP."""
    if content != encoder.content:
        raise WeightsError(
            f"{folder} was trained on another CLIP than {encoder.name}; give its own with --clip"
        )
