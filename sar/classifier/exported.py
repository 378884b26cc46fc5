"""A classifier in a folder that stands alone: parameters as safetensors, the rest as JSON.

Nothing in it is run when it is read. Of the CLIP it holds the name and a hash of what it computes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from sar import __version__
from sar.classifier.card import results_of
from sar.classifier.recipe import (
    TEMPERATURE,
    THRESHOLD,
    Recipe,
    Result,
    check_config,
    clip_content,
)
from sar.errors import DataError, WeightsError, one_line
from sar.host.embedded import read_config
from sar.results import Score
from sar.settings.trees import dotted
from sar.storage.sealed import read_sealed, write_sealed
from sar.toolbox.config import Number, dataset_title
from sar.toolbox.config.merge import merge_known

CONFIG, WEIGHTS, CARD = "config.json", "classifier.safetensors", "README.md"
FEATURES = "class_features"
FORMAT = 1
_INPUT = ("SIZE", "INTERPOLATION", "TRANSFORMS", "PIXEL_MEAN", "PIXEL_STD")
_LEARNED = "learned."
_FITTED = (TEMPERATURE, THRESHOLD)
_AGAIN = "export the classifier again (where its CLIP has moved, --clip says)"


def write(folder: Path, recipe: Recipe, trainer: Any, features: Tensor | None) -> None:
    """Writes CONFIG and WEIGHTS into `folder`; `trainer` is what `Recipe.build` gave.

    `features`: those of the classes (C, D), if they do not depend on the picture.
    """
    tensors = {_LEARNED + name: value for name, value in recipe.learned.items()}
    if features is not None:
        tensors[FEATURES] = features
    write_sealed(folder / CONFIG, _description(recipe, trainer), folder / WEIGHTS, tensors)


def _description(recipe: Recipe, trainer: Any) -> dict[str, Any]:
    cfg = recipe.cfg
    own = f"TRAINER.{getattr(trainer, 'node', 'NAME')}."
    return {
        "format": FORMAT,
        "version": __version__,
        "method": cfg.TRAINER.NAME,
        "settings": {key: value for key, value in dotted(cfg).items() if key.startswith(own)},
        "clip": {"name": cfg.MODEL.BACKBONE.NAME, "content": clip_content(trainer)},
        "preprocessing": {key: cfg.INPUT[key] for key in _INPUT},
        "logit_scale": trainer.model.logit_scale.exp().item(),
        "classes": recipe.classes,
        "base_classes": recipe.base,
        "new_classes": [name for name in recipe.classes if name not in recipe.base],
        "repeated": dict(recipe.repeated),
        "template": recipe.template,
        "temperature": recipe.temperature,
        "unknown": {"negatives": recipe.negatives, "threshold": recipe.threshold},
        "fitted_with": recipe.fitted_with,
        "results": [
            {"test": test, "correct": score.correct, "total": score.total}
            for test, score in results_of(recipe)
        ],
        "batch_size": cfg.DATALOADER.TEST.BATCH_SIZE,
        "trained_on": {
            "dataset": cfg.DATASET.NAME,
            "title": dataset_title(cfg),
            "shots": cfg.DATASET.NUM_SHOTS,
            "seed": cfg.SEED,
            "epochs": cfg.OPTIM.MAX_EPOCH,
        },
    }


def read(folder: Path, clip: str = "") -> tuple[Recipe, Any]:
    """The recipe in a folder of `write`, and its trainer.

    Args:
        clip: name or file of the CLIP, if it has moved.

    Raises:
        DataError: CONFIG cannot be read, or was changed. WeightsError: the same of WEIGHTS, or the
            CLIP is another. ConfigError: a method or CLIP that is not known here, or settings that
            mean nothing.
    """
    file = folder / CONFIG
    said, tensors = read_sealed(file, folder / WEIGHTS, _AGAIN)
    try:
        if said["format"] != FORMAT:
            raise ValueError(f"format {said['format']!r}, and this version reads {FORMAT}")
        cfg = read_config("")
        trained = said["trained_on"]
        tree = {
            **{str(key): value for key, value in said["settings"].items()},
            "TRAINER.NAME": said["method"],
            "MODEL.BACKBONE.NAME": clip or said["clip"]["name"],
            **{f"INPUT.{key}": said["preprocessing"][key] for key in _INPUT},
            "DATALOADER.TEST.BATCH_SIZE": said["batch_size"],
            "DATASET.NAME": trained["dataset"],
            "DATASET.TITLE": trained.get("title", ""),
            "DATASET.NUM_SHOTS": trained["shots"],
            "SEED": trained["seed"],
            "OPTIM.MAX_EPOCH": trained["epochs"],
        }
        unknown = said.get("unknown", {})
        names, base = _names(said["classes"]), _names(said["base_classes"])
        template, content = str(said["template"]), str(said["clip"]["content"])
        more: dict[str, Any] = {
            "repeated": _texts(said.get("repeated", {})),
            "temperature": _number(said.get("temperature", 1.0), Number(least=0, above=True)),
            "negatives": _names(unknown.get("negatives", [])),
            "threshold": _number(unknown.get("threshold", 0.0), Number(least=0, most=1)),
            "fitted_with": _fitted_with(said),
            "results": tuple(_result(one) for one in said.get("results", [])),
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"{file} does not describe a classifier ({one_line(repr(error))}); {_AGAIN}"
        ) from error
    merge_known(cfg, tree)
    check_config(cfg)
    cfg.freeze()
    learned = {
        name.removeprefix(_LEARNED): value
        for name, value in tensors.items()
        if name.startswith(_LEARNED)
    }
    recipe = Recipe(cfg, base, names, learned, template, **more)
    trainer = recipe.build()
    if (found := clip_content(trainer)) != content:
        raise WeightsError(
            f"{folder} was trained on another CLIP than {cfg.MODEL.BACKBONE.NAME} (content "
            f"{content[:12]}, here {found[:12]}): its weights mean nothing with this one. Give the "
            "name or file of the CLIP that it was trained on"
        )
    return recipe, trainer


def _names(found: Any) -> tuple[str, ...]:
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise ValueError(f"{found!r:.100} where names should be")
    return tuple(found)


def _texts(found: Any) -> dict[str, str]:
    if not isinstance(found, dict) or not all(isinstance(text, str) for text in found.values()):
        raise ValueError(f"{found!r:.100} where names of names should be")
    return found


def _fitted_with(said: Any) -> dict[str, tuple[str, ...]]:
    found = said.get("fitted_with")
    if found is None:  # of an earlier version
        there = (said.get("temperature", 1.0) != 1, said.get("unknown", {}).get("negatives"))
        found = {w: said["classes"] for w, is_there in zip(_FITTED, there, strict=True) if is_there}
    return {what: _names(found[what]) for what in _FITTED if what in found}


def _result(found: Any) -> Result:
    correct, total = (int(_number(found[key], Number(least=0))) for key in ("correct", "total"))
    return Result(str(found["test"]), Score(correct, total))


def _number(found: Any, rule: Number) -> float:
    if not rule.allows(found):
        raise ValueError(f"{found!r:.100}, expected {rule}")
    return float(found)
