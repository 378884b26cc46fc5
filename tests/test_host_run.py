"""Scripts of a checkout with SAR: `sarclip run`, and `python` where `sarclip host` is on."""

import json
import os
from pathlib import Path

import pytest
from synthetic_checkout import ROOT, make_checkout, make_environment, python

from sar.errors import ConfigError, HostError
from sar.host import hook
from sar.host.arguments import check_order, find_config_files
from sar.host.run import run

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
    options = ("TRAINER.SAR.WEIGHT", "0.5")
    if way == "python":
        done = python(environment, *TRAIN, *options, cwd=checkout)
    else:
        ours = {"PYTHONPATH": str(ROOT)}  # with our `trainers` in front of the checkout's
        done = python(environment, "-m", "sar", "run", *TRAIN, *options, cwd=checkout, **ours)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["bases"][:2] == [
        "sar.trainers.sar_coop.SAR_CoOp",
        "sar.trainers.sar_coop.SARCoOp",
    ]
    assert "trainers.coop.CoOp" in result["bases"]
    assert (result["weight"], result["epochs"]) == (0.5, 3)
    assert (result["clip"], result["tokens"], result["loaded"]) == ("checkout", 77, 10)
    assert (result["path"], result["argv"]) == (str(checkout), "train.py")
    assert Path(checkout, result["main"]) == checkout / "train.py"
    assert "configs/trainers/SAR_CoOp/short.yaml is not in this checkout" in done.stdout
    assert {path.name for path in checkout.iterdir()} - {"__pycache__"} == {
        *("clip", "configs", "datasets", "tools", "trainers", "train.py", "whose.py")
    }


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


def test_other_scripts(environment: Path, checkout: Path) -> None:
    for script in ("whose.py", "tools/deep.py", checkout / "whose.py"):
        done = python(environment, "-m", "sar", "run", script, cwd=checkout, PYTHONPATH=str(ROOT))
        assert (done.stdout, done.stderr) == ("sar.toolbox\n", "")


def test_run_says_what_it_expects(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run([])
    assert capsys.readouterr().out.startswith("usage: sarclip run SCRIPT")
    with pytest.raises(ConfigError, match=r"no script 'train\.py'"):
        run(["train.py"])
    script = tmp_path / "train.py"
    script.touch()
    with pytest.raises(HostError, match=r"coop\.py.*sarclip train"):
        run([str(script)])


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
