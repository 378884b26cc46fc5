"""One run in several processes, as `torchrun` starts them, one for each GPU (or on the CPU).

Every process has a part of each batch, and the gradients are averaged, so that a step is that of
one process with the whole batch. The first process draws the order of the images and is the only
one that writes. What is random per image (crops, flips) is drawn by each process for its own part.
Without `torchrun` all of this does nothing; a single process under it goes the same way as several.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.data import BatchSampler, Sampler

from sar.errors import ConfigError


@contextlib.contextmanager
def process_group() -> Iterator[None]:
    """Joins the processes that `torchrun` started, on this process's GPU if there are any."""
    launched = dist.is_torchelastic_launched() or int(os.environ.get("WORLD_SIZE", "1")) > 1
    if not launched or dist.is_initialized():
        yield
        return
    gpu = torch.cuda.is_available()
    if gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if gpu else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def world_size() -> int:
    """How many processes work on this run."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """The number of this process among them, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def is_first() -> bool:
    """Whether this process is number 0, the one that writes files."""
    return rank() == 0


def wait_for_all() -> None:
    """Returns when every process is here, with what the first has written before on disk."""
    if dist.is_initialized():
        dist.barrier()


def broadcast(value: Any) -> Any:
    """The first process's `value`, in every process."""
    if not dist.is_initialized():
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def gather(items: list[Any]) -> list[Any]:
    """The items of all processes, in every process. Tensors must be on the CPU."""
    if not dist.is_initialized():
        return items
    boxes: list[Any] = [None] * world_size()
    dist.all_gather_object(boxes, items)
    return [item for box in boxes for item in box]


def average_gradients(parameters: Iterable[Tensor]) -> None:
    """The mean over the processes replaces each gradient; summed in fp32."""
    if not dist.is_initialized():
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([gradient.float().flatten() for gradient in gradients])
    dist.all_reduce(flat)
    flat /= world_size()
    parts = flat.split([gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))


def begin_alike(parameters: Iterable[Tensor]) -> None:
    """The first process's parameters in every process, and random numbers of its own in each."""
    if not dist.is_initialized():
        return
    with torch.no_grad():
        for parameter in parameters:
            dist.broadcast(parameter, src=0)
    if not is_first():
        torch.manual_seed(int(torch.randint(2**62, ())) + rank())


class BatchPart(Sampler[list[int]]):
    """This process's part of every batch. The first process draws the order of the whole.

    Raises:
        ConfigError: training batches that cannot be divided evenly, whose parts would count
            differently.
    """

    def __init__(
        self, sampler: Sampler[int], batch_size: int, drop_last: bool, is_train: bool
    ) -> None:
        if is_train and (batch_size % world_size() or not drop_last):
            raise ConfigError(
                f"a batch of {batch_size} images cannot be divided evenly among {world_size()} "
                "processes, or there are fewer images; set DATALOADER.TRAIN_X.BATCH_SIZE to a "
                "multiple of the number of processes that the dataset can fill"
            )
        self.batches = BatchSampler(sampler, batch_size, drop_last)

    def __iter__(self) -> Iterator[list[int]]:
        for batch in broadcast(list(self.batches)):
            if part := batch[rank() :: world_size()]:
                yield part

    def __len__(self) -> int:
        return len(self.batches)
