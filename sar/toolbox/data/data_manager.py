"""From a dataset to batches."""

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image
from tabulate import tabulate
from torch.utils.data import DataLoader, Dataset, RandomSampler, Sampler, SequentialSampler
from yacs.config import CfgNode

from sar.errors import DataError, one_line
from sar.picture import read_published
from sar.toolbox import distributed
from sar.toolbox.config import dataset_title
from sar.toolbox.data.datasets import Datum, build_dataset
from sar.toolbox.data.transforms import build_transform

SAMPLERS: dict[str, type[Sampler[int]]] = {
    "RandomSampler": RandomSampler,
    "SequentialSampler": SequentialSampler,
}
# Decoded training images kept in memory, in bytes; those that come after it are decoded each time.
CACHE_BYTES = 128 * 2**20


class DataManager:
    """Dataset, loaders and class names of a configuration.

    Attributes:
        dataset, train_loader_x, val_loader (None without validation images), test_loader,
        train_loader_u (None: no trainer here uses unlabelled images), num_classes,
        num_source_domains, lab2cname.

    A batch is a dict: "img" (B, 3, H, W) fp32, "label", "domain", "index" (B,) int64, "impath"
    list of str. Training drops a last, smaller batch. The order is drawn from torch's global
    generator when an epoch begins.
    """

    def __init__(
        self,
        cfg: CfgNode,
        custom_tfm_train: Any = None,
        custom_tfm_test: Any = None,
        dataset_wrapper: Any = None,
    ) -> None:
        self.dataset = dataset = build_dataset(cfg)
        wrapper = dataset_wrapper or partial(DatasetWrapper, read=dataset.read_image)
        train = custom_tfm_train or build_transform(cfg, is_train=True)
        test = custom_tfm_test or build_transform(cfg, is_train=False)
        x, t = cfg.DATALOADER.TRAIN_X, cfg.DATALOADER.TEST
        self.train_loader_x = _loader(cfg, x, wrapper(cfg, dataset.train_x, train, True), True)
        self.train_loader_u = None
        self.val_loader = (
            _loader(cfg, t, wrapper(cfg, dataset.val, test, False), False) if dataset.val else None
        )
        self.test_loader = _loader(cfg, t, wrapper(cfg, dataset.test, test, False), False)
        self.num_classes = dataset.num_classes
        self.num_source_domains = len(cfg.DATASET.SOURCE_DOMAINS)
        self.lab2cname = dataset.lab2cname
        if cfg.VERBOSE:
            self.show_dataset_summary(cfg)

    def show_dataset_summary(self, cfg: CfgNode) -> None:
        rows = [["Dataset", dataset_title(cfg)]]
        if cfg.DATASET.SOURCE_DOMAINS:
            rows.append(["Source", cfg.DATASET.SOURCE_DOMAINS])
        if cfg.DATASET.TARGET_DOMAINS:
            rows.append(["Target", cfg.DATASET.TARGET_DOMAINS])
        rows.append(["# classes", f"{self.num_classes:,}"])
        rows.append(["# train_x", f"{len(self.dataset.train_x):,}"])
        if self.dataset.val:
            rows.append(["# val", f"{len(self.dataset.val):,}"])
        rows.append(["# test", f"{len(self.dataset.test):,}"])
        print(tabulate(rows))


class _Loader(DataLoader[Any]):
    """Errors of worker processes without their tracebacks, and one line for a worker's death."""

    def __iter__(self) -> Any:
        try:
            with deaths_of_workers():
                yield from super().__iter__()
        except DataError as error:
            message = str(error).strip().splitlines()[-1]
            raise DataError(message.removeprefix("sar.errors.DataError: ")) from error


@contextlib.contextmanager
def deaths_of_workers() -> Iterator[None]:
    """DataError where a loader's process dies; torch raises that wherever the program is then."""
    try:
        yield
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise DataError(
            f"a process that reads images has died ({one_line(error)}); often the memory, or the "
            "shared memory in /dev/shm, is not enough. The run can be resumed, with fewer "
            "processes by DATALOADER.NUM_WORKERS 0"
        ) from error


def _loader(cfg: CfgNode, spec: CfgNode, data: Any, is_train: bool) -> DataLoader[Any]:
    if not len(data):
        raise DataError(
            f"{cfg.DATASET.NAME} has no images for {'training' if is_train else 'test'}"
        )
    sampler = SAMPLERS[spec.SAMPLER](data)  # type: ignore[call-arg]
    drop_last = is_train and len(data) >= spec.BATCH_SIZE
    batches: dict[str, Any] = {
        "batch_size": spec.BATCH_SIZE,
        "sampler": sampler,
        "drop_last": drop_last,
    }
    if distributed.world_size() > 1:
        part = distributed.BatchPart(sampler, spec.BATCH_SIZE, drop_last, is_train)
        batches = {"batch_sampler": part}
    return _Loader(
        data,
        **batches,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        pin_memory=torch.cuda.is_available() and cfg.USE_CUDA,
    )


class DatasetWrapper(Dataset[dict[str, Any]]):
    """Reads and transforms the images of a list of `Datum`.

    With DATALOADER.VIEWS N, view number `epoch` mod N of each image is seen. It depends on the
    random seed at the time of the construction, on that number and on the image's index alone.
    """

    epoch = 0

    def __init__(
        self,
        cfg: CfgNode,
        data_source: list[Datum],
        transform: Any = None,
        is_train: bool = False,
        read: Callable[[str], Image.Image] = read_published,
    ) -> None:
        self.read = read
        self.cfg = cfg
        self.data_source = data_source
        self.transform = transform
        self.is_train = is_train
        self.views = cfg.DATALOADER.K_TRANSFORMS if is_train else 1
        self.fixed_views = cfg.DATALOADER.VIEWS if is_train else 0
        self.seed = torch.initial_seed()
        # Training reads the same few images every epoch. Worker processes would each keep a copy,
        # and lose it with the epoch.
        self._room = CACHE_BYTES if is_train and cfg.DATALOADER.NUM_WORKERS == 0 else 0
        self._cache: dict[str, Image.Image] = {}

    def __len__(self) -> int:
        return len(self.data_source)

    def __getitem__(self, idx: int) -> dict[str, Any]:
        item = self.data_source[idx]
        image = self._read(item.impath)
        if self.fixed_views:
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(self._seed_of(idx))
                views = [self._transformed(image)]
        else:
            views = [self._transformed(image) for _ in range(self.views)]
        return {
            "img": views[0] if len(views) == 1 else views,
            "label": item.label,
            "domain": item.domain,
            "impath": item.impath,
            "index": idx,
        }

    def _transformed(self, image: Image.Image) -> Any:
        return self.transform(image) if self.transform else image

    def _seed_of(self, idx: int) -> int:
        view = self.epoch % self.fixed_views
        # SeedSequence mixes the numbers, so that neighbouring views are unrelated.
        return int(np.random.SeedSequence((self.seed, idx, view)).generate_state(1, np.uint64)[0])

    def _read(self, path: str) -> Image.Image:
        image = self._cache.get(path)
        if image is None:
            image = self.read(path)
            size = 3 * image.width * image.height
            if size <= self._room:
                self._cache[path] = image
                self._room -= size
        return image
