"""docs/add-a-method.md, followed: its file is cut out, registered, trained, and run on the demo."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from pages import files_of, follow, write_files
from toolbox_mini import arguments, write_world
from torch import Tensor

from sar import cli
from sar.config import add_sar_config
from sar.errors import ConfigError
from sar.gradient import Call
from sar.host import register
from sar.protocols.cli import main as protocol
from sar.settings.extensions import import_file
from sar.toolbox.engine import build_trainer
from sar.toolbox.registered import register_builtin
from sar.toolbox.run_arguments import parse_arguments
from sar.toolbox.train import setup_cfg

FOLDER = "train_base/demo_food/shots_16/ProGrad/pocket/seed1"
METHOD = files_of("add-a-method.md")["prograd.py"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images, a CLIP, a configuration, and prograd.py."""
    folder = tmp_path_factory.mktemp("method")
    write_world(folder)
    (folder / "prograd.py").write_text(METHOD, encoding="utf-8")
    return folder


def argv(world: Path, output: Path, trainer: str, *more: str) -> list[str]:
    method = ("--import", str(world / "prograd.py"))
    options = ("TRAINER.SAR.NOVEL", "words:9", *more)
    return arguments(world, output, *method, trainer=trainer) + list(options)


def context(output: Path) -> Tensor:
    file = output / "prompt_learner" / "model.pth.tar-5"
    found: Tensor = torch.load(file, weights_only=True)["state_dict"]["ctx"]
    return found


def test_trains_and_weight_zero_is_the_method_bit_for_bit(world, tmp_path):
    """In one process, where the file is imported again and again."""
    contexts = {}
    for name, trainer, more in (
        ("method", "ProGrad", ()),
        ("weight 0", "SAR_ProGrad", ("TRAINER.SAR.WEIGHT", "0")),
        ("sar", "SAR_ProGrad", ()),
        ("strength 0", "ProGrad", ("TRAINER.PROGRAD.STRENGTH", "0.0")),
        ("coop", "CoOp", ()),
    ):
        cli_train(argv(world, tmp_path / name, trainer, *more))
        contexts[name] = context(tmp_path / name)
        assert "* accuracy:" in (tmp_path / name / "log.txt").read_text()
    assert torch.equal(contexts["weight 0"], contexts["method"])
    assert not torch.equal(contexts["sar"], contexts["method"])
    assert torch.equal(contexts["strength 0"], contexts["coop"])


def cli_train(argv: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["train", *argv])
    assert not stopped.value.code


@pytest.mark.parametrize("precision", ["fp32", "fp16", "amp"])
@pytest.mark.parametrize("trainer", ["ProGrad", "SAR_ProGrad"])
def test_gradient_is_the_projected_one(world, tmp_path, trainer, precision):
    """The alignment is added to it, once, and not projected."""
    started = start(world, tmp_path, trainer, precision)
    images = next(iter(started.train_loader_x))["img"]
    context = started.model.prompt_learner.ctx
    torch.manual_seed(3)  # away from hand-crafted prompts, to which the gradient goes
    context.data += 0.5 * torch.randn_like(context)
    initial = context.detach().clone()
    started.set_model_mode("eval")
    with torch.no_grad():  # the classes that zero-shot CLIP thinks least of
        batch = {"img": images, "label": started.model(images)[1].argmin(dim=1)}
    started.set_model_mode("train")
    started.forward_backward(batch)
    found = context.grad.float()

    context.data.copy_(initial)
    image, label = started.parse_batch_train(batch)
    injection = getattr(started, "_injection", None)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "amp"):
        logits, zero_shot = started.model(image)
    task = F.cross_entropy(logits, label)
    probability = zero_shot.float().softmax(dim=1)
    general = (probability * (probability.log() - logits.float().log_softmax(dim=1))).sum(dim=1)
    (t,) = torch.autograd.grad(task, context, retain_graph=True)
    (g,) = torch.autograd.grad(general.mean(), context)
    t, g = t.float(), g.float()
    along = (t * g).sum() / g.norm() ** 2
    assert along < 0
    expected = t - along * g
    if injection is not None:
        call = Call(autocast=torch.bfloat16 if precision == "amp" else None)
        _, (aligned,) = injection.alignment.gradients(0, [context], call)
        expected += started.cfg.TRAINER.SAR.WEIGHT * aligned
    assert (found - expected).norm() / expected.norm() < (1e-4 if precision == "fp32" else 0.1)


def start(world: Path, output: Path, trainer: str, precision: str) -> Any:
    import_file(world / "prograd.py")
    register_builtin()
    register()
    words = argv(world, output, trainer, "TRAINER.COOP.PREC", precision)
    built = build_trainer(setup_cfg(parse_arguments(words), add_sar_config))
    built.before_train()
    built.set_model_mode("train")
    built.epoch, built.batch_idx, built.num_batches = 0, 0, 100
    return built


def test_wrong_files_are_named(tmp_path):
    with pytest.raises(ConfigError, match=r"missing\.py: expected the path of a Python file"):
        import_file(tmp_path / "missing.py")
    (tmp_path / "torch.py").write_text("")
    with pytest.raises(ConfigError, match="'torch' is another module's name"):
        import_file(tmp_path / "torch.py")
    (tmp_path / "broken_method.py").write_text("import math\n\nmath.sqrt(-1)\n")
    for _ in range(2):  # nothing half-made is left behind
        with pytest.raises(ConfigError, match=r"broken_method\.py, line 3: ValueError: "):
            import_file(tmp_path / "broken_method.py")
    (tmp_path / "no_python.py").write_text("def f(:\n")
    with pytest.raises(ConfigError, match=r"SyntaxError: .*\(no_python\.py, line 1\)"):
        import_file(tmp_path / "no_python.py")


def test_an_edited_method_is_not_mixed_with_the_former(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr("sar.protocols.local._PRELOAD", ("sar.protocols.local",))
    monkeypatch.chdir(tmp_path)
    write_files("add-a-method.md", tmp_path)
    method = tmp_path / "mine_edited.py"
    method.write_text("STRENGTH = 1\n")
    start = ["base2new", "--import", method.name, "--datasets", "demo_food", "--seeds", "1"]
    start += ["--trainers", "ProGrad", "--output", "out", "OPTIM.MAX_EPOCH", "2"]
    standin = "standin_train:main"
    protocol(start, standin)
    command = (tmp_path / f"out/{FOLDER}/command.txt").read_text()
    assert command.startswith(f"sarclip train --import {method}")
    assert "--config-file configs/trainers/ProGrad/pocket.yaml" in command
    protocol(start, standin)
    assert capfd.readouterr().out.count("finished earlier, skipped") == 2
    method.write_text("STRENGTH = 2\n")
    with pytest.raises(SystemExit):
        protocol(start, standin)
    assert "content of mine_edited.py was" in capfd.readouterr().err


def test_a_method_without_configurations_says_where_they_belong(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_files("add-a-method.md", tmp_path)
    with pytest.raises(ConfigError, match=r"'Mine'.* ProGrad,.*needs a folder trainers/Mine in "):
        protocol(["base2new", "--trainers", "Mine"])


@pytest.mark.slow
def test_commands_of_the_page(tmp_path):
    """As they stand, but with one shot and two epochs."""
    short = "--seeds 1 --shots 1 OPTIM.MAX_EPOCH 2"
    shorter = {"--seeds 1": short, "shots_16": "shots_1", "--classes new": "--top 3"}
    said = follow("add-a-method.md", tmp_path, shorter)
    assert re.search(r"SAR_ProGrad - ProGrad +[+-]\d", said)
    assert "The 3 classes whose relations changed most" in said
