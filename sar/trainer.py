"""Adds similarity alignment to a trainer of a host toolbox, by hooks only.

`SARTrainerMixin` goes in front of a host's trainer class. The host's forward pass, loss, scaler and
optimizer run as they are: one forward hook takes the text embeddings of the base classes that the
host has just computed, another one lets ``WEIGHT * L_SAR`` into the host's own backward pass.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from sar.alignment import least_classes, sample_classes, similarity_alignment_loss
from sar.classes.novel_report import NovelClasses, longest_prompt
from sar.classes.overlap import known_classes
from sar.classes.templates import templates_from
from sar.config import validate
from sar.errors import ConfigError, HostError
from sar.reference import frozen_embeddings
from sar.views import PromptView, textual_prefix

if TYPE_CHECKING:
    from yacs.config import CfgNode


class SARTrainerMixin:
    """Base of every ``SAR_X``; the next class in the MRO is the host's trainer ``X``.

    With ``TRAINER.SAR.WEIGHT`` 0 nothing is hooked or computed. Otherwise `before_train` sets the
    alignment up; it acts in training steps only and adds ``loss_sar`` (L_SAR without its weight)
    to what the host logs. State dicts, optimizers and the global random state are the host's alone.
    """

    host_trainer: str  # "module.Class" of X in the host's package of trainers; set by subclasses
    view_class: type[PromptView] = PromptView

    # What the host's trainer provides (names as in Dassl).
    cfg: "CfgNode"
    dm: Any
    model: nn.Module
    epoch: int
    batch_idx: int
    num_batches: int

    _clip: Any = None
    _alignment: "Alignment | None" = None
    _base_features: Tensor | None = None
    _learner_inputs: tuple[Any, ...] = ()

    def check_cfg(self, cfg: "CfgNode") -> None:
        """Validates ``TRAINER.SAR`` before anything is built."""
        super().check_cfg(cfg)  # type: ignore[misc]
        validate(cfg.TRAINER.SAR)

    def build_model(self) -> None:
        """Builds the host's model and keeps the CLIP it is made from."""
        with _first_clip(self._host_modules("load_clip_to_cpu")) as loaded:
            super().build_model()  # type: ignore[misc]
        self._clip = loaded[0]

    def before_train(self) -> None:
        """Prepares the host (resuming, if so), then the alignment."""
        super().before_train()  # type: ignore[misc]
        if self.cfg.TRAINER.SAR.WEIGHT == 0:
            return
        if self._alignment is None:  # a second call of train() must not hook again
            self._core.prompt_learner.register_forward_pre_hook(self._keep_learner_inputs)
            self._core.text_encoder.register_forward_hook(self._keep_base_features)
            self.model.register_forward_hook(self._inject)
        self._alignment = self._build_alignment()

    def forward_backward(self, batch: Any) -> dict[str, float]:
        """The host's training step, its summary extended by ``loss_sar``."""
        summary: dict[str, float] = super().forward_backward(batch)  # type: ignore[misc]
        if self._alignment is not None:
            summary["loss_sar"] = self._alignment.last.item()
        return summary

    @property
    def _core(self) -> Any:
        """The host's CLIP with prompts, without a data-parallel wrapper."""
        return self.model.module if isinstance(self.model, nn.DataParallel) else self.model

    def _host_modules(self, name: str) -> list[ModuleType]:
        """Modules of the base classes that have `name`, defined or imported; nearest first."""
        modules = dict.fromkeys(sys.modules[cls.__module__] for cls in type(self).__mro__)
        if found := [module for module in modules if hasattr(module, name)]:
            return found
        raise HostError(
            f"None of the modules of {type(self).__name__}'s base classes has {name}; expected a "
            "prompt-learning trainer with the structure of CoOp's."
        )

    def _build_alignment(self) -> "Alignment":
        sar, dataset = self.cfg.TRAINER.SAR, self.cfg.DATASET.NAME
        seed = self.cfg.SEED if self.cfg.SEED >= 0 else torch.initial_seed()
        base = list(self.dm.dataset.classnames)
        templates = templates_from(sar.TEMPLATE, dataset)
        encode = self._host_modules("_tokenizer")[0]._tokenizer.encode
        core = self._core
        like = core.prompt_learner.tokenized_prompts.cpu()
        context = len(textual_prefix(like, base, encode))
        classes = known_classes(dataset, base, getattr(self.dm.dataset, "all_classnames", None))
        positions = longest_prompt(encode, context, templates)
        chosen = NovelClasses.chosen(sar, classes, seed, positions)
        print(chosen.summary())
        if self.cfg.OUTPUT_DIR:
            chosen.save(self.cfg.OUTPUT_DIR)
        novel = chosen.names
        if len(base) + len(novel) < least_classes(sar.DIVERGENCE):
            raise ConfigError(
                f"TRAINER.SAR.DIVERGENCE {sar.DIVERGENCE} compares at least "
                f"{least_classes(sar.DIVERGENCE)} classes; found {len(base)} base and {len(novel)} "
                "novel ones. Add novel classes (TRAINER.SAR.NOVEL), or set TRAINER.SAR.WEIGHT to 0."
            )
        view = self.view_class(
            core.prompt_learner,
            core.text_encoder,
            base,
            base + novel,
            token_embedding=self._clip.token_embedding,
            encode=encode,
        )
        reference = frozen_embeddings(self._clip, base + novel, templates, encode, like)
        sampled = sar.SAMPLE_SIZE if 0 < sar.SAMPLE_SIZE < len(view) else "all"
        print(
            f"SAR: weight {sar.WEIGHT}, {sar.DIVERGENCE}, temperature {sar.TEMPERATURE}, "
            f"{sampled} classes a step of {len(base)} base and {len(novel)} novel "
            f'ones, reference "{templates[0]}"'
            + (f" and {len(templates) - 1} more" if len(templates) > 1 else "")
        )
        return Alignment(view, reference.to(view.device), len(base), sar, seed)

    def _in_training_step(self) -> bool:
        # Hosts switch the registered model's mode, which is often the prompt learner's alone.
        return self._core.prompt_learner.training and torch.is_grad_enabled()

    def _keep_learner_inputs(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        if self._in_training_step():
            self._learner_inputs = args

    def _keep_base_features(self, module: nn.Module, args: Any, output: Tensor) -> None:
        if self._in_training_step():
            self._base_features = output

    def _inject(self, module: nn.Module, args: Any, output: Any) -> Any:
        if self._alignment is None or not self._in_training_step():
            return output
        base_features, self._base_features = self._base_features, None
        inputs, self._learner_inputs = self._learner_inputs, ()
        if isinstance(self.model, nn.DataParallel):
            base_features = None  # they are spread over the replicas
        step = self.epoch * self.num_batches + self.batch_idx
        loss = self._alignment(step, base_features, inputs)
        first, *more = output if isinstance(output, tuple) else (output,)
        if not isinstance(first, Tensor):
            raise HostError(
                f"{type(self.model).__name__} returned {type(first).__name__}; SAR needs a tensor "
                "that the loss is computed from, or a tuple that begins with one."
            )
        carrier = _InjectLoss.apply(first, loss, self._loss_factor)
        return (carrier, *more) if isinstance(output, tuple) else carrier

    def _loss_factor(self) -> float:
        """What multiplies L_SAR in the backward pass: its weight, and the host's loss scale."""
        scaler = getattr(self, "scaler", None)
        scale = scaler.get_scale() if scaler is not None and scaler.is_enabled() else 1.0
        return float(self.cfg.TRAINER.SAR.WEIGHT * scale)


class Alignment:
    """L_SAR of a training step over sampled base and novel classes.

    Args:
        view: the learned prompts of all C classes, base classes first.
        reference: their frozen text embeddings (C, D), float32, on the view's device.
        n_base: the number of base classes.
        sar: the ``TRAINER.SAR`` node.
        seed: of the class sampling, which depends on it and on the step alone, so that a resumed
            run draws what an uninterrupted one would have drawn.
    """

    def __init__(
        self, view: PromptView, reference: Tensor, n_base: int, sar: "CfgNode", seed: int
    ) -> None:
        self.view = view
        self.reference = reference
        self.n_base = n_base
        self.sar = sar
        self.seed = seed
        self.last = torch.zeros(())  # L_SAR of the latest step, detached

    def __call__(
        self, step: int, base_features: Tensor | None = None, inputs: tuple[Any, ...] = ()
    ) -> Tensor:
        """L_SAR (scalar, float32), with gradients into the learned prompts.

        `base_features` (n_base, D): the host's text embeddings of the base classes in this step;
        without them, and where fp16 needs the view's scaled gradients, the view computes them.
        `inputs`: what the host's prompt learner was called with in this step.
        """
        index = self.sample(step)
        if base_features is None or self.view.half:
            learned = self.view.select(index)(*inputs)
        else:
            is_base = index < self.n_base  # index is ascending: base classes come first
            learned = base_features[index[is_base]].float()
            if not is_base.all():
                learned = torch.cat([learned, self.view.select(index[~is_base])(*inputs)])
        loss = similarity_alignment_loss(
            learned,
            self.reference[index],
            divergence=self.sar.DIVERGENCE,
            temperature=self.sar.TEMPERATURE,
        )
        self.last = loss.detach()
        return loss

    def sample(self, step: int) -> Tensor:
        """Indices (K,) of the classes aligned at `step`, ascending, on the CPU."""
        # SeedSequence mixes the two numbers, so that neighbouring steps are unrelated.
        state = np.random.SeedSequence((self.seed, step)).generate_state(1, np.uint64)
        generator = torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))
        return sample_classes(len(self.view), self.sar.SAMPLE_SIZE, generator)


