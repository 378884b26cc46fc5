"""The gradient of L_SAR as a host's own code gives it, against the one that its optimizer finds.

Naive: the host's plain trainer is built a second time, for base and novel classes together, given
the learned tensors of the first, and called with the same batch. Its own text encoder encodes every
prompt at all positions; the loss is written out below; autograd does the rest. Nothing of `sar` is
used but OpenAI's CLIP for the frozen features.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from records import NOVEL, TEMPLATE
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_pre_hook

OPTIONS = (
    # Of many images CoCoOp's host makes many prompts, SAR the one of their mean: here, the same.
    *("DATALOADER.TRAIN_X.BATCH_SIZE", "1", "TRAINER.SAR.SAMPLE_SIZE", "0"),
)
GRADIENT = "gradient"
"""Name of the run that is for this."""
WEIGHT = 1000.0  # so that the difference to the host's own gradient is L_SAR's alone


class Measured(Exception):
    """Ends a run: its first update has been seen."""


@contextmanager
def in_float32() -> Iterator[None]:
    """`.half()` does nothing, so that what a host keeps in fp16 whatever its PREC is computes."""
    kinds: list[Any] = [torch.Tensor, torch.nn.Module]
    originals = [kind.half for kind in kinds]
    for kind in kinds:
        kind.half = lambda self, *args: self
    try:
        yield
    finally:
        for kind, original in zip(kinds, originals, strict=True):
            kind.half = original


class Probe:
    """Watches the first update of a SAR_X; afterwards `record` holds what was found.

    "error": the norm of the difference to the naive gradient, over all learned tensors, relative to
    the norm of the latter; "tensors": the names of those that L_SAR depends on.
    """

    def __init__(self) -> None:
        self.record: dict[str, Any] = {}

    def watch(self, trainer: Any) -> None:
        """To be called when `trainer` has been built."""
        self.trainer = trainer
        self.learned = learned = {
            n: p for n, p in core(trainer).named_parameters() if p.requires_grad
        }

        def gradients() -> dict[str, Tensor]:
            return {
                n: torch.zeros_like(p) if p.grad is None else p.grad.clone()
                for n, p in learned.items()
            }

        def before(*args: Any) -> None:
            self.plain = gradients()

        def after(*args: Any) -> None:
            found = {n: (g - self.plain[n]) / WEIGHT for n, g in gradients().items()}
            self.record |= self.compare(found)
            raise Measured

        # Hooks of all optimizers come first, in the order of their registration; SAR's is later.
        self.handle = register_optimizer_step_pre_hook(before)
        trainer.optim.register_step_pre_hook(after)
        core(trainer).register_forward_pre_hook(self.note_call, with_kwargs=True)

    def note_call(self, module: Any, args: Any, kwargs: Any) -> None:
        self.call = args, kwargs

    def compare(self, found: dict[str, Tensor]) -> dict[str, Any]:
        """The record for gradients by name."""
        self.handle.remove()
        expected = self.naive()
        reached = {name: g for name, g in expected.items() if g is not None}
        others = [name for name, g in found.items() if name not in reached and g.any()]
        assert reached, "L_SAR depends on nothing"
        assert not others, f"L_SAR does not depend on {others}"
        off = sum(float((found[n] - g).square().sum()) for n, g in reached.items()) ** 0.5
        whole = sum(float(g.square().sum()) for g in reached.values()) ** 0.5
        return {"error": off / whole, "tensors": sorted(reached)}

    def naive(self) -> dict[str, Tensor | None]:
        """The gradient of L_SAR by learned tensor; None where it does not depend on one."""
        names = [*self.trainer.dm.dataset.classnames, *NOVEL]
        twin = core(self.twin(names))
        learned = {n: p for n, p in twin.named_parameters() if n in self.learned}
        with torch.no_grad():
            for name, parameter in learned.items():
                if parameter.shape == self.learned[name].shape:  # else of a classifier of classes
                    parameter.copy_(self.learned[name])
        features: list[Tensor] = []
        twin.text_encoder.register_forward_hook(lambda m, a, output: features.append(output))
        args, kwargs = self.call
        with torch.enable_grad():
            twin.train()
            twin(*args, **kwargs)
            (encoded, *_) = (f for f in features if len(f) == len(names))
            sar = self.trainer.cfg.TRAINER.SAR
            loss = loss_kl(frozen(names, self.trainer.cfg), encoded, sar.TEMPERATURE)
            given = torch.autograd.grad(loss, list(learned.values()), allow_unused=True)
        return dict(zip(learned, given, strict=True))

    def twin(self, names: list[str]) -> Any:
        """The plain trainer of the host, built for the classes `names`."""
        _, _, host, *_ = type(self.trainer).__mro__  # SAR_X, SARTrainerMixin, X

        class Twin(host):  # type: ignore[misc,valid-type]
            def build_data_loader(self) -> None:
                super().build_data_loader()
                fields = vars(self.dm.dataset)
                fields["_classnames" if "_classnames" in fields else "classnames"] = names

        cfg = self.trainer.cfg.clone()
        cfg.defrost()
        cfg.TRAINER.NAME = host.__name__
        cfg.freeze()
        return Twin(cfg)


def core(trainer: Any) -> Any:
    """The host's model, without a data-parallel wrapper."""
    return getattr(trainer.model, "module", trainer.model)


def loss_kl(reference: Tensor, features: Tensor, temperature: float) -> Tensor:
    """Mean over the classes of KL(reference ‖ learned) of their similarities to the others."""
    rows = []
    for i in range(len(features)):
        others = [j for j in range(len(features)) if j != i]
        t, w = (F.normalize(x.float(), dim=-1) for x in (reference, features))
        target = F.softmax(t[others] @ t[i] / temperature, dim=0)
        learned = F.log_softmax(w[others] @ w[i] / temperature, dim=0)
        rows.append((target * (target.log() - learned)).sum())
    return torch.stack(rows).mean()


def frozen(names: list[str], cfg: Any) -> Tensor:
    """Features (C, D) of the hand-crafted prompts, by OpenAI's CLIP in float32."""
    from sar.toolbox.clip.openai import build_model, clip

    weights = torch.load(cfg.MODEL.BACKBONE.NAME, map_location="cpu")
    texts = [TEMPLATE.format(name.replace("_", " ")) for name in names]
    with torch.no_grad():
        features: Tensor = build_model(weights).float().encode_text(clip.tokenize(texts))
    return features
