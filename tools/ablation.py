"""The ablation behind SAR's defaults, on the demo datasets that the README's table does not use.

    python tools/ablation.py            # about 40 minutes on 2 cores; resumes where it stopped

Runs `sarclip protocol ablation` (3 seeds on demo_objects and demo_travel), then writes
docs/ablation.md and the trade-off curve docs/tradeoff.png from its results.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import matplotlib
from tabulate import tabulate

from sar.protocols.ablation import BASELINE, STUDIES, Ablation, Change, variant_of
from sar.protocols.cli import main as run_protocol
from sar.protocols.configs import SEEDS
from sar.results.collect import Record, collect
from sar.results.folders import is_untrained
from sar.results.statistics import harmonic_mean, summarize

matplotlib.use("Agg")
import matplotlib.pyplot as plt

ROOT = Path(__file__).resolve().parents[1]
DATASETS = tuple(Ablation.datasets)
GROUPS = {
    "components": "components",
    "weight": "weight (kl, temperature 0.1)",
    "novel": "novel classes",
    "temperature": "temperature and weight",
    "divergence": "divergence",
    "sampling": "classes sampled a step (0: all)",
}


@dataclass(frozen=True)
class Setting:
    """One line of the table."""

    group: str
    label: str
    variant: str
    trainer: str = "SAR_CoOp"


def settings() -> list[Setting]:
    def label(change: Change) -> str:
        return ", ".join(f"{key.lower()} {value}" for key, value in change.items())

    return [
        Setting("baselines", "zero-shot CLIP", BASELINE, "ZeroshotCLIP"),
        Setting("baselines", "CoOp", BASELINE, "CoOp"),
        *(
            Setting(GROUPS[study], label(change), variant_of(change))
            for study, changes in STUDIES.items()
            for change in changes
        ),
    ]


@dataclass(frozen=True)
class Measured:
    """Base, new and H of a setting: one value per seed, averaged over the datasets."""

    setting: Setting
    base: list[float]
    new: list[float]

    @property
    def h(self) -> list[float]:
        return [harmonic_mean(b, n) for b, n in zip(self.base, self.new, strict=True)]


def measure(setting: Setting, records: Sequence[Record]) -> Measured | None:
    """None while the runs of the setting are incomplete."""
    seeds = SEEDS[:1] if is_untrained(setting.trainer) else SEEDS
    found = {
        (r.key.dataset, r.key.seed): r.values
        for r in records
        if (r.key.variant, r.key.trainer) == (setting.variant, setting.trainer)
    }
    if any((dataset, seed) not in found for dataset in DATASETS for seed in seeds):
        return None

    def over_datasets(metric: str) -> list[float]:
        return [fmean(found[dataset, seed][metric] for dataset in DATASETS) for seed in seeds]

    return Measured(setting, over_datasets("base"), over_datasets("new"))


def _cell(values: Sequence[float]) -> str:
    summary = summarize(values)
    spread = "" if summary.std is None else f" ± {summary.std:.1f}"
    return f"{summary.mean:.1f}{spread}"


def write_table(measured: Sequence[Measured], file: Path) -> None:
    rows, group = [], ""
    for m in measured:
        rows.append(
            [
                m.setting.group if m.setting.group != group else "",
                m.setting.label,
                *(_cell(values) for values in (m.base, m.new, m.h)),
            ]
        )
        group = m.setting.group
    table = tabulate(rows, ["", "setting", "base", "new", "H"], tablefmt="github")
    file.write_text(
        "# Ablation\n\nMade by `tools/ablation.py`: pocket CLIP, 16 shots, "
        f"{' and '.join(DATASETS)} (not in the README's table), accuracies in percent averaged "
        f"over the datasets, mean ± sample standard deviation over seeds {SEEDS}. H is that of "
        "the averaged accuracies of a seed.\n\n"
        f"{table}\n\n![base against new accuracy](tradeoff.png)\n"
    )


def plot(measured: Sequence[Measured], file: Path) -> None:
    """New against base accuracy: one curve over the weight, other settings as points."""
    figure, axis = plt.subplots(figsize=(7, 5), constrained_layout=True)
    by_group: dict[str, list[Measured]] = {}
    for m in measured:
        by_group.setdefault(m.setting.group, []).append(m)
    for group, members in by_group.items():
        if group == "baselines":
            for m in members:
                axis.plot(fmean(m.base), fmean(m.new), "k*", markersize=12)
                axis.annotate(
                    m.setting.label,
                    (fmean(m.base), fmean(m.new)),
                    xytext=(6, 6),
                    textcoords="offset points",
                )
            continue
        points = [(fmean(m.base), fmean(m.new)) for m in members]
        line = "-o" if group.startswith("weight") else "o"
        axis.plot(*zip(*points, strict=True), line, label=group, alpha=0.8)
        if group.startswith("weight"):
            for m, point in zip(members, points, strict=True):
                axis.annotate(
                    m.setting.label, point, xytext=(6, -10), fontsize=8, textcoords="offset points"
                )
    axis.set_xlabel("base accuracy, %")
    axis.set_ylabel("new accuracy, %")
    axis.set_title(f"{' + '.join(DATASETS)}, mean of {len(SEEDS)} seeds")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    figure.savefig(file, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description="Run the ablation and write docs/ablation.md.")
    parser.add_argument("--output", type=Path, default=ROOT / "output" / "ablation")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs")
    args, more = parser.parse_known_args()
    try:
        run_protocol(["ablation", "--output", str(args.output), *more])
    finally:  # also of a part, if some jobs failed
        records = collect(args.output).records
        found = [measure(setting, records) for setting in settings()]
        if measured := [m for m in found if m is not None]:
            write_table(measured, args.docs / "ablation.md")
            plot(measured, args.docs / "tradeoff.png")
        print(f"{len(measured)} of {len(found)} settings are complete")


if __name__ == "__main__":
    main()
