"""Test images are encoded once by a frozen image encoder, for all methods and seeds that use it."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import PIL
import torch
import torchvision
from torch import Tensor
from torch.utils.data import DataLoader, SequentialSampler

from sar.storage.cache import arithmetic, code_of, kept, key_of
from sar.toolbox.clip.prompted import Classifier
from sar.toolbox.data.contents import stamps
from sar.toolbox.engine import progress_bar


def shared_predictions(
    model: Classifier, loader: "DataLoader[Any]", device: torch.device, desc: str
) -> Iterator[tuple[Tensor, Tensor]]:
    """Logits (B, n_cls) and labels (B,), batch by batch, on image features that are kept on disk.

    They are those of the batches at hand (see `sar.storage.cache`), so that the logits are bit
    for bit what encoding the images anew would give. `model.encode_images` must depend on the
    weights of `model.image_encoder` alone. Images that come in no fixed order are encoded anew.
    """
    if not isinstance(loader.sampler, SequentialSampler) or loader.batch_size is None:
        for batch in progress_bar(loader, desc=desc):
            yield model.predict(batch["img"].to(device)), batch["label"].to(device)
        return
    # Every pass through a loader draws a number for its workers. An evaluation between two
    # epochs must leave the random state the same, whether the images are read or not.
    torch.empty((), dtype=torch.int64).random_()

    def encode() -> dict[str, Tensor]:
        bar = progress_bar(loader, desc=desc)
        batches = [model.encode_images(batch["img"].to(device)).cpu() for batch in bar]
        return {"features": torch.cat(batches)}

    with torch.random.fork_rng(devices=[]):
        features = kept("images", images_key(model, loader, device), encode)["features"]
    data = loader.dataset.data_source  # type: ignore[attr-defined]
    labels = torch.tensor([item.label for item in data])
    for some, their in zip(
        features.split(loader.batch_size), labels.split(loader.batch_size), strict=True
    ):
        yield model.classify(some.to(device)), their.to(device)


def images_key(model: Classifier, loader: "DataLoader[Any]", device: torch.device) -> str:
    """The cache key: images, transform, encoder, batches, arithmetic; all that decides them."""
    images = stamps(item.impath for item in loader.dataset.data_source)  # type: ignore[attr-defined]
    # Not cfg.INPUT, where methods differ in what concerns training alone.
    transform = loader.dataset.transform  # type: ignore[attr-defined]
    how = getattr(loader.dataset, "read", None)  # the same file may be one of one's own, too
    reading = (
        f"{PIL.__version__} {torchvision.__version__} {getattr(how, '__name__', '')} {transform} "
        f"{loader.batch_size}"
    )
    encoder = model.image_encoder
    # Weights tell neither a module's settings (an activation's kind) nor what one's own code does.
    kinds = {type(module).__module__ for module in encoder.modules()}
    files = {file for kind in kinds if (file := getattr(sys.modules.get(kind), "__file__", None))}
    heads = [module.num_heads for module in encoder.modules() if hasattr(module, "num_heads")]
    structure = f"{encoder} {heads} {code_of(map(Path, sorted(files)))}"
    return key_of(arithmetic(device), reading, structure, "\n".join(images), encoder.state_dict())
