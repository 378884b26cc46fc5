"""TRAINER.SAR: defaults, and a message for every kind of wrong value."""

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yacs.config import CfgNode

from sar.config import add_sar_config, validate
from sar.errors import ConfigError
from sar.toolbox.config.merge import merge_known


def config(**values: Any) -> CfgNode:
    cfg = CfgNode({"TRAINER": CfgNode()})
    add_sar_config(cfg)
    for key, value in values.items():
        cfg.TRAINER.SAR[key] = value
    return cfg


def test_defaults_are_valid_and_adding_twice_keeps_values() -> None:
    cfg = config()
    validate(cfg.TRAINER.SAR)
    cfg.merge_from_list(["TRAINER.SAR.WEIGHT", 2.0])
    add_sar_config(cfg)
    assert cfg.TRAINER.SAR.WEIGHT == 2.0


def test_defaults_are_those_of_the_readmes_table() -> None:
    readme = Path(__file__).parents[1].joinpath("README.md").read_text("utf-8")
    (table,) = re.findall(r"\| key \| default \|.*\n\|.*\n((?:\|.*\n)+)", readme)
    rows = [[cell.strip(" `") for cell in row.split("|")[1:3]] for row in table.splitlines()]
    defaults = {key: str(value) for key, value in config().TRAINER.SAR.items()}
    assert {key: value.strip('"') for key, value in rows} == defaults


def test_every_accepted_form(tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.touch()
    embeddings = tmp_path / "embeddings.safetensors"
    embeddings.touch()
    templates = tmp_path / "templates.txt"
    templates.write_text("a photo of a {}.\na drawing of a {}.\n")
    forms: list[dict[str, Any]] = [
        {"WEIGHT": 0},
        {"WEIGHT": 0.5, "DIVERGENCE": "l1"},
        {"TEMPERATURE": 1, "DIVERGENCE": "l2"},
        {"SAMPLE_SIZE": 0},
        {"SAMPLE_SIZE": 2, "DIVERGENCE": "l1"},
        {"SAMPLE_SIZE": 3},
        {"DIVERGENCE": "fda", "NEIGHBOURS": 10, "PAIRS": "base-novel"},
        {"DIVERGENCE": "hinge", "TEMPLATE": "imagenet", "TOLERANCE": 0, "SAMPLE_SIZE": 2},
        {"DIVERGENCE": "hsic_apart", "NOVEL": "none"},
        {"TEMPLATE": "{} texture."},
        {"TEMPLATE": "imagenet"},
        {"TEMPLATE": str(templates)},
        {"NOVEL": "none"},
        {"NOVEL": "oracle"},
        {"NOVEL": "words:50"},
        {"NOVEL": "mix:50", "WEIGHT_RULE": "auto"},
        *({"TEACHER": teacher} for teacher in ("sentences", "shuffled", "constant")),
        {"TEACHER": "images", "NOVEL": "none", "DIVERGENCE": "anchor"},
        {"TEACHER": "shuffled", "DIVERGENCE": "hinge", "TEMPLATE": "imagenet"},
        {"TEACHER": str(embeddings)},
        {"NOVEL": str(names)},
        {"NOVEL": "words:5", "DROP_OVERLAP": True},
    ]
    for values in forms:
        validate(config(**values).TRAINER.SAR)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("WEIGHT", -1.0),
        ("WEIGHT", float("nan")),
        ("WEIGHT", "4"),
        ("WEIGHT", True),
        ("WEIGHT_RULE", "dual"),
        ("WEIGHT_RULE", None),
        ("BOUND", 0.0),
        ("BOUND", "1"),
        ("DIVERGENCE", "KL"),
        ("DIVERGENCE", None),
        ("TEMPERATURE", 0.0),
        ("TEMPERATURE", float("inf")),
        ("NEIGHBOURS", 0),
        ("NEIGHBOURS", 5.0),
        ("TOLERANCE", -1.0),
        ("TOLERANCE", float("nan")),
        ("PAIRS", "novel"),
        ("PAIRS", None),
        ("SAMPLE_SIZE", 1),
        ("SAMPLE_SIZE", 2),  # of two classes kl is zero, whatever their similarity
        ("SAMPLE_SIZE", -2),
        ("SAMPLE_SIZE", 64.0),
        ("TEMPLATE", "a photo"),
        ("TEMPLATE", "{} or {}"),
        ("TEMPLATE", "{name}"),
        ("TEMPLATE", "no/such/file.txt"),
        ("TEMPLATE", None),
        ("TEACHER", "picture"),
        ("TEACHER", "no/such/file.safetensors"),
        ("TEACHER", None),
        ("NOVEL", "mix:0"),
        ("NOVEL", "words:0"),
        ("NOVEL", "words:many"),
        ("NOVEL", "no/such/file.json"),
        ("NOVEL", ""),
        ("NOVEL", None),
        ("DROP_OVERLAP", "yes"),
        ("DROP_OVERLAP", 1),
    ],
)
def test_wrong_values_are_named(key: str, value: Any) -> None:
    with pytest.raises(ConfigError) as error:
        validate(config(**{key: value}).TRAINER.SAR)
    message = str(error.value)
    assert message.startswith(f"TRAINER.SAR.{key} is {value!r}; expected ")
    assert "\n" not in message


def test_a_key_without_a_value() -> None:
    """None is a value where a host has it as a default (LASP's PRETRAINED_PROMPTS_DIR)."""
    cfg = CfgNode({"TRAINER": {"PROMPTS": None, "LR": 0.1}})
    merge_known(cfg, {"TRAINER": {"PROMPTS": None, "LR": 0.2}})
    assert (cfg.TRAINER.PROMPTS, cfg.TRAINER.LR) == (None, 0.2)
    merge_known(cfg, {"TRAINER": {"PROMPTS": "folder"}})
    assert cfg.TRAINER.PROMPTS == "folder"
    with pytest.raises(ConfigError, match=r"TRAINER\.LR in the earlier run has no value"):
        merge_known(cfg, {"TRAINER": {"LR": None}})


def test_unknown_and_missing_keys_are_named() -> None:
    with pytest.raises(ConfigError, match=r"TRAINER\.SAR\.LAMBDA is not a key.*WEIGHT"):
        validate(config(LAMBDA=1.0).TRAINER.SAR)
    cfg = config()
    del cfg.TRAINER.SAR["NOVEL"]
    with pytest.raises(ConfigError, match=r"TRAINER\.SAR\.NOVEL is missing"):
        validate(cfg.TRAINER.SAR)


@given(st.floats())
def test_weights_are_accepted_iff_finite_and_not_negative(weight: float) -> None:
    sar = config(WEIGHT=weight).TRAINER.SAR
    if 0 <= weight < float("inf"):
        validate(sar)
    else:
        with pytest.raises(ConfigError, match="WEIGHT"):
            validate(sar)
