"""What trained prompts did to the relations between classes: tables, figure, record."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from sar.errors import SARError
from sar.inspection.figure import Figure, draw
from sar.inspection.models import SAR_PREFIX, Embeddings, Training, embeddings, read_training
from sar.inspection.relations import NEIGHBOURS, Relations, compare, similarities
from sar.storage.files import atomic_write, make_folder, write_file


def compare_models(
    model_dirs: Sequence[Path],
    classes: str,
    root: str = "",
    output: Path | None = None,
    top: int = 10,
    temperature: float | None = None,
) -> None:
    """Prints the tables and writes inspect_<classes>.png, .svg and .json.

    Args:
        model_dirs: output folders of trainings; a single one is compared with its counterpart.
        classes: one of `SUBSETS`.
        root: folder with the datasets, if it has moved.
        output: where the files go; by default the first folder.
        top: lines in the table of classes.
        temperature: of the divergence, in units of cosine; by default that of the training.

    Raises:
        SARError: a folder without a trained prompt, or models of different classes.
    """
    trainings = _trainings(model_dirs, root)
    folders = [training.folder for training in trainings]
    aligned = next((training for training in trainings if training.has_sar), trainings[0])
    temperature = temperature or aligned.cfg.TRAINER.SAR.TEMPERATURE
    models = [embeddings(training, classes, aligned) for training in trainings]
    _check_comparable(models, folders)
    first = models[0]
    reference = similarities(first.reference)
    labels = _labels(models)
    learned = {
        label: similarities(model.learned) for label, model in zip(labels, models, strict=True)
    }
    relations = {
        label: compare(reference, matrix, first.names, temperature)
        for label, matrix in learned.items()
    }
    title = (
        f"Relations among the {len(first.names)} {_KIND[classes]} of {first.dataset} "
        f"under {first.backbone}'s text encoder, by prompt"
    )
    print(f"{title}\nhand-crafted: {first.crafted}; temperature {temperature}")
    print(*(f"{label}: {folder}" for label, folder in zip(labels, folders, strict=True)), sep="\n")
    print()
    unchanged = compare(reference, reference, first.names)
    print(summary({"hand-crafted": unchanged, **relations}), "\n")
    print(f"The {min(top, len(first.names))} classes whose relations changed most\n")
    print(most_changed(relations, top))

    content = {
        "dataset": first.dataset,
        "classes": classes,
        "backbone": first.backbone,
        "template": first.crafted,
        "temperature": temperature,
        "folders": [str(folder) for folder in folders],
        "models": {label: dataclasses.asdict(change) for label, change in relations.items()},
    }
    figure = draw(title, first.names, reference, learned, relations)
    _write(output or model_dirs[0], f"inspect_{classes}", figure, content)


def _trainings(model_dirs: Sequence[Path], root: str) -> list[Training]:
    """The trainings in folders, those without SAR first; a single one with its counterpart."""
    folders = list(model_dirs)
    if len(folders) == 1 and (other := counterpart(folders[0])):
        folders.append(other)
    trainings = [read_training(folder, root) for folder in folders]
    if len(trainings) == 1:
        print("No counterpart with (or without) SAR beside it")
    return sorted(trainings, key=lambda training: training.has_sar)


def _write(folder: Path, name: str, figure: Figure, content: dict[str, Any]) -> None:
    make_folder(folder, "give another --output")
    for suffix in ("png", "svg"):
        with atomic_write(folder / f"{name}.{suffix}") as file:
            figure.savefig(file, format=suffix, dpi=130)
    write_file(folder / f"{name}.json", json.dumps(content, indent=1, ensure_ascii=False))
    print(f"\nwrote {name}.png, .svg and .json to {folder}")


def counterpart(folder: Path) -> Path | None:
    """The folder of the same training with SAR, or without it if `folder` has it; None: no such."""
    full = folder.resolve()
    for depth, part in enumerate(reversed(full.parts)):
        other = part.removeprefix(SAR_PREFIX) if part.startswith(SAR_PREFIX) else SAR_PREFIX + part
        parts = list(full.parts)
        parts[-1 - depth] = other
        candidate = Path(*parts)
        if candidate.is_dir() and any(candidate.glob("*/model.pth.tar-*")):
            return candidate
    return None


def summary(relations: dict[str, Relations]) -> str:
    """One line for each prompt."""
    rows = [
        [
            label,
            found.correlation,
            found.divergence,
            f"{found.nearest_changed:.0%}",
            f"{found.kept:.0%}",
            found.mean_similarity,
        ]
        for label, found in relations.items()
    ]
    headers = [
        "prompt",
        "correlation",
        "divergence",
        "nearest class changed",
        f"{NEIGHBOURS} nearest kept",
        "mean similarity",
    ]
    return tabulate(rows, headers, floatfmt=".3f")


def most_changed(relations: dict[str, Relations], top: int) -> str:
    """The classes that the first model moved furthest: divergence and nearest class by prompt."""
    first, *others = relations.values()
    ranking = sorted(
        range(len(first.changes)), key=lambda i: first.changes[i].divergence, reverse=True
    )
    rows = []
    for i in ranking[:top]:
        row: list[object] = [first.changes[i].name, first.changes[i].nearest]
        for found in (first, *others):
            change = found.changes[i]
            now = "=" if change.rank == 1 else f"{change.nearest_learned} ({change.rank})"
            row += [change.divergence, now]
        rows.append(row)
    headers = ["class", "nearest, hand-crafted"]
    for label in relations:
        headers += [f"{label}: divergence", "nearest (rank of the former)"]
    return tabulate(rows, headers, floatfmt=".3f")


_KIND = {
    "new": "unseen classes",
    "base": "base classes",
    "all": "base and new classes",
    "novel": "novel classes",
}


def _check_comparable(models: Sequence[Embeddings], folders: Sequence[Path]) -> None:
    first = models[0]
    for model, folder in zip(models, folders, strict=True):
        for what in ("dataset", "names", "backbone"):
            if getattr(model, what) != getattr(first, what):
                raise SARError(
                    f"{folder} and {folders[0]} differ in their {what}; inspect compares models of "
                    "the same classes and the same CLIP"
                )
    if len(first.names) < 3:
        raise SARError(f"{first.dataset} has {len(first.names)} such classes; expected 3 or more")


def _labels(models: Sequence[Embeddings]) -> list[str]:
    """Trainer names; numbered where trainers repeat."""
    trainers = [model.trainer for model in models]
    if len(set(trainers)) == len(trainers):
        return trainers
    return [f"{trainer} ({i})" for i, trainer in enumerate(trainers, start=1)]