@contextmanager
def _first_clip(modules: Sequence[ModuleType]) -> Iterator[list[Any]]:
    """Collects the CLIP models that ``load_clip_to_cpu`` of `modules` returns in the context."""
    loaded: list[Any] = []

    def collecting(load: Callable[..., Any]) -> Callable[..., Any]:
        def load_clip_to_cpu(*args: Any, **kwargs: Any) -> Any:
            loaded.append(load(*args, **kwargs))
            return loaded[-1]

        return load_clip_to_cpu

    with ExitStack() as replaced:
        for module in modules:
            original = module.load_clip_to_cpu
            replaced.callback(setattr, module, "load_clip_to_cpu", original)
            module.load_clip_to_cpu = collecting(original)  # type: ignore[attr-defined]
        yield loaded
    if not loaded:
        raise HostError(
            f"{modules[0].__name__} built its model without load_clip_to_cpu(), from which SAR "
            "takes CLIP's token embedding and frozen text encoder."
        )


class _InjectLoss(torch.autograd.Function):
    """Identity on `carrier`, whose backward pass also sends `factor()` into the scalar `loss`.

    Once: a trainer that runs several backward passes for one forward pass (to compare or project
    the gradients of its losses) finds the alignment in the first of them.
    """

    @staticmethod
    def forward(ctx: Any, carrier: Tensor, loss: Tensor, factor: Callable[[], float]) -> Tensor:
        ctx.factor = factor
        ctx.injected = False
        ctx.save_for_backward(loss)
        return carrier.view_as(carrier)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor | None, None]:
        (loss,) = ctx.saved_tensors
        if ctx.injected:
            return gradients[0], None, None
        ctx.injected = True
        return gradients[0], torch.full_like(loss, ctx.factor()), None
