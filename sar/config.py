"""The ``TRAINER.SAR`` node of the configuration: keys, defaults, validation."""

import math
import os
from typing import Any

from yacs.config import CfgNode

from sar.alignment import DIVERGENCES
from sar.classes.descriptions import SHIPPED, load_descriptions
from sar.classes.novel_names import ORACLE, drawn
from sar.classes.templates import SOURCES, descriptions_in, templates_from
from sar.divergence import MEASURES, Divergence
from sar.errors import ConfigError
from sar.storage.files import expanded
from sar.teacher import IMAGES, SENTENCES, SHUFFLED, SUFFIX, TEACHERS, TEXT
from sar.weight import RULES

PAIRS = ("all", "base-novel")


def add_sar_config(cfg: CfgNode) -> None:
    """Adds ``cfg.TRAINER.SAR`` with the defaults, unless it is already there.

    The loss is a reconstruction (see `sar.alignment`), so are its settings.
    """
    if "SAR" in cfg.TRAINER:
        return
    sar = cfg.TRAINER.SAR = CfgNode()
    # Factor of the alignment loss beside the host's own loss. Number >= 0; 0 trains exactly as the
    # base trainer does. Default: ablation on the demo data.
    sar.WEIGHT = 1.0
    # "fixed", or "auto": WEIGHT is where it starts, and the factor follows from a bound: L_SAR <=
    # BOUND times the divergence of single templates from the teacher (`sar.weight`).
    sar.WEIGHT_RULE = "fixed"
    # Of rule "auto". Number > 0. Default: what "kl" has with weights 1 to 2 on demo_objects.
    sar.BOUND = 0.05
    # How learned features are compared with the teacher's: "kl" (row-wise softmax), "l1" or "l2"
    # (entries) of the two similarity matrices, or another measure of `sar.divergence`. Default:
    # ablation on the demo data.
    sar.DIVERGENCE = "kl"
    # Temperature of "kl", "cross" and "fda", in units of cosine similarity. Number > 0; not used by
    # the others. Default: ablation on the demo data.
    sar.TEMPERATURE = 0.1
    # "fda": how many of the teacher's nearest classes are a class's neighbours. Integer >= 1.
    sar.NEIGHBOURS = 5
    # "hinge": how many standard deviations over the templates a similarity may be from their mean.
    # Number >= 0.
    sar.TOLERANCE = 1.0
    # Which similarities are compared: "all", or "base-novel", those of a base and a novel class.
    sar.PAIRS = "all"
    # Random embedding sampling: number of classes, base and novel together, drawn anew every step.
    # Integer >= 3 (some measures: >= 2), or 0 for all classes. Default: ablation on the demo data.
    sar.SAMPLE_SIZE = 128
    # Hand-crafted prompt of the frozen reference, with one "{}" for the class name. "" means the
    # dataset's own; "imagenet" (60 of CLIP's templates) or the path of a .txt or .json file with
    # several templates mean the average of their embeddings (`sar.classes.templates`).
    # "descriptions" or "descriptions:FILE": the average over each class's descriptions, shipped or
    # in a file (`sar.classes.descriptions`); novel names without any are left out.
    sar.TEMPLATE = ""
    # Whose similarities are kept: "text" (of TEMPLATE's prompts), "images" (means of the training
    # images; base classes only), "sentences" (a sentence encoder's of the bare names, shipped for
    # the demo datasets) or a .safetensors file of tools/sentences.py; as controls, "shuffled"
    # (text's, each class with another's) and "constant" (all alike). See `sar.teacher`.
    sar.TEACHER = "text"
    # Novel class names that stand in for unseen classes: "shipped" (the list made for the data
    # set; for one's own pictures the names under novel in their classes.yaml), "none" (base classes
    # only), "words:N" (N random English nouns), "mix:N" (N mixtures of two base classes' token
    # embeddings, `sar.mixing`) or the path of a .json, .txt or .csv file
    # (`sar.classes.novel_names`). "oracle": the true new classes, which no result may know: an
    # upper bound.
    sar.NOVEL = "shipped"
    # Control experiment: remove the novel names that are or may be a new class (exact, normalized
    # or near, see `sar.classes.overlap`). Boolean. By default they are reported only.
    sar.DROP_OVERLAP = False


