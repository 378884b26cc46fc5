"""L_SAR of one training step over sampled base and novel classes, and its gradient."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from sar.alignment import sample_classes, similarity_alignment_loss
from sar.encoding import deviation, tolerance
from sar.errors import HostError
from sar.views import PromptView
from sar.weight import Weight

if TYPE_CHECKING:
    from yacs.config import CfgNode


# So many classes go through the text encoder at once: at ViT-B/16's text shapes 3.3 GB in fp32.
_AT_ONCE = 2048


@dataclass(frozen=True)
class Call:
    """How a host called its prompt learner: its arguments, detached, and autocast's dtype."""

    inputs: tuple[Any, ...] = ()
    autocast: torch.dtype | None = None

    @classmethod
    def seen(cls, inputs: Sequence[Any], device: torch.device) -> "Call":
        """The call that is made right now."""
        on = torch.is_autocast_enabled(device.type)
        return cls(
            tuple(x.detach() if isinstance(x, Tensor) else x for x in inputs),
            torch.get_autocast_dtype(device.type) if on else None,
        )

    def of_one_image(self) -> "Call":
        """The same for the first image of the batch."""
        inputs = tuple(x[:1] if isinstance(x, Tensor) else x for x in self.inputs)
        return Call(inputs, self.autocast)

    def repeat(self, view: PromptView) -> Tensor:
        """The text features (C, D) that the view gives for it."""
        on = self.autocast is not None
        with torch.autocast(view.device.type, self.autocast, enabled=on):
            return view(*self.inputs)


