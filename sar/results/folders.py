"""Output folders: where a run is put, and what its folder's path says about it.

The paths are those of the published scripts (CoOp, CoCoOp, MaPLe, PromptSRC, KgCoOp, TCP, PromptKD,
ProGrad, PLOT, DePT), below the output folder of a protocol:

    {train_base,test_base,test_new}/{dataset}/shots_{k}/{trainer}/{cfg}/seed{s}     base-to-new
    {dataset}/{trainer}/{cfg}_{k}shots[/...]/seed{s}           all classes: few-shot, or the source
                                                               of the tests on other datasets:
    evaluation/{trainer}/{cfg}_{k}shots[/...]/{dataset}/seed{s}
    {trainer}/{cfg}/{dataset}                                  zero-shot
    [{train_base,test_new}/]{trainer}/{dataset}/shots{k}/{cfg}/seed{s}              DePT
    {variant}/{base-to-new}                                    ablation

KgCoOp's `shots_{k}_{weight}` counts as the config `{cfg}_{weight}`, so that weights never mix; so
do folders that other scripts put between config and seed. `{cfg}` may lie in folders of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

LOG_FILE = "log.txt"
"""What the toolbox prints; Dassl continues it in log.txt-<stamp>."""
COMMAND_FILE = "command.txt"
CONSOLE_FILE = "console.txt"
"""All that the process of a job said."""

FIXED_VIEWS = "fixed view"
"""Stands in the names of what was trained so, which is another protocol than the published one."""

_SEED = re.compile(r"seed_?([0-9]+)")
_BASE_TO_NEW = re.compile(r"shots_([0-9]+)(?:_(.+))?")
_ALL_CLASSES = re.compile(r"(.+)_([0-9]+)shots")
_DEPT = re.compile(r"shots([0-9]+)")
_DEMO = "demo_"
_PARTS = ("train_base", "test_base", "test_new")


@dataclass(frozen=True, order=True)
class RunKey:
    """One trained model: everything the tables group or filter by."""

    dataset: str
    trainer: str
    cfg: str
    shots: int
    seed: int
    variant: str = ""
    """In an ablation: the folder that names what was changed."""

    def base_to_new_folder(self, part: str) -> Path:
        """Where base-to-new puts a run; `part` is `train_base`, `test_base` or `test_new`."""
        model = (self.trainer, self.cfg, f"seed{self.seed}")
        return Path(self.variant, part, self.dataset, f"shots_{self.shots}", *model)

    def all_classes_folder(self) -> Path:
        """Where a training on all classes of a dataset goes; its log ends with their test."""
        return Path(self.variant, self.dataset, self.trainer, self._cfg_shots, f"seed{self.seed}")

    def evaluation_folder(self) -> Path:
        """Where the test of a model goes that was trained on another dataset."""
        model = (self.trainer, self._cfg_shots, self.dataset, f"seed{self.seed}")
        return Path(self.variant, "evaluation", *model)

    @property
    def _cfg_shots(self) -> str:
        return f"{self.cfg}_{self.shots}shots"


@dataclass(frozen=True)
class Place:
    """A run directory: which model, and which part of its evaluation."""

    key: RunKey
    part: str
    """`train_base`, `test_base`, `test_new`, `all` (one accuracy over all classes of what was
    trained on), or `evaluation` (the same, of another dataset than the training's)."""
    directory: Path
    output: Path
    """The output folder: what stands above the layout."""


def averaged_name(trainer: str, share: float) -> str:
    """The name of a trainer's models with so large a share of the learned text features."""
    return f"{trainer}_averaged_{share:g}"


def split_averaged(name: str) -> tuple[str, str]:
    """The trainer, and the share of the learned text features; empty where they are all."""
    trainer, _, share = name.partition("_averaged_")
    return trainer, share


def model_of(key: RunKey) -> RunKey:
    """The key of the training that a test belongs to, whatever its share of learned features."""
    return replace(key, trainer=split_averaged(key.trainer)[0])


def fixed_views_name(trainer: str, views: int) -> str:
    """The name of models that saw so many fixed views of each training image (DATALOADER.VIEWS)."""
    return f"{trainer} ({views} {FIXED_VIEWS}{'s' * (views > 1)})"


def is_untrained(trainer: str) -> bool:
    """Zero-shot CLIP in any form: nothing is trained, so seeds have no effect."""
    return trainer.startswith("Zeroshot")


def averaged_over(datasets: Sequence[str]) -> list[str]:
    """Of some datasets those that an average is taken over: the demo's only among themselves."""
    real = [name for name in datasets if not name.startswith(_DEMO)]
    return real or list(datasets)


def is_seed(name: str) -> bool:
    """Whether a folder's name is that of a run: seed1, or seed_1 as PromptKD's."""
    return _SEED.fullmatch(name) is not None


def locate(
    directory: Path, variants: Path | None = None, said: Mapping[str, str] = MappingProxyType({})
) -> Place | None:
    """Read a run directory's path; None if it follows no known layout.

    Args:
        variants: the output folder of an ablation, whose direct subfolders are variants.
        said: what the run's log states (`sar.results.starts`). Where a path can be read in several
            ways, its trainer, and whether it only evaluates, decide.
    """
    *above, last = directory.parts
    seed = _SEED.fullmatch(last)
    found = _trained(above, int(seed[1]), said) if seed else _zero_shot(above, last)
    if found is None:
        return None
    key, part, depth = found
    if variants:
        key = replace(key, variant=directory.relative_to(variants).parts[0])
    return Place(key, part, directory, Path(*above[:depth]))


_Found = tuple[RunKey, str, int]
"""Model, part, and the number of folders above the layout."""


def _zero_shot(above: Sequence[str], dataset: str) -> _Found | None:
    if len(above) < 2 or not is_untrained(above[-2]):
        return None
    return RunKey(dataset, above[-2], above[-1], 0, 1), "all", len(above) - 2


def _trained(above: Sequence[str], seed: int, said: Mapping[str, str]) -> _Found | None:
    """By the folder that names the shots; of several, the one next to the seed."""
    for at in range(len(above) - 1, -1, -1):
        if match := _BASE_TO_NEW.fullmatch(above[at]):
            before, behind = above[:at], above[at + 1 :]
            if len(before) >= 2 and before[-2] in _PARTS and len(behind) >= 2:
                cfg = _joined("/".join(behind[1:]), match[2])
                key = RunKey(before[-1], behind[0], cfg, int(match[1]), seed)
                return key, before[-2], at - 2
        elif match := _ALL_CLASSES.fullmatch(above[at]):
            return _all_classes(above, at, match, seed, said)
        elif (match := _DEPT.fullmatch(above[at])) and at >= 2 and above[at + 1 :]:
            key = RunKey(
                above[at - 1], above[at - 2], "/".join(above[at + 1 :]), int(match[1]), seed
            )
            if at >= 3 and above[at - 3] in _PARTS:
                return key, above[at - 3], at - 3
            return key, "evaluation" if said.get("eval_only") == "True" else "all", at - 2
    return None


def _all_classes(
    above: Sequence[str], at: int, match: re.Match[str], seed: int, said: Mapping[str, str]
) -> _Found | None:
    # The trainer stands before the config, which may lie in folders of its own.
    stated = [i for i in range(at - 1, -1, -1) if above[i] == said.get("trainer")]
    trainer = stated[0] if stated else at - 1
    cfg, between = "/".join([*above[trainer + 1 : at], match[1]]), list(above[at + 1 :])
    if trainer < 1:
        return None
    part, dataset = "all", above[trainer - 1]
    if dataset == "evaluation":
        if not between:
            return None
        part, dataset = "evaluation", between.pop()
    cfg = _joined(cfg, "_".join(between))
    return RunKey(dataset, above[trainer], cfg, int(match[2]), seed), part, trainer - 1


def _joined(*names: str | None) -> str:
    return "_".join(filter(None, names))
