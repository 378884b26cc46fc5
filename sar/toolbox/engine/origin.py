"""Whether trained weights still mean what they meant where they were trained.

Shapes tell little: prompts of RN50, RN101, ViT-B/32 and ViT-B/16 are all (n, 512), and CoOp's
files look like KgCoOp's. So weights are taken by their own method alone, on the CLIP that they were
trained on, in the same form of context and, where each class has a context of its own, for the
same classes. A checkpoint says all of that by its `config`, `classnames` and `clip`.

Checkpoints of earlier versions have no `clip`, those of other toolboxes none of the three. The
embeddings of the class names that travel in both still show another CLIP and other classes. They do
not show another method or position of the class names in files of other toolboxes, nor a CLIP that
was trained further without its token embeddings: a line says that this cannot be checked.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from torch import Tensor, nn
from yacs.config import CfgNode

from sar.errors import DataError, WeightsError
from sar.settings.trees import dotted
from sar.storage.cache import key_of
from sar.storage.texts import parse_yaml
from sar.toolbox.config import get_cfg_default
from sar.toolbox.config.merge import merge_known
from sar.toolbox.data.transforms import image_input
from sar.toolbox.engine.build import TRAINER_REGISTRY

CLASS_SPECIFIC = "class-specific contexts"
"""The entry of a form that is True if each class has weights of its own."""
# Keys that may change between a run and its continuation without a note.
_FREE = (
    *("OUTPUT_DIR", "RESUME", "VERBOSE", "USE_CUDA", "DATASET.ROOT", "DATASET.TITLE"),
    *("TRAIN.", "TEST."),
)
# How a test, too, reads a picture; the size is always the CLIP's.
_PICTURES = ("INPUT.INTERPOLATION", "INPUT.PIXEL_MEAN", "INPUT.PIXEL_STD")
# Kept as a product in some CLIPs, whose last bits depend on the machine.
_NOT_COUNTED = "token_embedding.weight"
# Greatest distance of two embeddings of one token, relative to their norm, in any precision.
_SAME = 0.02


def content_of(clip_model: nn.Module) -> str:
    """What a CLIP computes, as a hash: its weights in fp32, and the kinds of its activations."""
    leaves = [m for m in clip_model.modules() if not [*m.children(), *m.parameters()]]
    weights = {k: v for k, v in clip_model.state_dict().items() if k != _NOT_COUNTED}
    return key_of(" ".join(sorted({type(module).__name__ for module in leaves})), weights)


def method_of(trainer: str) -> str:
    """The trainer whose weights `trainer` trains: CoOp for SAR_CoOp; by default itself."""
    registered = TRAINER_REGISTRY.registered_names()
    known = TRAINER_REGISTRY.get(trainer) if trainer in registered else None
    return getattr(known, "weights_of", "") or trainer


class Origin:
    """Where the weights of the run at hand come from, and whether others fit it.

    Args:
        classnames: of the classes at hand, in the order of their labels.
        form: gives the form of the context under a configuration; `SimpleTrainer.weights_form`.

    Attributes:
        clip: `content_of` the CLIP in use; empty as long as it is not known.
    """

    def __init__(
        self,
        cfg: CfgNode,
        classnames: Sequence[str],
        form: Callable[[CfgNode], Mapping[str, object]],
    ) -> None:
        self.cfg = cfg
        self.classnames = list(classnames)
        self.form = form
        self.clip = ""

    def state(self) -> dict[str, Any]:
        """What a checkpoint says about it, as plain values."""
        return {"config": self.cfg.dump(), "classnames": self.classnames, "clip": self.clip}

    def check(self, checkpoint: Mapping[str, Any], model: nn.Module, source: Path) -> None:
        """Raises WeightsError unless the weights mean something for `model` in this run.

        A line says so if pictures are read in another way than in the training.
        """
        if config := _config(checkpoint, source):
            then = self.cfg.clone()  # what an earlier version did not know is as it is now
            then.defrost()
            merge_known(then, {"TRAINER": config["TRAINER"]})
            before, now = self._settings(then), self._settings(self.cfg)
            for what in now:
                if before[what] != now[what]:
                    raise _other(source, f"{what} {before[what]!r}", f"{now[what]!r}")
            merge_known(then, {"INPUT": config.get("INPUT", {})})
            pictures = (dotted({"INPUT": image_input(cfg)}) for cfg in (then, self.cfg))
            _tell_changes(*({key: of[key] for key in _PICTURES} for of in pictures))
        else:
            print(
                f"Note: {source} does not say by which method and with which settings it was "
                "trained; that they are those of this run cannot be checked"
            )
        self._check_classes(checkpoint, model, source)
        self._check_clip(checkpoint, model, source)

    def check_continued(self, checkpoint: Mapping[str, Any], model: nn.Module, path: Path) -> None:
        """`check`, and WeightsError for another trainer or other classes.

        Other changed settings are named, except those of _FREE, which make no difference.
        """
        names = checkpoint.get("classnames")
        if names is not None and names != self.classnames:
            raise WeightsError(
                f"{path} was trained on {len(names)} other classes ({', '.join(names[:3])}, ...); "
                "choose another --output-dir, or restore the dataset settings"
            )
        self.check(checkpoint, model, path)
        # What an earlier version did not know was as it is by default.
        defaults = dotted(yaml.safe_load(get_cfg_default().dump()))
        before, now = _config(checkpoint, path), dotted(yaml.safe_load(self.cfg.dump()))
        before = defaults | dotted(before) if before else {}
        trainer = "TRAINER.NAME"
        if before.get(trainer, now[trainer]) != now[trainer]:
            raise WeightsError(
                f"{path} was trained by {before[trainer]}, which {now[trainer]} does not continue; "
                f"choose another --output-dir, and start from its weights by MODEL.INIT_WEIGHTS"
            )
        told = (*_FREE, *_PICTURES)  # these by `check`
        _tell_changes(before, {key: now[key] for key in now if not key.startswith(told)})

    def _settings(self, cfg: CfgNode) -> dict[str, object]:
        return {"the method": method_of(cfg.TRAINER.NAME), **self.form(cfg)}

    def _check_classes(self, checkpoint: Mapping[str, Any], model: nn.Module, source: Path) -> None:
        if not self.form(self.cfg).get(CLASS_SPECIFIC):
            return
        names = checkpoint.get("classnames")
        if names is None:
            same = not _differ(checkpoint, model, "token_suffix")
            names = ["not named"]
        else:
            same = names == self.classnames
        if not same:
            raise _other(
                source,
                f"{CLASS_SPECIFIC} for other classes ({', '.join(names[:3])}, ...)",
                f"{', '.join(self.classnames[:3])}, ...",
            )

    def _check_clip(self, checkpoint: Mapping[str, Any], model: nn.Module, source: Path) -> None:
        if self.clip and checkpoint.get("clip"):
            same = checkpoint["clip"] == self.clip
        else:
            same = not _differ(checkpoint, model, "token_prefix")
            if same and self.clip:
                print(
                    f"Note: {source} does not say on which CLIP it was trained; that it is "
                    f"{self.cfg.MODEL.BACKBONE.NAME}, and its weights these, cannot be checked"
                )
        if not same:
            config = dotted(_config(checkpoint, source))
            then = config.get("MODEL.BACKBONE.NAME", "not named")
            raise _other(source, f"another CLIP ({then})", self.cfg.MODEL.BACKBONE.NAME)


def _tell_changes(before: Mapping[str, object], now: Mapping[str, object]) -> None:
    for key in sorted(before.keys() & now.keys()):
        if before[key] != now[key]:
            print(f"Note: {key} was {before[key]!r} in the checkpoint, now {now[key]!r}")


def _config(checkpoint: Mapping[str, Any], source: Path) -> dict[str, Any]:
    """The configuration in a checkpoint as a tree; empty if it holds none."""
    if (text := checkpoint.get("config")) is None:
        return {}
    try:
        tree = parse_yaml(text, "the configuration in it")
        if isinstance(tree["TRAINER"], dict):
            return dict(tree)
    except (DataError, TypeError, KeyError):
        pass
    raise WeightsError(f"{source} is damaged: its configuration is none; train again")


def _differ(checkpoint: Mapping[str, Any], model: nn.Module, buffer: str) -> bool:
    """Whether a checkpoint holds other token embeddings than `model`; False if it holds none.

    `token_prefix` is the same for all classes, so that its first row is enough.
    """
    given, wanted = checkpoint.get("state_dict", {}), model.state_dict()
    for key, ours in wanted.items():
        theirs = given.get(key)
        if key.rpartition(".")[2] != buffer or not isinstance(theirs, Tensor):
            continue
        if buffer == "token_prefix":
            ours, theirs = ours[:1, :1], theirs[:1, :1]
        if theirs.shape != ours.shape:
            return True
        theirs, ours = theirs.float().cpu(), ours.float().cpu()
        if not (theirs - ours).norm() <= _SAME * ours.norm():
            return True
    return False


def _other(source: Path, then: str, now: str) -> WeightsError:
    return WeightsError(
        f"{source} was trained with {then}, and this run has {now}: its weights mean nothing here. "
        "Use the settings it was trained with, or train again"
    )
