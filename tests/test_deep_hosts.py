"""The embedded MaPLe and PromptSRC against the published ones, plain and with SAR on either."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from deep_host_run import learnable, record
from hosts_at_hand import HOSTS, needs_dassl
from toolbox_mini import CONFIG, arguments, make_cfg, write_images

from sar.config import add_sar_config
from sar.errors import WeightsError
from sar.host import register
from sar.toolbox.clip import CLIP, set_precision
from sar.toolbox.engine import build_trainer
from sar.toolbox.run_arguments import parse_arguments
from sar.toolbox.train import setup_cfg
from sar.toolbox.utils import load_checkpoint, set_random_seed

pytestmark = needs_dassl
CHECKOUTS = {"MaPLe": "multimodal-prompt-learning", "PromptSRC": "PromptSRC"}
NOVEL = ("siamese", "ragdoll", "dachshund", "maine coon", "shih tzu", "saint bernard")
OPTIONS = {
    "MaPLe": ("TRAINER.MAPLE.PREC", "fp32", "TRAINER.MAPLE.PROMPT_DEPTH", "3"),
    "PromptSRC": (
        *("TRAINER.PROMPTSRC.PREC", "fp32", "TRAINER.PROMPTSRC.PROMPT_DEPTH_VISION", "3"),
        *("TRAINER.PROMPTSRC.PROMPT_DEPTH_TEXT", "2", "TRAINER.PROMPTSRC.GPA_MEAN", "3"),
    ),
}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("deep")
    write_images(root)
    torch.manual_seed(0)
    # The published MaPLe works with these widths only.
    clip = CLIP(512, 32, 3, 768, 8, 77, 49408, 512, 8, 3)
    set_precision(clip, "fp16")
    torch.save(clip.state_dict(), root / "clip.pt")
    common = CONFIG.partition("TRAINER:")[0].replace("LR: 0.02", "LR: 0.0035")
    (root / "mini.yaml").write_text(
        f"{common}\nMODEL: {{BACKBONE: {{NAME: {root / 'clip.pt'}}}}}\n"
    )
    (root / "novel.txt").write_text("\n".join(NOVEL))
    return root


def runs_of(world: Path, base: str) -> list[list[str]]:
    """Arguments of X and SAR_X."""
    sar = ["TRAINER.SAR.NOVEL", str(world / "novel.txt"), "TRAINER.SAR.SAMPLE_SIZE", "8"]
    sar += ["TRAINER.SAR.TEMPLATE", "a photo of a {}."]
    return [
        [*arguments(world, world / f"out_{base}_{i}", trainer=trainer), *OPTIONS[base], *options]
        for i, (trainer, options) in enumerate(
            (
                (base, ()),
                (f"SAR_{base}", (*sar, "TRAINER.SAR.WEIGHT", "3.0")),
            )
        )
    ]


@pytest.fixture(scope="module", params=CHECKOUTS)
def published(request, world):
    base = request.param
    argv = [word for run in runs_of(world, base) for word in (*run, "--next")][:-1]
    argv = ["OxfordPets" if word == "MiniPets" else word for word in argv]
    argv = [word.replace("/out_", "/host_") for word in argv]
    # The checkouts refuse fp32; deep_host_run has them compute in it all the same.
    argv = ["fp16" if word == "fp32" else word for word in argv]
    script = Path(__file__).parent / "support" / "deep_host_run.py"
    target = world / f"{base}.pt"
    command = [sys.executable, str(script), HOSTS, CHECKOUTS[base], str(target), *argv]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return base, torch.load(target, weights_only=True)


@pytest.mark.parametrize("aligned", [False, True], ids=["plain", "SAR"])
def test_same_run_as_the_published_trainer(world, published, aligned):
    base, runs = published
    theirs = runs[aligned]
    args = parse_arguments(runs_of(world, base)[aligned])
    make_cfg(arguments(world, world / "unused"))  # registers the toolbox's own trainers
    register()
    cfg = setup_cfg(args, add_sar_config)
    set_random_seed(cfg.SEED)
    trainer = build_trainer(cfg)
    if base == "MaPLe":  # the same random numbers in the same order; PromptSRC's differ
        assert all(torch.equal(theirs["initial"][n], p) for n, p in learnable(trainer).items())
    with torch.no_grad():
        for name, parameter in learnable(trainer).items():
            parameter.copy_(theirs["initial"][name])
    trainer.train_loader_x = Recorded(theirs["steps"], epochs=5)
    ours = record(trainer)

    figures = compare(ours, theirs)
    print(f"\n{base}{' with SAR' if aligned else ''}: {figures}")
    assert ours["final"].keys() == theirs["final"].keys()
    assert ours["optimizer"] == theirs["optimizer"]
    assert len(theirs["steps"]) == 20
    assert all(
        not torch.equal(theirs["final"][name], initial)
        for name, initial in theirs["initial"].items()
    )
    for name in ("logits", "loss", "gradients"):
        assert figures[name] < 1e-5, name
    assert figures["weights"] < 1e-4
    assert ours["accuracy"] == pytest.approx(theirs["accuracy"])
    saved = str(world / f"host_{base}_{int(aligned)}")
    trainer.load_model(saved, epoch=5)
    assert all(torch.equal(theirs["final"][n], p) for n, p in learnable(trainer).items())
    keys = load_checkpoint(Path(saved, trainer.registered, "model.pth.tar-5"))["state_dict"].keys()
    assert keys == trainer.model.state_dict().keys()  # so that theirs loads ours
    if base == "PromptSRC":
        assert relative(ours["teacher"], theirs["teacher"]) < 1e-5


def test_resuming_a_published_run(world, published):
    """MaPLe's goes on. PromptSRC's optimizer holds a second frozen image encoder, which is ours."""
    base, runs = published
    make_cfg(arguments(world, world / "unused"))
    register()
    argv = [word.replace("/out_", "/host_") for word in runs_of(world, base)[0]]
    argv += ["OPTIM.MAX_EPOCH", "6"]
    trainer = build_trainer(setup_cfg(parse_arguments(argv), add_sar_config))
    if base == "PromptSRC":
        with pytest.raises(WeightsError, match=r"MODEL\.INIT_WEIGHTS"):
            trainer.train()
        return
    trainer.before_train()
    assert trainer.start_epoch == 5
    assert all(torch.equal(runs[0]["final"][n], p) for n, p in learnable(trainer).items())


class Recorded:
    """The batches of a recorded run, epoch by epoch."""

    def __init__(self, steps: list[dict], epochs: int) -> None:
        self.steps, self.length = list(steps), len(steps) // epochs

    def __len__(self) -> int:
        return self.length

    def __iter__(self):
        epoch, self.steps = self.steps[: self.length], self.steps[self.length :]
        return iter(epoch)


def compare(ours: dict, theirs: dict) -> dict[str, float]:
    """Greatest differences: at the first step and, of weights, at the end."""
    own, their = ours["steps"][0], theirs["steps"][0]
    assert own["grads"].keys() == their["grads"].keys() == theirs["initial"].keys()
    sar = abs(own["summary"].get("loss_sar", 1) / their["summary"].get("loss_sar", 1) - 1)
    final = theirs["final"]
    return {
        "logits": relative(ours["initial_logits"], theirs["initial_logits"]),
        "loss": max(abs(own["summary"]["loss"] / their["summary"]["loss"] - 1), sar),
        "gradients": max(relative(own["grads"][n], g) for n, g in their["grads"].items()),
        "weights": max(greatest(ours["final"][n] - w) for n, w in final.items()),
        "moved": max(greatest(theirs["initial"][n] - w) for n, w in final.items()),
        "final logits": relative(ours["final_logits"], theirs["final_logits"]),
    }


def greatest(difference: torch.Tensor) -> float:
    return float(difference.abs().max())


def relative(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours - theirs).norm() / theirs.norm())
