"""Scripts of a checkout with SAR: `sarclip run`, and `python` where `sarclip host` is on."""

import json
import os
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from synthetic_checkout import ROOT, make_checkout, make_environment, python
from yacs.config import CfgNode

from sar.errors import ConfigError, HostError
from sar.host import checkout as in_checkout
from sar.host import hook
from sar.host.arguments import check_order, find_config_files
from sar.host.run import run_script

CONFIG = ("--config-file", "configs/trainers/SAR_CoOp/short.yaml")
TRAIN = ("train.py", "--trainer", "SAR_CoOp", *CONFIG)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkout(tmp_path_factory.mktemp("checkout"))


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Knows this project by `sarclip host enable` alone."""
    interpreter = make_environment(tmp_path_factory.mktemp("environment") / "venv")
    command = ("-m", "sar", "host", "enable")
    python(interpreter, *command, cwd=Path("/"), PYTHONPATH=str(ROOT)).check_returncode()
    return interpreter


@pytest.mark.parametrize("way", ["python", "run"])
def test_a_training_run(environment: Path, checkout: Path, way: str) -> None:
    """The checkout's classes, packages and configurations; our defaults and tokenizer."""
    options = ("TRAINER.SAR.WEIGHT", "2")  # whole numbers are numbers
    if way == "python":
        done = python(environment, *TRAIN, *options, cwd=checkout)
    else:
        ours = {"PYTHONPATH": str(ROOT)}  # with our `trainers` in front of the checkout's
        done = python(environment, "-m", "sar", "run", *TRAIN, *options, cwd=checkout, **ours)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["bases"][:2] == [
        "sar.trainer.SAR_CoOp",
        "sar.trainer.SARTrainerMixin",
    ]
    assert "trainers.coop.CoOp" in result["bases"]
    assert (result["weight"], result["epochs"]) == (2.0, 3)
    assert (result["clip"], result["tokens"], result["loaded"]) == ("checkout", 77, 10)
    assert (result["path"], result["argv"]) == (str(checkout), "train.py")
    assert Path(checkout, result["main"]) == checkout / "train.py"
    assert "configs/trainers/SAR_CoOp/short.yaml is not in this checkout" in done.stdout
    assert {path.name for path in checkout.iterdir()} - {"__pycache__"} == {
        *("clip", "configs", "datasets", "tools", "trainers", "train.py", "whose.py")
    }


ADAPTER = """
from trainers.coop import TRAINER_REGISTRY, CoOp
from sar.views import PromptView

@TRAINER_REGISTRY.register()
class Mine(CoOp):
    pass

class View(PromptView):
    @classmethod
    def fits(cls, prompt_learner, text_encoder):
        return prompt_learner == "mine"

"""


