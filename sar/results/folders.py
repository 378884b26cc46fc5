"""Output folders: where a run is put, and what its folder's path says about it.

The paths are those of the existing scripts (CoOp, CoCoOp, MaPLe, PromptSRC, KgCoOp), below the
output folder of a protocol:

    {train_base,test_base,test_new}/{dataset}/shots_{k}/{trainer}/{cfg}/seed{s}     base-to-new
    {dataset}/{trainer}/{cfg}_{k}shots[/nctx...]/seed{s}       all classes: few-shot, or the source
                                                               of the tests on other datasets:
    evaluation/{trainer}/{cfg}_{k}shots[/nctx...]/{dataset}/seed{s}
    {variant}/{base-to-new}                                    ablation

KgCoOp's `shots_{k}_{weight}` counts as the config `{cfg}_{weight}`, so that weights never mix.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

LOG_FILE = "log.txt"
"""What the toolbox prints; Dassl continues it in log.txt-<stamp>."""
COMMAND_FILE = "command.txt"
CONSOLE_FILE = "console.txt"
"""All that the process of a job said."""

_LAYOUTS = tuple(
    re.compile(pattern)
    for pattern in (
        r"(?:^|/)(?P<part>train_base|test_base|test_new)/(?P<dataset>[^/]+)"
        r"/shots_(?P<shots>\d+)(?:_(?P<variant>[^/]+))?"
        r"/(?P<trainer>[^/]+)/(?P<cfg>[^/]+)/seed(?P<seed>\d+)$",
        r"(?:^|/)(?P<dataset>[^/]+)/(?P<trainer>[^/]+)/(?P<cfg>[^/]+)_(?P<shots>\d+)shots"
        r"(?:/(?P<variant>nctx[^/]+))?/seed(?P<seed>\d+)$",
        r"(?:^|/)(?P<part>evaluation)/(?P<trainer>[^/]+)/(?P<cfg>[^/]+)_(?P<shots>\d+)shots"
        r"(?:/(?P<variant>nctx[^/]+))?/(?P<dataset>[^/]+)/seed(?P<seed>\d+)$",
    )
)
_SEED = re.compile(r"seed\d+")


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


def is_untrained(trainer: str) -> bool:
    """Zero-shot CLIP in any form: nothing is trained, so seeds have no effect."""
    return trainer.startswith("Zeroshot")


def locate(directory: Path, variants: Path | None = None) -> Place | None:
    """Read a run directory's path; None if it follows no known layout.

    Args:
        variants: the output folder of an ablation, whose direct subfolders are variants.
    """
    variant = directory.relative_to(variants).parts[0] if variants else ""
    for layout in _LAYOUTS:
        if match := layout.search(directory.as_posix()):
            parts = match.groupdict()
            cfg = "_".join(filter(None, (parts["cfg"], parts["variant"])))
            key = RunKey(
                parts["dataset"],
                parts["trainer"],
                cfg,
                int(parts["shots"]),
                int(parts["seed"]),
                variant,
            )
            output = Path(directory.as_posix()[: match.start()] or directory.anchor)
            return Place(key, parts.get("part", "all"), directory, output)
    return None


def run_directories(root: Path) -> Iterator[Path]:
    """Every directory under `root` that is a run: named seed{s}, or with a log.txt in it."""
    for path, folders, files in os.walk(root):
        folders.sort()
        directory = Path(path)
        if _SEED.fullmatch(directory.name) or any(name.startswith(LOG_FILE) for name in files):
            folders.clear()  # checkpoints and TensorBoard files lie below
            yield directory