def validate(sar: CfgNode) -> None:
    """Checks ``cfg.TRAINER.SAR``.

    Raises `ConfigError` naming the first wrong key and its value, `DataError` for a file that is
    named as templates and has others.
    """
    _check_keys(sar)
    for key, fits, expected in (
        ("WEIGHT", _is_number(sar.WEIGHT) and sar.WEIGHT >= 0, "a finite number >= 0"),
        ("WEIGHT_RULE", sar.WEIGHT_RULE in RULES, f"one of {', '.join(RULES)}"),
        ("BOUND", _is_number(sar.BOUND) and sar.BOUND > 0, "a finite number > 0"),
        ("DIVERGENCE", sar.DIVERGENCE in DIVERGENCES, f"one of {', '.join(DIVERGENCES)}"),
        ("TEMPERATURE", _is_number(sar.TEMPERATURE) and sar.TEMPERATURE > 0, "a finite number > 0"),
        ("NEIGHBOURS", type(sar.NEIGHBOURS) is int and sar.NEIGHBOURS >= 1, "an integer >= 1"),
        ("TOLERANCE", _is_number(sar.TOLERANCE) and sar.TOLERANCE >= 0, "a finite number >= 0"),
        ("TEMPLATE", isinstance(sar.TEMPLATE, str), SOURCES),
        ("DROP_OVERLAP", type(sar.DROP_OVERLAP) is bool, "True or False"),
    ):
        if not fits:
            raise _wrong(sar, key, expected)
    measure = MEASURES[sar.DIVERGENCE]
    if sar.PAIRS not in (pairs := PAIRS[:1] if measure.features else PAIRS):
        raise _wrong(sar, "PAIRS", f"{' or '.join(pairs)} for {sar.DIVERGENCE}")
    size, least = sar.SAMPLE_SIZE, measure.least
    if type(size) is not int or size < 0 or 0 < size < least:
        raise _wrong(
            sar, "SAMPLE_SIZE", f"an integer >= {least} for {sar.DIVERGENCE}, or 0 for all classes"
        )
    _check_template(sar, measure)
    _check_teacher(sar, measure)
    _check_novel(sar)


def _check_keys(sar: CfgNode) -> None:
    defaults = CfgNode({"TRAINER": CfgNode()})
    add_sar_config(defaults)
    for key in sorted(set(sar) | set(defaults.TRAINER.SAR)):
        if key not in defaults.TRAINER.SAR:
            known = ", ".join(sorted(defaults.TRAINER.SAR))
            raise ConfigError(f"TRAINER.SAR.{key} is not a key. The keys are {known}.")
        if key not in sar:
            raise ConfigError(f"TRAINER.SAR.{key} is missing. Call sar.config.add_sar_config(cfg).")


def _check_template(sar: CfgNode, measure: Divergence) -> None:
    described = descriptions_in(sar.TEMPLATE)
    templates = [] if described else templates_from(sar.TEMPLATE)
    if len(templates) < 2 and measure.band:
        raise _wrong(sar, "TEMPLATE", f"several templates for {sar.DIVERGENCE}, such as imagenet")
    if described and described != SHIPPED:
        load_descriptions(described, "")


def _check_teacher(sar: CfgNode, measure: Divergence) -> None:
    allowed = list(TEACHERS)
    if measure.band:  # several templates make it
        allowed = [TEXT, SHUFFLED]
    elif measure.one_space:
        allowed = [TEXT, IMAGES, SHUFFLED]
    fits = sar.TEACHER in allowed or (
        SENTENCES in allowed
        and isinstance(sar.TEACHER, str)
        and sar.TEACHER.endswith(SUFFIX)
        and os.path.isfile(expanded(sar.TEACHER))
    )
    if not fits:
        file = f" or an existing {SUFFIX} file" if SENTENCES in allowed else ""
        raise _wrong(sar, "TEACHER", f"one of {', '.join(allowed)}{file} for {sar.DIVERGENCE}")
    if sar.TEACHER == IMAGES and sar.NOVEL != "none":
        raise _wrong(sar, "NOVEL", f"none for TEACHER {IMAGES}, since novel classes have no images")


def _check_novel(sar: CfgNode) -> None:
    if not isinstance(sar.NOVEL, str) or not _is_novel(sar.NOVEL):
        raise _wrong(
            sar,
            "NOVEL",
            '"shipped", "none", "oracle", "words:N" or "mix:N" with N >= 1, or an existing file',
        )
    if PAIRS[0] != sar.PAIRS and sar.NOVEL == "none":
        raise _wrong(sar, "NOVEL", f"novel names for PAIRS {sar.PAIRS}")
    if sar.DROP_OVERLAP and sar.NOVEL == ORACLE:
        raise _wrong(sar, "DROP_OVERLAP", f"False with NOVEL {ORACLE}, all of which overlaps")


def _wrong(sar: CfgNode, key: str, expected: str) -> ConfigError:
    return ConfigError(f"TRAINER.SAR.{key} is {sar[key]!r}; expected {expected}.")


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _is_novel(source: str) -> bool:
    if source in ("shipped", "none", ORACLE) or drawn(source):
        return True
    return os.path.isfile(expanded(source))