def test_trainers_and_adapters_from_outside(
    environment: Path, checkout: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(ADAPTER)
    ours = ("-m", "sar", "run", "--import", str(tmp_path / "mine.py"))
    line = ("train.py", "--trainer", "SAR_Mine")
    done = python(environment, *ours, *line, cwd=checkout, PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stderr
    bases = json.loads(done.stdout.splitlines()[-1])["bases"]
    assert bases[:3] == ["sar.trainer.SAR_Mine", "sar.trainer.SARTrainerMixin", "mine.Mine"]
    ours = ("-m", "sar", "run", "--import", "nowhere.py")
    done = python(environment, *ours, *line, cwd=checkout, PYTHONPATH=str(ROOT))
    assert done.stderr.startswith("error: --import ")


def test_errors_are_one_line(environment: Path, checkout: Path) -> None:
    sarclip = ("-m", "sar", "run")
    for way, arguments, message in (
        ((), ["--trainer", "SAR_KgCoOp"], "expected one of SAR_CoOp"),
        (sarclip, ["--trainer", "CoOp", "TRAINER.SAR.WEIGHT", "1", "--x"], "--x stands behind"),
        ((), ["SEED", "1", "--trainer", "SAR_CoOp"], "--trainer stands behind SEED"),
    ):
        paths = {"PYTHONPATH": str(ROOT)} if way else {}
        done = python(environment, *way, "train.py", *arguments, cwd=checkout, **paths)
        assert done.returncode == 1
        assert done.stderr.startswith("error: "), done.stderr
        assert done.stderr.count("\n") == 1
        assert message in done.stderr


WRAPPED = """
import runpy
try:
    runpy.run_path("train.py", run_name="__main__")
except Exception:
    raise Exception("Training does not run!")
"""


@pytest.mark.parametrize("way", [(), ("-m", "sar", "run")])
def test_an_error_behind_a_scripts_own_is_still_one_line(
    environment: Path, checkout: Path, way: tuple[str, ...]
) -> None:
    """DePT's train.py writes what happened into a file and raises an error that does not say it."""
    script = checkout / "wrapped.py"
    script.write_text(WRAPPED)
    paths = {"PYTHONPATH": str(ROOT)} if way else {}

    def said(*arguments: str) -> str:
        done = python(environment, *way, "wrapped.py", *arguments, cwd=checkout, **paths)
        assert done.returncode == 1
        return done.stderr

    try:
        ours, theirs = (
            said("--trainer", "SAR_KgCoOp"),
            said("--trainer", "SAR_CoOp", "NOTHING", "1"),
        )
    finally:
        script.unlink()
    assert ours.startswith("error: There is no trainer 'SAR_KgCoOp'")
    assert ours.endswith(" (Exception: Training does not run!)\n")
    assert ours.count("\n") == 1
    assert theirs.startswith("Traceback ")
    assert theirs.endswith("\nException: Training does not run!\n")


def test_other_scripts(environment: Path, checkout: Path) -> None:
    for script in ("whose.py", "tools/deep.py", checkout / "whose.py"):
        done = python(environment, "-m", "sar", "run", script, cwd=checkout, PYTHONPATH=str(ROOT))
        assert (done.stdout, done.stderr) == ("sar.toolbox\n", "")


def test_run_says_what_it_expects(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no script 'train\.py'"):
        run_script(["train.py"])
    script = tmp_path / "train.py"
    script.write_text("import torch  # and not dassl")
    with pytest.raises(HostError, match=r"a train\.py that imports dassl.*sarclip train"):
        run_script([str(script)])


def test_sar_survives_a_cleaned_configuration() -> None:
    """DePT drops the settings of all other trainers before it adds its own."""

    def clean_cfg(cfg: CfgNode, trainer: str) -> None:
        for key in [key for key in cfg.TRAINER if key != trainer]:
            cfg.TRAINER.pop(key)

    defaults = CfgNode({"TRAINER": {"COOP": {"N_CTX": 4}, "CDAC": {}}})
    config: Any = ModuleType("dassl.config")
    config.cfg_default, config.clean_cfg = defaults, clean_cfg
    in_checkout._add_defaults(config)
    config.clean_cfg(defaults, "COOP")
    assert set(defaults.TRAINER) == {"COOP", "SAR"}
    old: Any = ModuleType("dassl.config")
    old.cfg_default = CfgNode({"TRAINER": {}})
    in_checkout._add_defaults(old)  # a Dassl without the function
    assert "SAR" in old.cfg_default.TRAINER


def test_what_a_checkout_is(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for inside in ("train.py", "tools/deep.py", "-c"):
        assert hook.checkout_of(str(checkout / inside)) == str(checkout)
    monkeypatch.chdir(checkout)
    assert hook.checkout_of("train.py") == hook.checkout_of("") == str(checkout)
    assert hook.checkout_of(str(ROOT / "setup.py")) == ""  # our own folder has a `trainers`, too


@pytest.mark.parametrize(
    ("line", "late"),
    [
        ("train.py --seed 1 TRAINER.COOP.N_CTX 4", ""),
        ("train.py --seed 1 TRAINER.COOP.N_CTX 4 DATASET.NUM_SHOTS 1", ""),
        ("train.py --output-dir SEEDS/TRAIN.X --trainer X", ""),
        ("train.py TRAINER.COOP.N_CTX 4 --seed 1", "--seed"),
        ("train.py --seed 1 OPTIM.MAX_EPOCH 2 --trainer X --root y", "--trainer, --root"),
        ("parse_test_res.py output --test-log", ""),
    ],
)
def test_options_behind_keys(line: str, late: str) -> None:
    if late:
        with pytest.raises(ConfigError, match=f"^{late} stands behind"):
            check_order(line.split())
    else:
        check_order(line.split())


def test_configuration_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(make_checkout(tmp_path))
    here, ours = "configs/trainers/CoOp/short.yaml", "configs/trainers/CoOp/vit_b16_ctxv1.yaml"

    def found(file: str) -> str:
        (_, option, result, *_) = find_config_files(["train.py", "--config-file", file])
        (_, joined, *_) = find_config_files(["train.py", f"--config-file={file}"])
        assert joined == f"{option}={result}"
        return result

    assert found(here) == here
    assert capsys.readouterr().out == ""
    assert found("configs/trainers/SAR_CoOp/short.yaml") == here
    assert found(str(tmp_path / "configs/trainers/SAR_CoOp/short.yaml")) == str(tmp_path / here)
    assert f"--config-file is {here}" in capsys.readouterr().out
    for file in (ours, ours.replace("CoOp", "SAR_CoOp")):
        assert os.path.samefile(found(file), ROOT / ours)
        # Shipped files leave these to the CLIP, of which Dassl knows nothing; given ones win.
        words = find_config_files(["x.py", "--config-file", file, "INPUT.SIZE", "(40, 40)"])
        assert words[3:5] == ["INPUT.SIZE", "(224, 224)"]
        assert words[5::2] == ["INPUT.PIXEL_MEAN", "INPUT.PIXEL_STD", "INPUT.SIZE"]
    with pytest.raises(ConfigError, match=r"In this checkout, \S+ has: short\.yaml\. Shipped"):
        found("configs/trainers/SAR_CoOp/nowhere.yaml")
    arguments = ["x.py", "--config-file", "mine.yaml", "--dataset-config-file"]
    assert find_config_files(arguments) == arguments  # the script's own business
