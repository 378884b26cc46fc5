"""Does a GPU compute what the CPU computes?"""

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import torch
from measuring import NAMES, spread
from parts import Row
from step import random_batch
from torch import Tensor

from sar.toolbox.trainers import promptsrc

from .bench import Bench

# Greatest relative difference of loss and gradient that rounding in fp32 explains, and least cosine
# of gradients where half precision takes part.
EXACT_LOSS, EXACT_GRADIENT, HALF_COSINE = 1e-4, 1e-3, 0.99
# The scaler halves its scale, 2 ** 16 at first, when it leaves a step out.
SCALES = 16
# The parameters stay where they are, so that one trainer can take several first steps.
STAY = ("OPTIM.LR", "1e-12", "OPTIM.WARMUP_CONS_LR", "1e-12")


class Parity:
    """First steps of trainers that begin alike, on the CPU and on the device."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        names = spread(NAMES, bench.size(24, 6))
        self.base, self.novel = names[::3], [name for name in names if name not in names[::3]]
        self._exact: dict[str, Tensor] = {}  # gradients on the CPU, by trainer

    def fp32(self, method: str) -> list[Row]:
        """In fp32 on both; and on the device under autocast, with a GradScaler on CUDA."""
        rows = []
        for name in (method, f"SAR_{method}"):
            with _exact_convolutions():
                cpu = self._trainer(name, "fp32", "USE_CUDA", "False")
                batch = random_batch(cpu, self.bench.size(4, 2))
                loss, gradient = _first_step(cpu, batch)
                self._exact[name] = gradient
                trainer = self._trainer(name, "fp32")
                its_loss, its_gradient = _first_step(trainer, batch)
            loss_off = abs(its_loss - loss) / abs(loss)
            gradient_off = float((its_gradient - gradient).norm() / gradient.norm())
            trainer.settings.defrost()
            trainer.settings.PREC = "amp"  # its weights are those of fp32
            trainer.scaler = torch.amp.GradScaler() if self.bench.cuda else None
            amp_loss, amp_gradient = _first_step(trainer, batch)
            cosine = _cosine(amp_gradient, gradient)
            exact = loss_off <= EXACT_LOSS and gradient_off <= EXACT_GRADIENT
            rows.append(
                {
                    "trainer": name,
                    "loss": loss,
                    "fp32: loss off by": loss_off,
                    "gradient off by": gradient_off,
                    "autocast: loss off by": abs(amp_loss - loss) / abs(loss),
                    "gradient's cosine": cosine,
                    "ok": exact and cosine >= HALF_COSINE,
                }
            )
        return rows

    def fp16(self, method: str) -> list[Row]:
        """With weights in fp16, against the gradients on the CPU that `fp32` finds."""
        if method not in self._exact:
            self.fp32(method)
        rows = []
        for name in (method, f"SAR_{method}"):
            trainer = self._trainer(name, "fp16")
            loss, gradient = _first_step(trainer, random_batch(trainer, self.bench.size(4, 2)))
            cosine = _cosine(gradient, self._exact[name])
            rows.append({"trainer": name, "loss": loss, "gradient's cosine": cosine})
        return rows

    def _trainer(self, name: str, precision: str, *options: str) -> Any:
        # PromptSRC's 60 templates take a CPU long.
        with patch.object(promptsrc, "imagenet_templates", lambda: ["a photo of a {}."]):
            return self.bench.trainer(name, precision, self.base, self.novel, *STAY, *options)


def _first_step(trainer: Any, batch: dict[str, Tensor]) -> tuple[float, Tensor]:
    """Loss and whole gradient of the first step that a scaler does not leave out."""
    for _ in range(SCALES):
        loss = trainer.forward_backward(batch)["loss"]
        found = [p.grad for p in trainer.trained_parameters() if p.grad is not None]
        gradient = torch.cat([part.detach().float().cpu().flatten() for part in found])
        if gradient.isfinite().all():
            return loss, gradient
    raise FloatingPointError(f"the gradient is infinite or NaN at {SCALES} scales of the loss")


def _cosine(found: Tensor, expected: Tensor) -> float:
    return float(torch.cosine_similarity(found, expected, dim=0))


@contextlib.contextmanager
def _exact_convolutions() -> Iterator[None]:
    """Convolutions in fp32 are not rounded to TF32; by default only matrix products are not."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before
