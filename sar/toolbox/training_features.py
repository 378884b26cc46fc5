"""Training images are encoded once by a frozen image encoder, for all trainings that see the same.

Two trainings see the same batches, crops and flips included, where an epoch begins with the same
state of torch's random generator and the same images, transform and loader settings. For one seed
that holds for CoOp and SAR_CoOp (SAR draws from a generator of its own), and for every setting of
an ablation. The first of them encodes an epoch before it trains on it; a later one reads no
picture, and goes on with the random state that reading them leaves. An entry holds an epoch: its
features, the order of its images, and that state.

With fixed views (DATALOADER.VIEWS N) an entry holds one view of every picture, in the order of the
dataset. There are N of them for any number of epochs, of which those of a smaller N are the first.

A training step then finds features in place of a batch's "img"; ``SAR_TRAINING_FEATURES=0`` has
pictures read and encoded in each training.
"""

import os
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision import transforms as T

from sar.errors import ConfigError
from sar.storage.cache import cache_folder, cache_limit, kept, key_of
from sar.toolbox import distributed
from sar.toolbox.clip import autocast
from sar.toolbox.clip.prompted import Classifier
from sar.toolbox.engine import progress_bar
from sar.toolbox.features import images_key

VARIABLE = "SAR_TRAINING_FEATURES"


class TrainingFeatures:
    """The epochs of one training.

    Args:
        model: `encode_images` must depend on the weights of `image_encoder` alone, which stay.
        precision: of the training step, see `sar.toolbox.clip.precision`.
        epochs: how many there will be; the log says what they take in the cache.
    """

    _size = 0  # bytes of an entry, once one is known

    def __init__(
        self,
        model: Classifier,
        loader: "DataLoader[Any]",
        device: torch.device,
        precision: str,
        epochs: int,
    ) -> None:
        self.model, self.loader, self.device = model, loader, device
        self.precision = precision
        data: Any = loader.dataset
        self._views = data.fixed_views
        self._entries = min(epochs, self._views or epochs)
        order = f"{type(loader.sampler).__name__} {loader.drop_last} {loader.num_workers}"
        seen = f"view of {data.seed}" if self._views else order
        self._key = key_of(f"{seen} {precision}", images_key(model, loader, device))

    @staticmethod
    def fit(loader: "DataLoader[Any]", seed: int) -> bool:
        """Whether features are wanted and can be kept, and another training can see the same.

        Raises `ConfigError` for a value of the variable that is neither yes nor no.
        """
        wanted = os.environ.get(VARIABLE, "")
        if wanted not in ("", "0", "1"):
            raise ConfigError(f"{VARIABLE} is {wanted!r}; expected 1, 0 or nothing")
        if wanted == "0" or cache_folder() is None:
            return False
        transform = getattr(loader.dataset, "transform", None)
        # One's own transform may draw from other generators than torchvision's do.
        known = isinstance(transform, T.Compose) and all(
            type(step).__module__.startswith("torchvision.") for step in transform.transforms
        )
        alone = distributed.world_size() == 1
        one_view = getattr(loader.dataset, "views", 0) == 1
        return known and one_view and alone and seed >= 0

    def epoch(self, number: int, desc: str) -> Iterator[dict[str, Any]]:
        """The loader's next batches, with features (B, D) as `encode_images` gives in place of
        "img". Bit for bit those of the images, on the CPU; of fixed views up to rounding.

        number: of the epoch, from 0.
        """
        views = self._views
        batches = self._fixed(number % views, desc) if views else self._drawn(desc)
        items = self.loader.dataset.data_source  # type: ignore[attr-defined]
        for features, index in batches:
            batch = [items[i] for i in index.tolist()]
            yield {
                "img": features,
                "label": torch.tensor([item.label for item in batch]),
                "domain": torch.tensor([item.domain for item in batch]),
                "impath": [item.impath for item in batch],
                "index": index,
            }

    def _drawn(self, desc: str) -> Iterator[tuple[Tensor, Tensor]]:
        """Features (B, D) and indices (B,) of batches whose views are drawn now."""
        key = key_of(self._key, {"state": torch.get_rng_state()})
        found = self._kept(key, self.loader, desc)
        torch.set_rng_state(found["state"])
        size = self.loader.batch_size
        yield from zip(found["features"].split(size), found["index"].split(size), strict=True)

    def _fixed(self, view: int, desc: str) -> Iterator[tuple[Tensor, Tensor]]:
        """The same for views that are drawn already; draws the random numbers that images would."""
        loader = self.loader
        in_order = DataLoader(
            loader.dataset, batch_size=loader.batch_size, num_workers=loader.num_workers
        )
        with torch.random.fork_rng(devices=[]):
            found = self._kept(key_of(self._key, f"{view}"), in_order, desc)
        torch.empty((), dtype=torch.int64).random_()  # as a pass through the loader does
        for indices in loader.batch_sampler:  # type: ignore[union-attr]
            index = torch.tensor(indices)
            yield found["features"][index], index

    def _kept(self, key: str, loader: "DataLoader[Any]", desc: str) -> dict[str, Tensor]:
        found = kept("training", key, lambda: self._encoded(loader, desc))
        self._say(sum(tensor.nbytes for tensor in found.values()))
        return found

    def _say(self, size: int) -> None:
        """Says once, as soon as the bytes of an entry are known, what all of them will take."""
        if not self._size:
            self._size = size
            print(
                f"Training features: {size / 1e6:.1f} MB an epoch, {self._entries} of them "
                f"{self._entries * size / 1e6:.0f} MB in {cache_folder()} "
                f"(SAR_CACHE_LIMIT {cache_limit() / 1e9:g} GB)"
            )

    @torch.no_grad()
    def _encoded(self, loader: "DataLoader[Any]", desc: str) -> dict[str, Tensor]:
        features, index = [], []
        for batch in progress_bar(loader, desc=f"{desc}, images"):
            with autocast(self.precision, self.device):
                features.append(self.model.encode_images(batch["img"].to(self.device)).cpu())
            index.append(batch["index"])
            of_one = features[0][0].nbytes + index[0][0].nbytes
            self._say(_pictures(loader) * of_one + torch.get_rng_state().nbytes)
        return {
            "features": torch.cat(features),
            "index": torch.cat(index),
            "state": torch.get_rng_state(),
        }


def _pictures(loader: "DataLoader[Any]") -> int:
    """How many pictures one pass through the loader gives."""
    if loader.drop_last:
        return len(loader) * (loader.batch_size or 0)
    return len(loader.dataset)  # type: ignore[arg-type]
