"""Command lines that are wrong, and why some that look wrong may be accepted."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping

from doors import COOP, SAR
from picture_cases import PICTURES
from yacs.config import CfgNode

from sar.config import add_sar_config
from sar.settings.trees import dotted
from sar.toolbox.config import get_cfg_default
from sar.toolbox.registered import add_registered_keys, register_builtin

VALUES = (
    "",
    "None",
    "-1",
    "0",
    "0.5",
    "1e308",
    "nan",
    "inf",
    "zzz",
    "True",
    "[]",
    "[1]",
    "{}",
    "()",
)
SHARE = 3  # of the values of each key
WORDS: Mapping[str, str] = {
    "a seed of 2 ** 32": f"{COOP} --seed 4294967296",
    "a seed of 2 ** 70": f"{COOP} --seed 1180591620717411303424",
    "a seed with a fraction": f"{COOP} --seed 1.5",
    "an epoch that is not there": f"{COOP} --eval-only --model-dir trained --load-epoch 7",
    "a negative epoch": f"{COOP} --eval-only --model-dir trained --load-epoch -1",
    "a model folder that is not there": f"{COOP} --eval-only --model-dir none --load-epoch 1",
    "a file as the model folder": f"{COOP} --eval-only --model-dir data/clip.pt --load-epoch 1",
    "an unknown trainer": COOP.replace("CoOp", "CoOpp"),
    "no trainer": COOP.replace("--trainer CoOp", ""),
    "a root that is not there": COOP.replace("--root data", "--root none"),
    "a file as the root": COOP.replace("--root data", "--root data/clip.pt"),
    "an empty root": COOP.replace("--root data", "--root="),
    "a configuration that is not there": COOP.replace("mini.yaml", "none.yaml"),
    "a folder as the configuration": COOP.replace("data/mini.yaml", "data"),
    "a binary as the configuration": COOP.replace("mini.yaml", "clip.pt"),
    "an output that is a file": f"{COOP} --output-dir data/clip.pt",
    "an output below a file": f"{COOP} --output-dir data/clip.pt/out",
    "an output with a name that is too long": f"{COOP} --output-dir {'x' * 300}",
    "a path that is too long": f"{COOP} --output-dir {'x/' * 3000}",
    "a name that is too long as the root": COOP.replace("--root data", f"--root {'x' * 300}"),
    "a name that is too long as the weights": f"{COOP} MODEL.BACKBONE.NAME {'x' * 300}",
    "a name that is too long as the models": f"{COOP} --eval-only --model-dir {'x' * 300}",
    "a home that nobody has as the root": COOP.replace("--root data", "--root ~nobodyhasthis/x"),
    "a home that nobody has as the weights": f"{COOP} MODEL.BACKBONE.NAME ~nobodyhasthis/x.pt",
    "a key of SAR that is not there": f"{SAR} TRAINER.SAR.WIEGHT 1",
    "a novel file that is not there": f"{SAR} TRAINER.SAR.NOVEL none.json",
    "more words than there are": f"{SAR} TRAINER.SAR.NOVEL words:100000",
    "words with a huge number": f"{SAR} TRAINER.SAR.NOVEL words:{'9' * 5000}",
    "a weight of 1e308": f"{SAR} TRAINER.SAR.WEIGHT 1e308",
    "a temperature of 1e-40": f"{SAR} TRAINER.SAR.TEMPERATURE 1e-40",
    "an unknown key in a plan": "protocol base2new --dry-run OPTIM.LRR 1",
    "a wrong value in a plan": "protocol base2new --dry-run OPTIM.LR zzz",
    "a wrong value for a trainer in a plan": "protocol base2new --dry-run TRAINER.COOP.PREC fp8",
    "an unknown key of SAR in a plan": "protocol base2new --dry-run TRAINER.SAR.X 1",
    "an unknown dataset in a plan": "protocol base2new --dry-run --datasets none",
    "a plan without seeds": "protocol base2new --dry-run --seeds ,",
    "a seed of 2 ** 32 in a plan": "protocol base2new --dry-run --seeds 4294967296",
    "shots without end in a plan": f"protocol few-shot --dry-run --shots {'9' * 5000}",
    "a plan whose output is a file": "protocol base2new --output data/clip.pt",
    "results of a file": "results data/clip.pt",
    "results of nothing": "results none",
    "a report below a file": "report results --output data/clip.pt/x.html",
    "figures into a file": "results results --plots data/clip.pt",
    "results into a folder": "results results --output data",
    "an import that is not there": f"{COOP} --import none.py",
    "an import that is no Python": f"{COOP} --import data/mini.yaml",
    "a dataset that nobody knows": "data status --root data none",
    "names that are not there": "novel check --classes none.txt none.txt",
}
ARGUMENTS: Mapping[str, str] = {
    "configuration (YAML): no DATASET": "then all shots and classes are taken, as documented",
    "TEST.NO_TEST True": "asks for no test",
    "known pictures (CSV): Split in place of split": "headers are read in any case",
    "captions (JSON): another text in images.0.split": "an image of another split is not meant",
    **dict.fromkeys(
        (f"descriptions (.{end}): a class in two spellings" for end in ("txt", "csv")),
        "the rows of a class, however it is spelled, are its descriptions",
    ),
    "TRAINER.SAR.WEIGHT 0": "is the base trainer",
    **{
        f"{names} (text): {what}": "a list of other names is a list; the output has its names"
        for names in ("classes to describe", "classes to tell apart", "negative names")
        for what in (
            "characters that no token knows",
            "a flipped bit",
            "another flipped bit",
            "cut off",
            "cut off early",
            "cut off late",
        )
    },
    "classes to describe (text): a base class alone": "one class can be described",
    "classes to describe (text): a very long name": "no CLIP is there; a training says it",
    "classes to tell apart (YAML): a text with a line end in new.0": "blanks of any kind are one",
    **{
        f"class list to check (YAML): {what}": "the table says which classes are left out"
        for what in ("an empty list in new", "cut off", "missing")
    },
    "table to check (CSV): an unlisted class": "the table says that it is left out",
    "transformers' weights: the classes in another order": "other weights are another CLIP",
    "DATASET.TITLE inf": "a title is any text",
    "descriptions (.csv): cut off": "the classes it has left are those of the training",
    "descriptions (.csv): twice": "the second header is a class that is said not to be used",
    **{
        f"picture, {use}: {what}": "it is a picture, and taken for what it shows"
        for use in ("labelled", "held out")
        for what in PICTURES
    },
    **{
        f"picture{use}: {what}": "a folder has the pictures it has; how many, is said"
        for use in (", labelled", ", held out", " to check")
        for what in ("missing", "a folder")
    },
    **dict.fromkeys(
        (
            "predict with negative names that are classes",
            "evaluate with negative names that are classes",
            "unknown names among the classes",
        ),
        "those of the classes do not count, and the training did not have the others",
    ),
}
"""Case -> why another result than the usual one is right."""


def option_cases(rng: random.Random) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """(what, command, further arguments)."""
    for what, command in WORDS.items():
        yield what, command, ()
    register_builtin()
    cfg = get_cfg_default()
    add_registered_keys(cfg)
    add_sar_config(cfg)
    for key in _keys(cfg):
        command = SAR if key.startswith("TRAINER.SAR.") else COOP
        for value in rng.sample(VALUES, SHARE):
            yield f"{key} {value or '(empty)'}", command, (key, value)


def _keys(cfg: CfgNode) -> list[str]:
    own = ("TRAINER.COOP.", "TRAINER.SAR.")
    return [key for key in dotted(cfg) if not key.startswith("TRAINER.") or key.startswith(own)]
