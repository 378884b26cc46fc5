"""The embedded trainers against the golden records of the published ones; no checkout needed."""

import json
import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import PIL
import pytest
from golden_run import GOLDEN, METHODS, options, record, write_world

from sar.config import add_sar_config
from sar.host import register
from sar.toolbox.engine import build_trainer
from sar.toolbox.registered import register_builtin
from sar.toolbox.run_arguments import parse_arguments
from sar.toolbox.train import setup_cfg
from sar.toolbox.utils import set_random_seed

RUNS = [f"{sar}{method}" for method in METHODS for sar in ("", "SAR_")]
TOLERANCE = 1e-5
NOISE = 1e-6  # of fp32, in losses as small as L_SAR near its minimum
# PromptSRC's deep prompts begin as other random numbers than published.
OWN_DRAWS = "VPT"


def test_there_is_a_record_of_every_method() -> None:
    assert {file.stem for file in GOLDEN.glob("*.json")} == set(METHODS)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Callable[[bool], Path]:
    """By whether the CLIP is wide."""

    @cache
    def written(wide: bool) -> Path:
        root = tmp_path_factory.mktemp("world")
        write_world(root, wide)
        return root

    return written


@pytest.mark.parametrize("run", RUNS)
def test_same_numbers_as_the_published_trainer(
    world: Callable[[bool], Path], run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAR_TRAINING_FEATURES", "0")  # the record is of pictures, too
    method = run.removeprefix("SAR_")
    expected = json.loads((GOLDEN / f"{method}.json").read_text())[run]
    root = world(METHODS[method].wide)
    argv = options(root, root / run, run)
    register_builtin()
    register()
    cfg = setup_cfg(parse_arguments(argv), add_sar_config)
    set_random_seed(cfg.SEED)
    found = record(build_trainer(cfg))
    older = int(PIL.__version__.partition(".")[0]) < 13
    if older and not _close(found["pixels"], expected["pixels"]):
        pytest.skip(
            f"Pillow {PIL.__version__} resizes otherwise than the 13 that the records were made "
            "with, so that the pictures are others; with Pillow 13 or later this is compared"
        )

    drawn = {k: v for k, v in expected["initial"].items() if OWN_DRAWS not in k}
    assert found["initial"].keys() == expected["initial"].keys()
    found["initial"], expected["initial"] = {k: found["initial"][k] for k in drawn}, drawn
    assert_close(found, expected)


def _close(found: list[float], expected: list[float]) -> bool:
    return math.dist(found, expected) <= TOLERANCE * math.hypot(*expected)


def assert_close(found: Any, expected: Any, where: str = "record") -> None:
    """Equal in everything but numbers, which differ by 1e-5 of the list they stand in at most."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys(), where
        for key, value in expected.items():
            assert_close(found[key], value, f"{where}, {key}")
    elif isinstance(expected, list) and not all(isinstance(item, float) for item in expected):
        assert len(found) == len(expected), where
        for i, pair in enumerate(zip(found, expected, strict=True)):
            assert_close(*pair, f"{where}, {i}")
    elif isinstance(expected, list):
        assert _close(found, expected), where
    elif isinstance(expected, float):
        noise = 0 if where.endswith("rate") else NOISE
        assert found == pytest.approx(expected, rel=TOLERANCE, abs=noise), where
    else:
        assert found == expected, where
