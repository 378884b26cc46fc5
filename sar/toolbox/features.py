"""Test images are encoded once by a frozen image encoder, for every method and seed that has it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, SequentialSampler

from sar.cache import kept, key_of
from sar.toolbox.engine import TrainerX, progress_bar


class FrozenImageEncoder(TrainerX):
    """Evaluates on image features that are kept on disk (see `sar.cache`).

    They are those of the batches at hand, so that the logits are bit for bit what encoding the
    images anew would give. Subclasses have `image_tower`, `encode_images` and `classify`.
    """

    def image_tower(self) -> nn.Module:
        """The image encoder, none of whose weights is ever trained."""
        raise NotImplementedError

    def encode_images(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> features (B, D) as `classify` takes them."""
        raise NotImplementedError

    def classify(self, features: Tensor) -> Tensor:
        """(B, D) -> logits (B, n_cls)."""
        raise NotImplementedError

    def model_inference(self, input: Tensor) -> Tensor:
        return self.classify(self.encode_images(input))

    def predictions(self, loader: "DataLoader[Any]", desc: str) -> Iterator[tuple[Tensor, Tensor]]:
        if not isinstance(loader.sampler, SequentialSampler) or loader.batch_size is None:
            yield from super().predictions(loader, desc)
            return
        # Every look through a loader draws a number for its workers. An evaluation between two
        # epochs must leave the random state the same, whether the images are read or not.
        torch.empty((), dtype=torch.int64).random_()
        with torch.random.fork_rng(devices=[]):
            found = kept("images", self._key(loader), lambda: self._encode(loader, desc))
        features = found["features"]
        data = loader.dataset.data_source  # type: ignore[attr-defined]
        labels = torch.tensor([item.label for item in data])
        for some, their in zip(
            features.split(loader.batch_size), labels.split(loader.batch_size), strict=True
        ):
            yield self.classify(some.to(self.device)), their.to(self.device)

    def _encode(self, loader: "DataLoader[Any]", desc: str) -> dict[str, Tensor]:
        bar = progress_bar(loader, desc=desc)
        batches = [self.encode_images(self.parse_batch_test(batch)[0]).cpu() for batch in bar]
        return {"features": torch.cat(batches)}

    def _key(self, loader: "DataLoader[Any]") -> str:
        """Of all that decides the features: images, transform, weights, batches, arithmetic."""
        images = []
        for item in loader.dataset.data_source:  # type: ignore[attr-defined]
            found = Path(item.impath).stat()
            images.append(f"{item.impath} {found.st_size} {found.st_mtime_ns}")
        device = torch.cuda.get_device_name() if self.device.type == "cuda" else "cpu"
        # Not cfg.INPUT, where methods differ in what concerns training alone.
        transform = loader.dataset.transform  # type: ignore[attr-defined]
        settings = f"{transform} {loader.batch_size} {device} {torch.__version__}"
        return key_of(settings, "\n".join(images), self.image_tower().state_dict())
