"""Where and at what size the parts measure; trainers, clock and memory for them."""

import copy
import gc
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from measuring import MIB, now
from step import QUICK, VIT_B16, build, configuration, random_batch, write_names
from torch import Tensor

from sar.config import add_sar_config
from sar.toolbox.clip import CLIP, Backbone, backbone_names, register_backbone
from sar.toolbox.config import get_cfg_default
from sar.toolbox.engine import TrainerBase

BACKBONE = "random"


@dataclass(frozen=True)
class Bench:
    """cuda: else the CPU. tiny: shapes that only try the scripts. folder: for what is written."""

    cuda: bool
    tiny: bool
    folder: Path

    @property
    def device(self) -> torch.device:
        return torch.device("cuda" if self.cuda else "cpu")

    def size(self, full: int, tiny: int) -> int:
        return tiny if self.tiny else full

    def register_backbone(self) -> None:
        """The random CLIP of all trainers; as from a file, its weights went through fp16."""
        if BACKBONE not in backbone_names():
            torch.manual_seed(0)
            model = CLIP(*(QUICK if self.tiny else VIT_B16)).half().float()
            register_backbone(BACKBONE, Backbone(224, lambda: copy.deepcopy(model)))

    def configuration(
        self, name: str, precision: str, base: Sequence[str], novel: Sequence[str], *options: str
    ) -> Any:
        """A trainer's published settings for these classes."""
        write_names(self.folder, base, novel)
        ours = ("USE_CUDA", str(self.cuda), "MODEL.BACKBONE.NAME", BACKBONE)
        return configuration(name, self.folder, precision, *ours, *options)

    def trainer(self, *args: Any) -> Any:
        """The trainer of the `configuration` that has these arguments, before its first step."""
        with patch.object(TrainerBase, "init_writer", lambda *args, **kwargs: None):
            return build(self.configuration(*args))

    def batch(self, trainer: Any, images: int) -> dict[str, Tensor]:
        """Random, on the device; see `step.random_batch`."""
        found = random_batch(trainer, images)
        return {name: tensor.to(self.device) for name, tensor in found.items()}

    def seconds(self, action: Callable[[], Any], enough: float = 1.0, most: int = 20) -> float:
        """The median of two to `most` repeats, as many as take `enough` seconds, after one more."""
        taken: list[float] = []
        action()
        while len(taken) < self.size(2, 1) or (sum(taken) < enough and len(taken) < most):
            start = now(self.device)
            action()
            taken.append(now(self.device) - start)
            if self.tiny:
                break
        return statistics.median(taken)

    def peak(self, action: Callable[[], Any]) -> float | None:
        """MiB that the allocator has at most beyond what it had before; None on the CPU."""
        if not self.cuda:
            return None
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        action()
        return (torch.cuda.max_memory_allocated() - before) / MIB

    def free(self) -> None:
        """Gives back what nothing refers to any more."""
        gc.collect()
        if self.cuda:
            torch.cuda.empty_cache()


def default_sample_size() -> int:
    """Of TRAINER.SAR.SAMPLE_SIZE."""
    cfg = get_cfg_default()
    add_sar_config(cfg)
    return int(cfg.TRAINER.SAR.SAMPLE_SIZE)
