"""Where the gradient of ``WEIGHT * L_SAR`` enters: the optimizer's step, where every host passes.

A host may use what its model returns or not, run several backward passes, clear, project, clip or
accumulate gradients, call its modules or compose them anew. In the end it updates the learned
parameters by an optimizer, and right before that the gradient of the alignment at the parameters as
they stand is added to their ``.grad``. What that means:

- *Each update* holds the alignment once: an accumulation over k batches as well as each of two
  steps on one batch. Several optimizers share one computation. A step inside another's step (a
  subclass, SAM's base optimizer) is the same update.
- *The host's own treatment* of its gradient is over by then: neither clipping nor ProGrad's
  projection touches the alignment, and SAM's first, perturbing step does not see it.
- *Gradient scaling*: a `GradScaler` has unscaled the gradients, or told the optimizer the scale; a
  step that it leaves out has no alignment either.
- *A closure* (LBFGS) is followed by the alignment each time it is evaluated, in value and gradient.
- *Several processes* add the mean of their gradients, so that all do the same.

The text features of the base classes that the host has computed are not used: their graph is gone
by the time of the step, and to keep it alive would double the memory. The view computes the sampled
base classes again, by the shared prefix, which costs less than a tenth of the host's own text pass.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from sar.errors import HostError, NotFiniteError
from sar.gradient import Alignment, Call


class Injection:
    """Adds an alignment's gradient to a host's updates, and checks that it arrives.

    Args:
        model: the host's CLIP with prompts (no data-parallel wrapper): its `prompt_learner` and
            `text_encoder` are watched during a step, its learnable parameters are those aligned.
        alignment: gives L_SAR's gradient.
    """

    def __init__(self, model: Any, alignment: Alignment) -> None:
        self.alignment = alignment
        self.loss: Tensor | None = None  # L_SAR of this step's latest update that has it, detached
        self.steps = 0  # training steps so far
        self._past = False  # whether an update of learned parameters had no alignment in it
        self._model: Any = model
        # Until an update has been checked: what the learned parameters were before.
        learned = (p for p in model.parameters() if p.requires_grad)
        self._initial: dict[Tensor, Tensor] | None = {p: p.detach().clone() for p in learned}

    @contextmanager
    def during(self, step: int) -> Iterator[None]:
        """For the host's training step number `step`, which decides which classes are sampled.

        Raises `HostError`, at the first update, if the alignment's gradient does not arrive.
        """
        model = self._model
        self.steps += 1
        self._step = step
        self._learned: list[Tensor] = [p for p in model.parameters() if p.requires_grad]
        self._call = Call()
        self._pending: dict[Tensor, Tensor | None] = {}  # computed, not yet in an update
        self._open: list[Optimizer] = []  # steps that are running, one inside the other
        self._added: dict[Tensor, list[Tensor]] = {}  # what .grad may be after the update
        self._host_features: list[Tensor] = []
        self.loss = None
        with ExitStack() as hooks:
            hooks.enter_context(register_optimizer_step_pre_hook(self._before_update))
            hooks.enter_context(register_optimizer_step_post_hook(self._after_update))
            hooks.enter_context(model.prompt_learner.register_forward_pre_hook(self._see_learner))
            if self._initial is not None:
                hooks.enter_context(model.text_encoder.register_forward_hook(self._see_encoder))
            yield
        self.check_arrival()
        if self.loss is not None:
            self.alignment.weight.update(self.loss.item())

    def check_arrival(self) -> None:
        """Raises `HostError` if the learned parameters changed without an optimizer's step."""
        if any(not torch.equal(p, before) for p, before in (self._initial or {}).items()):
            raise HostError(
                "The learned parameters have changed without the step of an optimizer of "
                "torch.optim in forward_backward(), which is where SAR adds its gradient. This "
                "trainer needs an adapter (docs/add-a-method.md), or TRAINER.SAR.WEIGHT 0."
            )

    def check_epoch(self) -> None:
        """Raises `HostError` if no update so far was of a parameter that L_SAR depends on."""
        self.check_arrival()
        if self._past and self._initial is not None:
            names = {p: name for name, p in self._model.named_parameters()}
            wanted = ", ".join(names[p] for p in self._initial)
            raise HostError(
                f"No update of this epoch has had SAR in it: L_SAR depends on {wanted}, which no "
                "optimizer holds. Give them to the optimizer, or set TRAINER.SAR.WEIGHT to 0."
            )

    def _see_learner(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        if torch.is_grad_enabled():
            self._call = Call.seen(args, self.alignment.view.device)

    def _see_encoder(self, module: nn.Module, args: Any, output: Any) -> None:
        if not isinstance(output, Tensor):
            raise HostError(
                f"{type(module).__name__} returned {type(output).__name__}; SAR needs a text "
                "encoder that returns a tensor of text features (classes, D). This host needs an "
                "adapter (docs/add-a-method.md), or TRAINER.SAR.WEIGHT 0."
            )
        self._host_features.append(output.detach())

    def _before_update(self, optimizer: Optimizer, args: Any, kwargs: Any) -> Any:
        if not (parameters := self._held(optimizer)):
            return None
        self._open.append(optimizer)
        if len(self._open) > 1:
            return None
        _, *given = args  # args[0] is the optimizer
        closure = given[0] if given else kwargs.get("closure")
        if closure is None:
            self._add(parameters, getattr(optimizer, "grad_scale", None))
            return None

        @wraps(closure)
        def aligned() -> Tensor:
            loss: Tensor = closure()
            self._pending.clear()
            self._add(parameters)
            return loss if self.loss is None else loss + self.alignment.weight.value * self.loss

        if given:
            return (optimizer, aligned, *given[1:]), kwargs
        return args, {**kwargs, "closure": aligned}

    def _after_update(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if not self._open or self._open[-1] is not optimizer:
            return
        self._open.pop()
        if self._added:
            if not all(
                any(torch.allclose(p.grad, g, rtol=0, atol=0, equal_nan=True) for g in gradients)
                for p, gradients in self._added.items()
                if p.grad is not None
            ):
                raise HostError(
                    f"{type(optimizer).__name__}.step() has replaced the gradients that it found, "
                    "and SAR's with them. Use an optimizer that takes the gradients as they are, "
                    "or a closure; or set TRAINER.SAR.WEIGHT to 0."
                )
            self._added, self._initial = {}, None

    def _held(self, optimizer: Optimizer) -> list[Tensor]:
        """The learned parameters that `optimizer` updates."""
        held = {p for group in optimizer.param_groups for p in group["params"]}
        return [p for p in self._learned if p in held]

    def _add(self, parameters: list[Tensor], scale: Tensor | None = None) -> None:
        """Adds what the alignment has for `parameters` to their gradients.

        `scale`: a fused optimizer's, which unscales the gradients itself.
        """
        if not all(p in self._pending for p in parameters):
            self._pending = self._gradients()
        found = {p: self._pending.pop(p) for p in parameters}
        if all(gradient is None for gradient in found.values()):
            self._past = True
            return
        self.loss = self._latest
        for parameter, gradient in found.items():
            if gradient is None:
                continue
            gradient = gradient * (weight := self.alignment.weight.value)
            if not torch.isfinite(gradient).all():
                raise NotFiniteError(
                    f"The gradient of {weight:g} L_SAR is NaN or infinite in step "
                    f"{self._step + 1} (L_SAR: {self.loss}). Raise TRAINER.SAR.TEMPERATURE, now "
                    f"{self.alignment.sar.TEMPERATURE:g}, or lower TRAINER.SAR.WEIGHT or OPTIM.LR."
                )
            if scale is not None:
                gradient = gradient * scale
            if parameter.grad is not None:
                gradient = gradient + parameter.grad.float()
            parameter.grad = gradient.to(parameter.dtype)
            if self._initial is not None:
                whole = parameter.grad.clone()
                self._added[parameter] = [whole] if scale is None else [whole, whole / scale]

    def _gradients(self) -> dict[Tensor, Tensor | None]:
        """The gradient of L_SAR, float32, by learned parameter; None where there is none."""
        if self._initial is not None:
            self.alignment.check(self._host_features, self._call)
        with torch.enable_grad():
            self._latest, found = self.alignment.gradients(self._step, self._learned, self._call)
        gradients = dict(zip(self._learned, found, strict=True))
        if self._initial is not None:
            reached = {p for p, gradient in gradients.items() if gradient is not None}
            self._initial = {p: before for p, before in self._initial.items() if p in reached}
        if dist.is_available() and dist.is_initialized():
            # L_SAR too, where it depends on the images: a weight that follows it is one for all.
            for gradient in (self._latest, *found):
                if gradient is not None:
                    dist.all_reduce(gradient)
                    gradient /= dist.get_world_size()
        return gradients
