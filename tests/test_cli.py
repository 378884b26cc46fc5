"""The `sarclip` command: fast, thin, and clear about errors."""

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import yaml

import sar
from sar import cli
from sar.command_line import commands, failures
from sar.errors import HostError
from sar.host import CHECKOUT, EMBEDDED, register
from sar.toolbox.run_arguments import Arguments, parse_arguments

ROOT = Path(__file__).parent.parent


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sar", *arguments], cwd=ROOT, capture_output=True, text=True
    )


def seconds(*arguments: str) -> float:
    """Of a Python process: processor time, which depends little on what else the machine does.

    The least of three, of which the first may have to compile.
    """
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    found = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=environment,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        found.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(found)


def test_help_and_import_are_fast() -> None:
    assert seconds("-m", "sar", "--help") < 0.3
    assert seconds("-c", "import sar") < 0.1


def test_help_names_commands_and_imports_nothing_heavy() -> None:
    done = run("--help")
    assert done.returncode == 0
    for command in ("trainers", "train", "results", "protocol"):
        assert command in done.stdout
    code = (
        "import sys, sar.cli\n"
        "heavy = {'torch', 'torchvision', 'numpy', 'clip', 'matplotlib', 'yacs', 'sar.toolbox'}\n"
        "print(*sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""


def test_trainers_are_printed_one_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit:
        cli.main(["trainers"])
    assert exit.value.code == 0
    assert set(capsys.readouterr().out.splitlines()) >= {"ZeroshotCLIP", "CoOp", "SAR_CoOp"}


def exit_of(*argv: str) -> object:
    with pytest.raises(SystemExit) as done:
        cli.main(argv)
    return done.value.code


def all_commands(group: click.Group, *path: str) -> Iterator[tuple[str, ...]]:
    """Every command below `group`, however deep."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        yield (*path, name)
        if isinstance(command, click.Group):
            yield from all_commands(command, *path, name)


def test_every_command_has_help_and_none_of_it_imports_torch() -> None:
    code = (
        "import sys; from sar.cli import main\n"
        "for words in sys.argv[1:]:\n"
        "    try: main([*words.split(), '--help'])\n"
        "    except SystemExit as done: assert done.code == 0, words\n"
        "sys.exit('torch' in sys.modules)"
    )
    words = [" ".join(path) for path in all_commands(cli.app)]
    assert {"train", "config show", "protocol base2new", "data verify"} < set(words)
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Usage: sarclip") == len(words)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_of("--version") == 0
    assert capsys.readouterr().out == f"sarclip {sar.__version__}\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("trian", "there is no command 'trian'; did you mean train?; see sarclip --help"),
        ("x", "there is no command 'x'; expected one of train, config, protocol"),
        ("protocol base2old", "did you mean base2new?; see sarclip protocol --help"),
        ("data", None),
        ("results", "Missing argument 'DIRECTORY'; see sarclip results --help"),
        ("results a --fromat csv", "--fromat"),
        ("results a --format xml", "'xml' is not one of"),
        ("train --trianer CoOp", "--trianer"),
        ("train --seed one", "'--seed': 'one' is not a valid integer"),
        ("train OPTIM.LR", "KEY VALUE pairs, found 'OPTIM.LR'"),
        ("protocol base2new --jobs 0", "'--jobs': 0 is not in the range x>=1"),
        ("protocol base2new --seeds 0", "'--seeds': expected a whole number from 1 up, found '0'"),
        ("protocol base2new --slurm mem", "expected KEY=VALUE, found 'mem'"),
        ("novel generate", "expected one of --dataset and --classes; found none"),
        ("novel check --template x", "does not hold one {} for the class name"),
        ("data download --root d", "Missing argument 'DATASET...'"),
        ("inspect d --top 0", "'--top'"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_exit_status_2(
    capsys: pytest.CaptureFixture[str], words: str, message: str | None
) -> None:
    if message is None:  # a group alone shows its help
        assert exit_of(words) == 0
        assert "Commands:" in capsys.readouterr().out
        return
    assert exit_of(*words.split()) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert message in captured.err
    assert captured.err.count("\n") == 1


def test_an_error_is_one_line_and_exit_status_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_of("results", str(tmp_path / "none")) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith(f"error: {tmp_path / 'none'}")
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def test_ctrl_c_is_one_line_and_its_exit_status(capsys: pytest.CaptureFixture[str]) -> None:
    def ends_by(error: type[BaseException]) -> click.Command:
        def callback() -> None:
            raise error

        return click.Command("x", callback=callback)

    with pytest.raises(SystemExit) as done:
        commands.run(ends_by(KeyboardInterrupt), [])
    assert done.value.code == 130
    assert capsys.readouterr().err.strip() == "interrupted"
    with pytest.raises(SystemExit) as done:  # an error of the program; click takes it for Ctrl-D
        commands.run(ends_by(EOFError), [])
    assert done.value.code == failures.UNEXPECTED


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("A 1 --seed 3 B -1", {"seed": 3, "opts": ("A", "1", "B", "-1")}),
        ("A -1e-5 B -.5", {"opts": ("A", "-1e-5", "B", "-.5")}),
        (
            "--transforms a b --root r A 1",
            {"transforms": ("a", "b"), "root": "r", "opts": ("A", "1")},
        ),
        ("--source-domains a --eval-only", {"source_domains": ("a",), "eval_only": True}),
        ("--import a.py --import b.py", {"imports": ("a.py", "b.py")}),
        ("--config-file=c.yaml", {"config_file": "c.yaml"}),
    ],
)
def test_arguments_of_a_run_are_those_of_train_py(words: str, expected: dict[str, object]) -> None:
    assert parse_arguments(words.split()) == Arguments(**expected)  # type: ignore[arg-type]


def test_settings_are_shown_and_checked_without_a_run(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run_of = ["--trainer", "SAR_CoOp", "--dataset-config-file", "configs/datasets/demo_food.yaml"]
    pocket = ["--config-file", "configs/trainers/CoOp/pocket.yaml", "TRAINER.SAR.WEIGHT", "4.0"]
    assert exit_of("config", "show", *run_of, *pocket) == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert shown["TRAINER"]["SAR"]["WEIGHT"] == 4.0
    assert shown["DATASET"]["NAME"] == "DemoFood"
    assert exit_of("config", "validate", *run_of, *pocket) == 0
    assert capsys.readouterr().out == "valid: SAR_CoOp on DemoFood with pocket\n"
    assert exit_of("config", "validate", *run_of, *pocket, "OPTIM.MAX_EPOCH", "1") == 0
    assert "Note: the whole training is warm-up" in capsys.readouterr().out
    assert exit_of("config", "validate", *run_of, "OPTIM.NAME", "adagrab") == 1
    assert "OPTIM.NAME" in capsys.readouterr().err
    assert exit_of("config", "validate", *run_of, *pocket, "TRAINER.SAR.TEMPERATURE", "0.0") == 1
    assert "TRAINER.SAR.TEMPERATURE" in capsys.readouterr().err
    for missing, rest in (("--trainer NAME", run_of[2:]), ("--dataset-config-file", run_of[:2])):
        assert exit_of("config", "validate", *rest) == 1
        assert f"is empty; give it by {missing}" in capsys.readouterr().err


def test_shipped_configurations_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_of("config", "list") == 0
    shown = capsys.readouterr().out
    for file in (*ROOT.glob("configs/trainers/*/*.yaml"), *ROOT.glob("configs/datasets/*.yaml")):
        assert (file.stem in shown) == (file.stem != "protocols")  # which chooses among the others


def test_commands_are_completed(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_of("completion", "bash") == 0
    assert "_SARCLIP_COMPLETE=bash_complete" in capsys.readouterr().out
    environment = {"COMP_WORDS": "sarclip proto", "COMP_CWORD": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "sar"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, **environment, "_SARCLIP_COMPLETE": "bash_complete"},
    )
    assert done.stdout == "plain,protocol\n"


def test_wrong_setting_through_the_real_command(tmp_path: Path) -> None:
    done = run(
        "train", "--trainer", "SAR_CoOp", "--output-dir", str(tmp_path), "DATASET.NAME", "DemoFood",
        "MODEL.BACKBONE.NAME", "pocket", "TRAINER.SAR.DIVERGENCE", "js",
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith("error: TRAINER.SAR.DIVERGENCE is 'js'")
    assert "Traceback" not in done.stderr


def test_registering_can_be_repeated() -> None:
    assert register(EMBEDDED) == register(EMBEDDED)
    names = register()
    assert {"SAR_CoOp", "SAR_PromptSRC", "ZeroshotCLIP"} <= set(names)
    assert "SAR_ZeroshotCLIP" not in names
    assert not any(name.startswith("SAR_SAR_") for name in names)


def test_a_missing_host_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(HostError, match="cannot be found"):
        register(CHECKOUT)
