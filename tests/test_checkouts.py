"""The published checkouts: SAR_FAST_TEXT in all five methods, and a user's own shell script."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hosts_at_hand import HOSTS, needs_checkouts
from synthetic_checkout import ROOT, make_environment, python
from toolbox_mini import write_images

from sar.toolbox.clip import CLIP, set_precision

pytestmark = needs_checkouts
SMALL = ["INPUT.SIZE", "(32,32)", "DATALOADER.NUM_WORKERS", "0", "DATASET.NUM_SHOTS", "2"]
SMALL += ["DATALOADER.TRAIN_X.BATCH_SIZE", "2", "DATALOADER.TEST.BATCH_SIZE", "3"]
SMALL += ["USE_CUDA", "False", "TRAINER.SAR.NOVEL", "words:5", "DATASET.SUBSAMPLE_CLASSES", "base"]
METHODS = {
    "CoOp": ("CoOp", "vit_b16_ctxv1", ("TRAINER.COOP.PREC", "fp32")),
    "CoCoOp": ("CoOp", "vit_b16_c4_ep10_batch1_ctxv1", ("TRAINER.COCOOP.PREC", "fp32")),
    "KgCoOp": ("KgCoOp/KgCoOp", "vit_b16_ep100_ctxv1", ("TRAINER.COOP.PREC", "fp32")),
    "MaPLe": (
        "multimodal-prompt-learning",
        "vit_b16_c2_ep5_batch4_2ctx",
        ("TRAINER.MAPLE.PROMPT_DEPTH", "3"),
    ),
    "PromptSRC": (
        "PromptSRC",
        "vit_b16_c2_ep20_batch4_4+4ctx",
        ("TRAINER.PROMPTSRC.PROMPT_DEPTH_VISION", "3", "TRAINER.PROMPTSRC.PROMPT_DEPTH_TEXT", "2"),
    ),
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures in OxfordPets' layout, and a CLIP of 3 layers."""
    root = tmp_path_factory.mktemp("world")
    write_images(root)
    torch.manual_seed(0)
    clip = CLIP(512, 32, 3, 768, 8, 77, 49408, 512, 8, 3)  # MaPLe works with these widths only
    set_precision(clip, "fp16")
    torch.save(clip.state_dict(), root / "clip.pt")
    return root


@pytest.mark.parametrize("method", METHODS)
def test_fast_text_is_exact(method: str, world: Path) -> None:
    checkout, config, options = METHODS[method]
    if not Path(HOSTS, checkout).is_dir():
        pytest.skip(f"{HOSTS} has no checkout {checkout}")
    record = world / f"{method}.json"
    arguments = ["--root", str(world), "--trainer", method, "--output-dir", str(world / method)]
    arguments += ["--config-file", f"configs/trainers/{method}/{config}.yaml"]
    arguments += ["--dataset-config-file", "configs/datasets/oxford_pets.yaml"]
    options += ("MODEL.BACKBONE.NAME", str(world / "clip.pt"))
    script = Path(__file__).parent / "hosts" / "fast_text_run.py"
    done = subprocess.run(
        [sys.executable, str(script), str(record), *arguments, *SMALL, *options],
        cwd=Path(HOSTS, checkout),
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for name, measured in json.loads(record.read_text()).items():
        print(name, measured)
        assert measured["features"] < 1e-5
        assert measured["logits"] < 1e-5
        assert max(measured["gradients"].values()) < 1e-5
        assert max(measured["losses"].values()) < 1e-5
        assert len(set(measured["accuracies"])) == 1
        assert measured["shared"] >= 3
        # One for the training step, one for the test; for each image in CoCoOp.
        each = measured["images"] + measured["test images"]
        assert measured["encodings"] == (each if method == "CoCoOp" else 2)
        assert ("loss_sar" in measured["losses"]) == name.startswith("SAR_")


MINI = """
DATALOADER: {{TRAIN_X: {{BATCH_SIZE: 4}}, TEST: {{BATCH_SIZE: 10}}, NUM_WORKERS: 2}}
INPUT:
  SIZE: (32, 32)
  TRANSFORMS: [random_resized_crop, random_flip, normalize]
OPTIM: {{NAME: sgd, LR: 0.002, MAX_EPOCH: 2, LR_SCHEDULER: cosine}}
MODEL: {{BACKBONE: {{NAME: {clip}}}}}
TRAINER: {{SAR: {{NOVEL: "words:5"}}}}
"""


def test_a_users_script(world: Path, tmp_path: Path) -> None:
    """CoOp's scripts/coop/main.sh with its trainer changed, then its parser; not one file more."""
    checkout = tmp_path / "CoOp"
    subprocess.run(["git", "clone", "-q", f"{HOSTS}/CoOp", str(checkout)], check=True)
    interpreter = make_environment(tmp_path / "venv")
    enable = ("-m", "sar", "host", "enable")
    python(interpreter, *enable, cwd=Path("/"), PYTHONPATH=str(ROOT)).check_returncode()
    # What a user edits, and a configuration small enough for a test.
    script = checkout / "scripts" / "coop" / "main.sh"
    text = script.read_text().replace("/path/to/datasets", str(world))
    script.write_text(text.replace("TRAINER=CoOp", "TRAINER=SAR_CoOp"))
    mini = checkout / "configs" / "trainers" / "CoOp" / "mini.yaml"
    mini.write_text(MINI.format(clip=world / "clip.pt"))

    def call(*command: str) -> str:
        path = f"{interpreter.parent}:{os.environ['PATH']}"
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"PATH": path}
        done = subprocess.run(
            command, cwd=checkout, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    log = call("bash", "scripts/coop/main.sh", "oxford_pets", "mini", "end", "4", "2", "False")
    assert log.count("--config-file is configs/trainers/CoOp/mini.yaml") == 3
    assert log.count("5 novel ones") == 3
    assert "loss_sar" in log
    results = "output/oxford_pets/SAR_CoOp/mini_2shots/nctx4_cscFalse_ctpend"
    assert "* accuracy: " in call("python", "parse_test_res.py", results)
    changed = call("git", "status", "--short").splitlines()
    assert changed == [" M scripts/coop/main.sh", "?? configs/trainers/CoOp/mini.yaml"]
