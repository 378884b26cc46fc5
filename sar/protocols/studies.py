"""What `sarclip protocol ablation` changes about SAR: studies, each a list of settings."""

from __future__ import annotations

from sar.classes.novel_names import LEAK, ORACLE

Change = dict[str, object]
"""TRAINER.SAR keys and values that differ from the defaults."""

_DEFAULT: Change = {"WEIGHT": 1.0}  # the default itself: a row of several studies, trained once
STUDIES: dict[str, dict[str, Change]] = {
    "components": {
        "base classes only": {"NOVEL": "none", "SAMPLE_SIZE": 0},
        "base and novel": {"SAMPLE_SIZE": 0},
        "random part (default)": _DEFAULT,
    },
    "weight": {
        "0.25": {"WEIGHT": 0.25},
        "1 (default)": _DEFAULT,
        "2": {"WEIGHT": 2.0},
        "4": {"WEIGHT": 4.0},
        "8": {"WEIGHT": 8.0},
        "16": {"WEIGHT": 16.0},
    },
    "novel": {
        "none": {"NOVEL": "none"},
        "150 random words": {"NOVEL": "words:150"},
        "shipped (default)": _DEFAULT,
    },
    "temperature": {
        "0.05, weight 0.25": {"TEMPERATURE": 0.05, "WEIGHT": 0.25},
        "0.05": {"TEMPERATURE": 0.05},
        "0.2, weight 4": {"TEMPERATURE": 0.2, "WEIGHT": 4.0},
        "0.2, weight 16": {"TEMPERATURE": 0.2, "WEIGHT": 16.0},
    },
    "divergence": {
        "l2, weight 50": {"DIVERGENCE": "l2", "WEIGHT": 50.0},
        "l2, weight 200": {"DIVERGENCE": "l2", "WEIGHT": 200.0},
        "l1, weight 5": {"DIVERGENCE": "l1", "WEIGHT": 5.0},
        "l1, weight 20": {"DIVERGENCE": "l1", "WEIGHT": 20.0},
    },
    "sampling": {
        "32 classes a step": {"SAMPLE_SIZE": 32},
        "64": {"SAMPLE_SIZE": 64},
        "all": {"SAMPLE_SIZE": 0},
    },
}
"""Study -> name of a setting -> what it changes; rows of the table, in printing order."""


# A weight at which the gradient at CoOp's context is about as large as that of kl at weight 1:
# measured on demo_objects, half-way and at the end of CoOp's training, and rounded.
_UNITS = {
    "kl": 1.0,
    "l1": 10.0,
    "l2": 50.0,
    "cross": 2.0,
    "hinge": 20.0,
    "rank": 4.0,
    "fda": 1.0,
    "cov": 6.0,
    "hsic": 2.0,
    "hsic_apart": 0.5,  # without a lowest value where the prompts would be of any use: less of it
    "anchor": 2.0,
}


def _with(divergence: str, factor: float, **more: object) -> Change:
    """`divergence` at `factor` times its unit of weight."""
    change: Change = {} if divergence == "kl" else {"DIVERGENCE": divergence}
    if divergence == "hinge":
        change["TEMPLATE"] = "imagenet"
    return {**change, "WEIGHT": factor * _UNITS[divergence], **more}


# Factors of that unit that are compared.
_FACTORS: dict[str, tuple[float, ...]] = {
    **dict.fromkeys(_UNITS, (0.25, 1, 4)),
    "cross": (1, 4),
    "hsic": (1, 4),
    "hsic_apart": (0.25, 1),
    "cov": (1,),
    "anchor": (1,),
}

COMPARISONS: dict[str, dict[str, Change]] = {
    "regularizer": {
        f"{divergence}, weight {factor * unit:g}": _with(divergence, factor)
        for divergence, unit in _UNITS.items()
        for factor in _FACTORS[divergence]
    }
    | {  # as KgCoOp has it
        f"anchor of base classes, weight {weight}": _with("anchor", weight / 2, NOVEL="none")
        for weight in (0.5, 2, 8)
    },
    "pairs": {
        f"{divergence} of {pairs} pairs, weight {factor * _UNITS[divergence]:g}": {
            **_with(divergence, factor),
            **({"PAIRS": pairs} if pairs != "all" else {}),
        }
        for divergence, factor in (("kl", 1), ("kl", 4), ("l2", 1))
        for pairs in ("all", "base-novel")
    },
    "teacher": {
        "the dataset's template": _DEFAULT,
        "60 templates": {"TEMPLATE": "imagenet"},
        "descriptions": {"TEMPLATE": "descriptions"},
        "a sentence encoder": {"TEACHER": "sentences"},
        "the template, base classes alone": {"NOVEL": "none"},
        "images, base classes alone": {"TEACHER": "images", "NOVEL": "none"},
    },
    "control": {  # one more is anchor, among the regularizers
        "text": _DEFAULT,
        "shuffled": {"TEACHER": "shuffled"},
        "constant": {"TEACHER": "constant"},
    },
    "names": {
        "none": {"NOVEL": "none"},
        "150 random words": {"NOVEL": "words:150"},
        "150 mixtures": {"NOVEL": "mix:150"},
        "shipped": _DEFAULT,
        "shipped, without overlap": {"DROP_OVERLAP": True},
        f"{ORACLE} ({LEAK})": {"NOVEL": ORACLE},
    },
    "rule": {"kl, automatic weight": _with("kl", 1, WEIGHT_RULE="auto")},
}
"""Studies for docs/regularizers.md, which only run if they are asked for by name."""
KNOWN = {**STUDIES, **COMPARISONS}
