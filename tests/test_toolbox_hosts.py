"""The embedded CoOp against the published one (CoOp on Dassl), where those are at hand."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from host_process import as_host, relative
from hosts_at_hand import HOSTS, needs_dassl
from toolbox_host_run import learning_rates, record
from toolbox_mini import arguments, make_cfg

from sar.toolbox.config import get_cfg_default
from sar.toolbox.data.datasets import read_fewshot
from sar.toolbox.engine import build_trainer
from sar.toolbox.optim import build_lr_scheduler, build_optimizer
from sar.toolbox.train import main
from sar.toolbox.utils import load_checkpoint, set_random_seed

pytestmark = needs_dassl
VARIANTS = {
    "random": (),
    "words": ("TRAINER.COOP.CTX_INIT", "a photo of a"),
    "middle": ("TRAINER.COOP.CLASS_TOKEN_POSITION", "middle"),
    "front": ("TRAINER.COOP.CLASS_TOKEN_POSITION", "front"),
    "csc": ("TRAINER.COOP.CSC", "True"),
}


def run_host(target: Path, *argv: str) -> list[dict]:
    script = Path(__file__).parent / "support" / "toolbox_host_run.py"
    command = [sys.executable, str(script), HOSTS, str(target), *argv]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return torch.load(target, weights_only=True)


@pytest.fixture(scope="module")
def host_runs(world):
    argv = []
    for name, options in VARIANTS.items():
        argv += [*as_host(arguments(world, world / f"host_{name}")), *options, "--next"]
    runs = dict(zip(VARIANTS, run_host(world / "host.pt", *argv[:-1]), strict=True))
    # Ours must draw the shots itself.
    pickles = world / "oxford_pets" / "split_fewshot"
    pickles.rename(world / "host_fewshot")
    return runs


@pytest.mark.parametrize("variant", VARIANTS)
def test_same_run_as_the_published_trainer(world, host_runs, variant):
    theirs = host_runs[variant]
    cfg = make_cfg([*arguments(world, world / f"ours_{variant}"), *VARIANTS[variant]])
    set_random_seed(cfg.SEED)
    ours = record(build_trainer(cfg))

    assert ours["shots"] == theirs["shots"]
    assert torch.equal(ours["initial"], theirs["initial"])
    assert ours["optimizer"] == theirs["optimizer"]
    assert len(ours["steps"]) == len(theirs["steps"]) == 20
    for own, their in zip(ours["steps"], theirs["steps"], strict=True):
        assert own["index"].tolist() == their["index"].tolist()
        assert torch.equal(own["img"], their["img"])
        assert own["lr"] == their["lr"]
    own, their = ours["steps"][0], theirs["steps"][0]
    figures = {
        "logits": relative(own["logits"], their["logits"]),
        "loss": abs(own["loss"] / their["loss"] - 1),
        "gradient": relative(own["grad"], their["grad"]),
        "weights after 20 steps": float((ours["final"] - theirs["final"]).abs().max()),
    }
    print(f"CoOp {variant}:", " ".join(f"{key} {value:.1e}" for key, value in figures.items()))
    assert max(figures["logits"], figures["loss"], figures["gradient"]) < 1e-5
    assert figures["weights after 20 steps"] < 1e-4
    assert not torch.equal(theirs["final"], theirs["initial"])
    assert ours["accuracy"] == pytest.approx(theirs["accuracy"])


def test_files_are_exchanged(world, host_runs, tmp_path, capsys):
    """Few-shot files and checkpoints are read both ways; a run of Dassl's is continued."""
    theirs = world / "host_words"
    words = VARIANTS["words"]
    train, _ = read_fewshot(world / "host_fewshot" / "shot_4-seed_1.pkl")
    base = {label for _, label in host_runs["words"]["shots"]}
    shots = [(Path(d.impath).name, d.label) for d in train if d.label in base]
    assert shots == host_runs["words"]["shots"]

    evaluate = ("--eval-only", "--load-epoch", "5", "--model-dir")
    main([*arguments(world, tmp_path / "eval", *evaluate, str(theirs)), *words])
    accuracy = host_runs["words"]["accuracy"]
    assert f"* accuracy: {accuracy:.2f}%" in capsys.readouterr().out

    main([*arguments(world, tmp_path / "more", "--resume", str(theirs)), *words])
    assert "Resuming after epoch 5" in capsys.readouterr().out

    ours = tmp_path / "ours"
    main([*arguments(world, ours), *words])  # also leaves our few-shot file for the host to read
    flags = ("--model-dir", str(ours), "--load-epoch", "5")
    argv = as_host([*arguments(world, tmp_path / "host_eval", *flags), *words])
    (loaded,) = run_host(tmp_path / "host.pt", *argv)
    weights = load_checkpoint(ours / "prompt_learner" / "model.pth.tar-5")["state_dict"]["ctx"]
    assert torch.equal(loaded["loaded"], weights)


def test_same_learning_rates(tmp_path):
    """Every schedule and warm-up, to the last bit."""
    settings = [
        (
            *("OPTIM.LR_SCHEDULER", schedule, "OPTIM.STEPSIZE", steps, "OPTIM.MAX_EPOCH", 12),
            *("OPTIM.WARMUP_TYPE", warmup, "OPTIM.WARMUP_EPOCH", epochs),
            *("OPTIM.WARMUP_RECOUNT", recount),
        )
        for schedule, steps in (("cosine", (-1,)), ("multi_step", (3, 7)), ("single_step", (5,)))
        for warmup in ("constant", "linear")
        for epochs in (-1, 1, 3)
        for recount in (True, False)
    ]
    code = (
        "import json, toolbox_host_run as h\n"
        f"h.open_checkout({HOSTS!r}, 'CoOp')\n"
        "from dassl.config import get_cfg_default\n"
        "from dassl.optim import build_optimizer, build_lr_scheduler\n"
        f"runs = [h.learning_rates(get_cfg_default, build_optimizer, build_lr_scheduler, s) "
        f"for s in {settings!r}]\nprint(json.dumps(runs))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parent / "support",
    )
    theirs = json.loads(done.stdout.splitlines()[-1])
    for setting, rates in zip(settings, theirs, strict=True):
        ours = learning_rates(get_cfg_default, build_optimizer, build_lr_scheduler, setting)
        assert ours == rates, setting


def test_coops_parser_reads_our_log(world, tmp_path):
    """CoOp's parse_test_res.py on a training folder."""
    main(arguments(world, tmp_path / "runs" / "seed1"))
    command = ["-m", "sar", "run", f"{HOSTS}/CoOp/parse_test_res.py", str(tmp_path / "runs")]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)
    log = (tmp_path / "runs" / "seed1" / "log.txt").read_text()
    accuracy = log.rpartition("* accuracy: ")[2].partition("%")[0]
    assert f"* accuracy: {accuracy}% +- 0.00%" in done.stdout, done.stderr
