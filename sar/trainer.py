"""Adds similarity alignment to a trainer of a host toolbox, by hooks only.

`SARTrainerMixin` goes in front of a host's trainer class. The host's forward pass, loss, backward
pass, scaler and optimizer run as they are; the gradient of ``WEIGHT * L_SAR`` is added where the
host updates its parameters (`sar.injection`).
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from sar.classes.novel_names import parse_mix
from sar.classes.novel_report import NovelClasses, longest_prompt
from sar.classes.overlap import known_classes
from sar.classes.templates import imagenet_templates
from sar.config import validate
from sar.divergence import MEASURES
from sar.errors import ConfigError, HostError
from sar.gradient import Alignment
from sar.injection import Injection
from sar.mixing import mixing
from sar.prompt_tokens import Tokenizer, prompt_form, starts
from sar.reference import FrozenText, Reference, reference_of
from sar.teacher import TEXT, teacher_features
from sar.views import PromptView, check_structure
from sar.weight import AUTO, STATE, DualWeight

__all__ = ["SARTrainerMixin"]

if TYPE_CHECKING:
    from yacs.config import CfgNode


class SARTrainerMixin:
    """Base of every ``SAR_X``; the next class in the MRO is the host's trainer ``X``.

    With ``TRAINER.SAR.WEIGHT`` 0 nothing is hooked or computed. Otherwise `before_train` sets the
    alignment up; it acts in training steps only and adds ``loss_sar`` (L_SAR without its weight)
    to what the host logs. State dicts, optimizers and the global random state are the host's alone.
    """

    # What the host's trainer provides (names as in Dassl).
    cfg: "CfgNode"
    dm: Any
    model: nn.Module
    epoch: int
    start_epoch: int
    max_epoch: int
    batch_idx: int
    num_batches: int
    train_loader_x: Any

    weights_of = ""
    """The host's trainer X: its checkpoints and those of ``SAR_X`` are alike."""

    _clip: Any = None
    _injection: Injection | None = None
    _resumed: float | None = None
    """The weight where the run that is continued stopped, if it is not fixed."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        order = cls.__mro__
        cls.weights_of = order[order.index(SARTrainerMixin) + 1].__name__

    def check_cfg(self, cfg: "CfgNode") -> None:
        """Validates ``TRAINER.SAR`` before anything is built."""
        super().check_cfg(cfg)  # type: ignore[misc]
        validate(cfg.TRAINER.SAR)

    def build_model(self) -> None:
        """Builds the host's model and keeps the CLIP it is made from."""
        with _first_clip(self._host_modules("load_clip_to_cpu")) as loaded:
            super().build_model()  # type: ignore[misc]
        self._clip = loaded[0]

    def train(self, *args: Any, **kwargs: Any) -> None:
        """The host's training; raises HostError if it bypassed the methods where SAR acts."""
        super().train(*args, **kwargs)  # type: ignore[misc]
        seen = self._injection is not None and self._injection.steps > 0
        if self.cfg.TRAINER.SAR.WEIGHT != 0 and self.start_epoch < self.max_epoch and not seen:
            raise HostError(
                f"{type(self).__name__} has trained without SAR: its train() calls before_train() "
                "or forward_backward() not once. This trainer needs an adapter "
                "(docs/add-a-method.md), or TRAINER.SAR.WEIGHT 0."
            )

    def before_train(self) -> None:
        """Prepares the host (resuming, if so), then the alignment."""
        super().before_train()  # type: ignore[misc]
        if self.cfg.TRAINER.SAR.WEIGHT != 0:
            self._injection = Injection(self._core, self._build_alignment())

    def extra_state(self) -> dict[str, Any]:
        """What the host needs back on resuming, and the weight where it is not fixed."""
        state: dict[str, Any] = getattr(super(), "extra_state", dict)()
        if not self._weighs:
            return state
        injection, start = self._injection, self.cfg.TRAINER.SAR.WEIGHT
        value = injection.alignment.weight.value if injection else start
        return {**state, STATE: float(value)}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Counterpart of `extra_state`, in toolboxes that have it."""
        getattr(super(), "load_extra_state", lambda state: None)(state)
        self._resumed = state.get(STATE)

    @property
    def _weighs(self) -> bool:
        sar = self.cfg.TRAINER.SAR
        return bool(sar.WEIGHT != 0 and sar.WEIGHT_RULE == AUTO)

    def forward_backward(self, batch: Any) -> dict[str, float]:
        """The host's training step, its summary extended by ``loss_sar`` if it made an update."""
        if self._injection is None:
            unchanged: dict[str, float] = super().forward_backward(batch)  # type: ignore[misc]
            return unchanged
        with self._injection.during(self.epoch * self.num_batches + self.batch_idx):
            summary = super().forward_backward(batch) or {}  # type: ignore[misc]
        loss = self._injection.loss
        if loss is None:
            return summary
        weight = {STATE: self._injection.alignment.weight.value} if self._weighs else {}
        return {**summary, "loss_sar": loss.item(), **weight}

    def after_epoch(self) -> None:
        """What the host does then; raises HostError if it bypassed `forward_backward`."""
        if self._injection is not None:
            self._injection.check_epoch()
        super().after_epoch()  # type: ignore[misc]

    @property
    def _core(self) -> Any:
        """The host's CLIP with prompts, without a data-parallel wrapper."""
        parallel = (nn.DataParallel, nn.parallel.DistributedDataParallel)
        return self.model.module if isinstance(self.model, parallel) else self.model

    def _host_modules(self, name: str) -> list[ModuleType]:
        """Modules of the base classes that have `name`, defined or imported; nearest first."""
        modules = dict.fromkeys(sys.modules[cls.__module__] for cls in type(self).__mro__)
        if found := [module for module in modules if hasattr(module, name)]:
            return found
        raise HostError(
            f"None of the modules of {type(self).__name__}'s base classes has {name}; expected a "
            "prompt-learning trainer with the structure of CoOp's."
        )

    def _build_alignment(self) -> Alignment:
        sar, core = self.cfg.TRAINER.SAR, self._core
        check_structure(core)
        seed = self.cfg.SEED if self.cfg.SEED >= 0 else torch.initial_seed()
        clip, tokenizer = self._clip_and_tokenizer()
        reference = reference_of(sar.TEMPLATE, self.cfg.DATASET.NAME, tokenizer.encode, sar.NOVEL)
        text = FrozenText(clip, tokenizer.encode, core.prompt_learner.tokenized_prompts.cpu())
        base = list(self.dm.dataset.classnames)
        novel = self._novel_names(base, reference, text, tokenizer, seed)
        names = base + novel
        view = PromptView.of(
            core.prompt_learner,
            core.text_encoder,
            base,
            names,
            clip_model=clip,
            tokenizer=tokenizer,
        )
        of_text = partial(reference.embeddings, text, names, apart=MEASURES[sar.DIVERGENCE].band)
        teacher = teacher_features(sar.TEACHER, of_text, names, seed, clip, self.dm)
        alignment = Alignment(view, teacher.to(view.device), len(base), sar, seed)
        weight = str(sar.WEIGHT)
        if self._weighs:
            others = text.embeddings(names, imagenet_templates(), apart=True)
            bound = sar.BOUND * alignment.divergence_of(others.to(view.device))
            alignment.weight = self._dual_weight(bound)
            weight = f"from {alignment.weight.value:.4g} by L_SAR <= {bound:.4g}"
        sampled = sar.SAMPLE_SIZE if 0 < sar.SAMPLE_SIZE < len(view) else "all"
        print(
            f"SAR: weight {weight}, {sar.DIVERGENCE}, temperature {sar.TEMPERATURE}, "
            f"{sampled} classes a step of {len(base)} base and {len(novel)} novel "
            f"ones, reference: {reference.title}"
            + (f", teacher {sar.TEACHER}" if sar.TEACHER != TEXT else "")
        )
        return alignment

    def _clip_and_tokenizer(self) -> tuple[Any, Any]:
        """The frozen CLIP that the host's model was made from, and its tokenizer."""
        tokenizer = getattr(self._clip, "tokenizer", None)  # of another CLIP than OpenAI's
        tokenizer = tokenizer or self._host_modules("_tokenizer")[0]._tokenizer
        if parse_mix(self.cfg.TRAINER.SAR.NOVEL):
            tokenizer, clip = mixing(tokenizer, self._clip)
            return clip, tokenizer
        return self._clip, tokenizer

    def _novel_names(
        self,
        base: list[str],
        reference: Reference,
        text: FrozenText,
        tokenizer: Tokenizer,
        seed: int,
    ) -> list[str]:
        """The novel classes that are aligned; a report about them is printed and saved."""
        sar, dataset = self.cfg.TRAINER.SAR, self.dm.dataset
        prefix, tail = prompt_form(text.like, base, tokenizer, starts(text.clip_model))
        around = len(prefix) + len(text.encode(tail)) - 1  # tokens, without the full stop
        positions = longest_prompt(text.encode, around, reference.templates)
        everything = getattr(dataset, "all_classnames", None)
        classes = known_classes(self.cfg.DATASET.NAME, base, everything)
        listed = getattr(dataset, "novel_list", "")
        chosen = NovelClasses.chosen(sar, classes, seed, positions, listed)
        print(chosen.summary())
        if self.cfg.OUTPUT_DIR:
            chosen.save(self.cfg.OUTPUT_DIR)
        novel = reference.known(chosen.names)
        least = MEASURES[sar.DIVERGENCE].least
        if len(base) + len(novel) < least:
            raise ConfigError(
                f"TRAINER.SAR.DIVERGENCE {sar.DIVERGENCE} compares at least {least} "
                f"classes; found {len(base)} base and {len(novel)} novel ones. Add novel "
                "classes (TRAINER.SAR.NOVEL), or set TRAINER.SAR.WEIGHT to 0."
            )
        return novel

    def _dual_weight(self, bound: float) -> DualWeight:
        """The weight of rule auto: its first value, or the one that a continued run ended with."""
        value = self.cfg.TRAINER.SAR.WEIGHT if self.start_epoch == 0 else self._resumed
        if value is None:
            raise ConfigError(
                f"The run to be continued does not say what its weight was (WEIGHT_RULE {AUTO}): "
                "this toolbox's checkpoints do not hold it. Train in a new folder, without a "
                "break, or set TRAINER.SAR.WEIGHT_RULE to fixed."
            )
        return DualWeight(float(value), bound, self.max_epoch * len(self.train_loader_x))


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
