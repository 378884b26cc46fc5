"""What the benchmarks share: class names, the usual text encoder, clock and memory accounting."""

import os
import resource
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sar.classes.names import class_names
from sar.encoding import TextEncoder

MIB = 2**20
# 250 names of one to five words, as they are in the field's datasets.
NAMES = [
    name.replace("_", " ")
    for dataset in ("Food101", "OxfordFlowers", "OxfordPets", "EuroSAT")
    for name in class_names(dataset)
]


def spread(names: Sequence[str], n: int) -> list[str]:
    """n of the names, evenly spread over the list."""
    return [names[i * len(names) // n] for i in range(n)]


def encode_77(
    encoder: TextEncoder,
    prompts: Tensor,
    eot: Tensor,
    *,
    shared: int = 0,
    deep_prompts: Sequence[Tensor] | None = None,
) -> Tensor:
    """The usual text encoder: CLIP's own blocks over all 77 positions of every prompt.

    Arguments and result are those of `sar.encoding.encode_prompts`; `shared` is not used.
    """
    flat = prompts.flatten(0, -3)  # (G * C, L, d)
    x = F.pad(flat, (0, 0, 0, len(encoder.positional_embedding) - flat.shape[1]))
    dtype = encoder.text_projection.dtype
    x = (x.to(dtype) + encoder.positional_embedding.to(dtype)).permute(1, 0, 2)  # (77, G * C, d)
    for layer, block in enumerate(encoder.transformer.resblocks):
        if 0 < layer <= len(deep_prompts or ()):
            deep = (deep_prompts or ())[layer - 1].to(x.dtype)  # (n, d)
            x = torch.cat([x[:1], deep.unsqueeze(1).expand(-1, x.shape[1], -1), x[1 + len(deep) :]])
        x = block(x)
    x = encoder.ln_final(x.permute(1, 0, 2)).to(dtype)
    ends = eot.to(x.device).repeat(len(x) // len(eot))
    features = x[torch.arange(len(x), device=x.device), ends] @ encoder.text_projection
    return features.unflatten(0, prompts.shape[:-2])


def now(device: torch.device) -> float:
    """Seconds: of the clock when all that was asked of a GPU is done, of this process on a CPU.

    What else a machine does hardly changes the time of the process; its threads add up.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return time.perf_counter()
    return time.process_time()


def processor_seconds() -> float:
    """Of all processes that have been started from here, which are waited for."""
    try:
        while True:
            os.wait()
    except ChildProcessError:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime


class SavedForBackward:
    """Counts the bytes that autograd keeps for the backward pass while the context is open.

    Each storage counts once; those of `weights` do not count. `part()` marks what is counted in
    `partial`, too.
    """

    def __init__(self, weights: Iterable[nn.Parameter]) -> None:
        self._weights = {weight.untyped_storage().data_ptr() for weight in weights}
        self._saved: dict[int, tuple[int, bool]] = {}  # storage -> bytes, whether in the part
        self._in_part = False
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._pack, lambda tensor: tensor)

    def __enter__(self) -> "SavedForBackward":
        self._hooks.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._hooks.__exit__(*error)

    @property
    def total(self) -> int:
        return sum(size for size, _ in self._saved.values())

    @property
    def partial(self) -> int:
        return sum(size for size, in_part in self._saved.values() if in_part)

    @contextmanager
    def part(self) -> Iterator[None]:
        self._in_part = True
        try:
            yield
        finally:
            self._in_part = False

    def _pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if (key := storage.data_ptr()) not in self._weights:
            self._saved.setdefault(key, (storage.nbytes(), self._in_part))
        return tensor
