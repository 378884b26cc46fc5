"""The script that trains the pocket CLIP: restartable, and exported without change of features."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from sar.toolbox.clip.pocket import SHAPE, build_pocket, load_pocket

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "tools" / "pocket" / "train.py"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A world of 8 names with two random drawings each, and a name that has none; 4 in the pool."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "world"
    folder.mkdir()
    np.save(folder / "pixels.npy", rng.integers(0, 256, (21, 48, 48, 4), dtype=np.uint8))
    names = [f"thing {n}" for n in range(9)]
    row = {"set": "a", "icon": "x", "style": "line"}
    world = {
        "names": names,
        "aliases": [["item"]] * 9,
        "categories": [["toys"]] * 5 + [["tools"]] * 4,
        "rows": [{**row, "concept": n % 8, "role": "pretrain"} for n in range(16)]
        + [{**row, "concept": 8, "role": "name"}]
        + [{**row, "concept": n, "role": "pool"} for n in range(4)],
        "datasets": {"DemoOne": [names[:2]], "DemoTwo": [names[1:3], names[3:4]]},
        "sets": {"a": ["A", "someone", "", "MIT", "1", False]},
    }
    (folder / "world.json").write_text(json.dumps(world))
    return folder


def command(data: Path, output: Path, save_every: int = 2) -> list[str]:
    steps = ("--steps", "6", "3", "3", "--batch", "4", "--save-every", str(save_every))
    return [sys.executable, str(SCRIPT), "--data", str(data), "--output", str(output), *steps]


def test_killed_run_continues_to_the_same_weights(data: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    whole, resumed = tmp_path / "whole.safetensors", tmp_path / "resumed.safetensors"
    state = data / "state.pt"

    process = subprocess.Popen(command(data, resumed), env=environment)
    while not state.exists() and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert state.exists()
    subprocess.run(command(data, resumed), env=environment, check=True)
    state.unlink()
    subprocess.run(command(data, whole), env=environment, check=True)

    expected, found = load_file(whole), load_file(resumed)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_the_scale_of_answers_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Targets drawn at a known scale are most likely near it, whatever the number of classes."""
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    import scale

    generator = torch.Generator().manual_seed(0)
    answers = []
    for classes in (3, 20):
        cosines = 0.2 * torch.randn(20_000, classes, generator=generator)
        target = torch.multinomial((12 * cosines).softmax(1), 1, generator=generator)[:, 0]
        answers.append((cosines, target))
    assert scale.fitted_scale(answers) == pytest.approx(12, rel=0.02)


@pytest.mark.slow
def test_what_is_shipped_recognizes_what_it_never_saw(monkeypatch: pytest.MonkeyPatch) -> None:
    """60 % over the classes of a dataset was the aim; the scale is near the likeliest."""
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    import recognition
    import scale

    model = load_pocket()
    for part, said in (("test", 64.1), ("pool", 63.3)):
        answers = recognition.shipped_answers(model, part)
        mean = recognition.mean_accuracy(answers)
        assert mean >= 60
        assert mean == pytest.approx(said, abs=0.15)
    stored = model.logit_scale.exp().item()
    assert scale.fitted_scale(answers.values()) == pytest.approx(stored, rel=0.1)


def test_folded_norms_give_the_same_features(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    import export

    torch.manual_seed(0)
    trained = build_pocket(nn.BatchNorm2d)
    for module in trained.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            nn.init.normal_(module.weight, 1, 0.2)
            nn.init.normal_(module.bias)
    plain = build_pocket()
    plain.load_state_dict(export.fold_norms(trained))
    image = torch.randn(2, 3, SHAPE["image_resolution"], SHAPE["image_resolution"])
    torch.testing.assert_close(
        plain.encode_image(image), trained.eval().encode_image(image), rtol=1e-4, atol=1e-5
    )