class Alignment:
    """The learned prompts of all classes, what they are aligned with, and how.

    Args:
        view: the learned prompts of all C classes, base classes first.
        reference: the teacher's features (C, D'), float32, on the view's device; (T, C, D') of
            several teachers for a measure that takes them.
        n_base: the number of base classes.
        sar: the ``TRAINER.SAR`` node.
        seed: of the class sampling, which depends on it and on the step alone, so that a resumed
            run draws what an uninterrupted one would have drawn.

    `weight` is the factor of L_SAR beside the host's loss.
    """

    def __init__(
        self, view: PromptView, reference: Tensor, n_base: int, sar: "CfgNode", seed: int
    ) -> None:
        self.view = view
        self.reference = reference
        self.n_base = n_base
        self.sar = sar
        self.seed = seed
        self.weight = Weight(float(sar.WEIGHT))

    def gradients(
        self, step: int, parameters: Sequence[Tensor], call: Call = Call()
    ) -> tuple[Tensor, list[Tensor | None]]:
        """L_SAR (scalar, detached) and its gradients by `parameters`, all float32, unweighted.

        `call`: how the host called its prompt learner in this step. A gradient is None where L_SAR
        does not depend on the parameter. Raises `HostError` if it depends on none of them.

        In fp16 the small gradients of the loss would underflow. So the gradient enters the text
        encoder at a scale where its largest entry is about 1, and leaves it divided by that: by a
        power of two, which changes nothing in float32.

        Very many classes go through the text encoder in parts, and twice: first to find the
        gradient that enters it, then to lead that through. The graph of one part is kept at a time.
        """
        index = self.sample(step)
        parts = index.split(_AT_ONCE)
        with torch.set_grad_enabled(len(parts) == 1):
            features = torch.cat([call.repeat(self.view.select(part)) for part in parts])  # (K, D)
        leaf = features.detach().requires_grad_()
        loss = self.loss(leaf, index)
        (outer,) = torch.autograd.grad(loss, leaf)  # (K, D)
        largest = outer.abs().amax().clamp_min(torch.finfo(outer.dtype).tiny)
        scale = torch.exp2(-torch.log2(largest).ceil())
        found: list[Tensor | None] = [None] * len(parameters)
        for part, entering in zip(parts, (outer * scale).split(_AT_ONCE), strict=True):
            if len(parts) > 1:
                features = call.repeat(self.view.select(part))
            if features.requires_grad:
                new = torch.autograd.grad(features, parameters, entering, allow_unused=True)
                found = [_sum(ours, more) for ours, more in zip(found, new, strict=True)]
        if all(gradient is None for gradient in found):
            raise HostError(
                "The text features of the learned prompts depend on no parameter that is trained, "
                "so that there is nothing to align. SAR needs a trainer that learns text prompts."
            )
        return loss.detach(), [None if g is None else g / scale for g in found]

    def loss(self, features: Tensor, index: Tensor) -> Tensor:
        """L_SAR (scalar) of the features (K, D) of the classes at `index`, (K,) ascending."""
        return similarity_alignment_loss(
            features,
            self.reference[..., index, :],
            divergence=self.sar.DIVERGENCE,
            temperature=self.sar.TEMPERATURE,
            neighbours=self.sar.NEIGHBOURS,
            tolerance=self.sar.TOLERANCE,
            across=None if self.sar.PAIRS == "all" else int((index < self.n_base).sum()),
        )

    @torch.no_grad()
    def divergence_of(self, others: Tensor) -> float:
        """The mean L_SAR of T others' features (T, C, D), each over a sample of its own."""
        samples = [self.sample(number) for number in range(len(others))]
        losses = [self.loss(of[i], i) for of, i in zip(others, samples, strict=True)]
        return float(torch.stack(losses).mean())

    def sample(self, step: int) -> Tensor:
        """Indices (K,) of the classes aligned at `step`, ascending, on the CPU."""
        # SeedSequence mixes the two numbers, so that neighbouring steps are unrelated.
        state = np.random.SeedSequence((self.seed, step)).generate_state(1, np.uint64)
        generator = torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))
        return sample_classes(len(self.view), self.sar.SAMPLE_SIZE, generator)

    @torch.no_grad()
    def check(self, outputs: Sequence[Tensor], call: Call) -> None:
        """Compares the view of the base classes with what the host's text encoder has given.

        `outputs`: all that it gave in this step; those of the base classes are (..., n_base, D).
        If prompts depend on the image, the first image's are compared. If they differ, the host's
        own text encoder serves the view from now on, at all positions, and a line says so. Raises
        `HostError` if that differs, too.
        """
        call = call.of_one_image()
        base = self.view.select(torch.arange(self.n_base))
        expected = [
            features
            for output in outputs
            if output.dim() > 1 and output.shape[-2] == self.n_base
            for features in output.reshape(-1, *output.shape[-2:])
        ]
        seen = "the host's own" if expected else "its encoder's, which it did not call for them"
        problems = []
        for own in (False, True):
            try:
                if not expected:  # the host composes its text encoder anew
                    expected.append(call.repeat(base.through_host()))
                found = call.repeat(base.through_host() if own else base)
                off = min(deviation(found, features) for features in expected)
            except Exception as error:  # whatever a host of another structure raises
                problems.append(f"{type(error).__name__}: {error}")
                continue
            if off <= tolerance(*expected):
                break
            problems.append(f"a difference of {off:.1%}")
        else:
            raise HostError(
                "The learned prompts of the base classes, as SAR sees them, do not give the text "
                f"features that this host computes: {problems[0]}; by its own text encoder, "
                f"{problems[1]}. It needs an adapter (docs/add-a-method.md), or "
                "TRAINER.SAR.WEIGHT 0."
            )
        if own:
            self.view = self.view.through_host()
            print(
                f"SAR: the host's own text encoder computes all {len(self.view)} classes at all "
                f"positions, because it is not CLIP's ({problems[0]})"
            )
        print(f"SAR: text features of the base classes within {off:.0e} of {seen}")


def _sum(ours: Tensor | None, more: Tensor | None) -> Tensor | None:
    """The sum of two gradients in float32; None stands for no dependence on the parameter."""
    if ours is None or more is None:
        return ours if more is None else more.float()
    return ours + more.float()
