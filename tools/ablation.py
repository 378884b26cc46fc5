"""The ablation behind SAR's defaults, on the demo datasets that the README's table does not use.

    python tools/ablation.py            # about 40 minutes on 2 cores; resumes where it stopped

Trains every setting below with 3 seeds on demo_objects and demo_travel (base classes), tests on
base and new, and writes docs/ablation.md and the trade-off curve docs/tradeoff.png. Each setting
differs from the defaults in what its line says.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import matplotlib
from tabulate import tabulate

from sar.protocols.base2new import BaseToNew
from sar.protocols.local import LocalRunner, default_workers
from sar.results.collect import collect
from sar.results.statistics import harmonic_mean, summarize

matplotlib.use("Agg")
import matplotlib.pyplot as plt

ROOT = Path(__file__).resolve().parents[1]
DATASETS = ("demo_objects", "demo_travel")
SEEDS = (1, 2, 3)


@dataclass(frozen=True)
class Setting:
    """One line of the table: TRAINER.SAR options that differ from the defaults."""

    group: str
    label: str
    options: tuple[str, ...] = ()
    trainer: str = "SAR_CoOp"

    @property
    def folder(self) -> str:
        return "_".join((self.trainer, *self.options)).replace("TRAINER.SAR.", "").replace(":", "")


def _sar(group: str, **keys: object) -> Setting:
    label = ", ".join(f"{key.lower()} {value}" for key, value in keys.items())
    options = [word for key, value in keys.items() for word in (f"TRAINER.SAR.{key}", str(value))]
    return Setting(group, label, tuple(options))


SETTINGS = (
    Setting("baselines", "zero-shot CLIP", trainer="ZeroshotCLIP"),
    Setting("baselines", "CoOp", trainer="CoOp"),
    *(_sar("weight (kl, temperature 0.1)", WEIGHT=w) for w in (0.25, 1.0, 4.0, 16.0)),
    *(
        _sar("temperature and weight", TEMPERATURE=t, WEIGHT=w)
        for t, w in ((0.05, 0.25), (0.05, 1.0), (0.2, 4.0), (0.2, 16.0))
    ),
    *(
        _sar("divergence", DIVERGENCE=d, WEIGHT=w)
        for d, w in (("l2", 50.0), ("l2", 200.0), ("l1", 5.0), ("l1", 20.0))
    ),
    *(_sar("classes sampled a step (0: all)", SAMPLE_SIZE=n, WEIGHT=1.0) for n in (32, 64, 0)),
    *(_sar("novel classes", NOVEL=n, WEIGHT=1.0) for n in ("none", "words:150")),
)


@dataclass(frozen=True)
class Measured:
    """Base, new and H of a setting: one value per seed, averaged over the datasets."""

    setting: Setting
    base: list[float]
    new: list[float]

    @property
    def h(self) -> list[float]:
        return [harmonic_mean(b, n) for b, n in zip(self.base, self.new, strict=True)]


def measure(setting: Setting, output: Path) -> Measured | None:
    """None while the runs of the setting are incomplete."""
    folder = output / setting.folder
    if not folder.is_dir():
        return None
    seeds = SEEDS[:1] if setting.trainer == "ZeroshotCLIP" else SEEDS
    found = {(r.key.dataset, r.key.seed): r.values for r in collect(folder).records}
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
    parser.add_argument("--root", default="", help="where the demo images are put")
    parser.add_argument("--jobs", type=int, default=default_workers())
    args = parser.parse_args()
    jobs = [
        job
        for s in SETTINGS
        for job in BaseToNew(
            DATASETS, SEEDS, args.output / s.folder, (s.trainer,), args.root, options=s.options
        ).jobs()
    ]
    failed = [outcome for outcome in LocalRunner(jobs, args.jobs).run() if not outcome.ok]
    measured = [m for s in SETTINGS if (m := measure(s, args.output)) is not None]
    if measured:
        write_table(measured, args.docs / "ablation.md")
        plot(measured, args.docs / "tradeoff.png")
    for outcome in failed:
        print(f"failed: {outcome.job.title}: {outcome.message}")
    print(f"{len(measured)} of {len(SETTINGS)} settings are complete")


if __name__ == "__main__":
    main()
