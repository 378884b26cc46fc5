"""The `sarclip` command: fast, thin, and clear about errors."""

import resource
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from sar import cli
from sar.config import add_sar_config
from sar.errors import ConfigError, HostError
from sar.host import CHECKOUT, EMBEDDED, Host, register

ROOT = Path(__file__).parent.parent


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sar", *arguments], cwd=ROOT, capture_output=True, text=True
    )


def test_help_is_fast_and_imports_nothing_heavy() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = run("--help")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0
    for command in ("trainers", "train", "results", "protocol"):
        assert command in done.stdout
    # CPU time, which does not depend on what else the machine does.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.0
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


@pytest.mark.parametrize(
    ("command", "module"),
    [
        ("train", "sar.toolbox.train"),
        ("results", "sar.results.cli"),
        ("protocol", "sar.protocols.cli"),
    ],
)
def test_arguments_are_handed_on_unread(
    monkeypatch: pytest.MonkeyPatch, command: str, module: str
) -> None:
    received: list[object] = []

    def main(argv: list[str], **hooks: object) -> None:
        received.extend([argv, hooks])

    monkeypatch.setitem(sys.modules, module, SimpleNamespace(main=main))
    arguments = ["--help", "--trainer", "SAR_CoOp", "TRAINER.SAR.WEIGHT", "-1", "x"]
    with pytest.raises(SystemExit) as exit:
        cli.main([command, *arguments])
    assert exit.value.code == 0
    hooks = {"extend_cfg": add_sar_config, "register": register} if command == "train" else {}
    assert received == [arguments, hooks]


def test_an_error_is_one_line_and_exit_status_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def main(argv: list[str]) -> None:
        raise ConfigError("TRAINER.SAR.WEIGHT is -1.0; expected a finite number >= 0")

    monkeypatch.setitem(sys.modules, "sar.results.cli", SimpleNamespace(main=main))
    with pytest.raises(SystemExit) as exit:
        cli.main(["results"])
    assert exit.value.code == 1
    captured = capsys.readouterr()
    assert captured.err == "error: TRAINER.SAR.WEIGHT is -1.0; expected a finite number >= 0\n"
    assert captured.out == ""


def test_wrong_setting_through_the_real_command(tmp_path: Path) -> None:
    done = run(
        "train", "--trainer", "SAR_CoOp", "--output-dir", str(tmp_path), "DATASET.NAME", "DemoFood",
        "MODEL.BACKBONE.NAME", "pocket", "TRAINER.SAR.DIVERGENCE", "js",
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith("error: TRAINER.SAR.DIVERGENCE is 'js'")
    assert "Traceback" not in done.stderr


def test_registering_is_lazy_and_can_be_repeated() -> None:
    assert register(EMBEDDED) == register(EMBEDDED)
    # A host without CoOp gets no SAR_CoOp: nothing is registered beside what it has.
    lacking = Host(trainers="sar.toolbox.clip", engine=EMBEDDED.engine)
    assert register(lacking) == register(EMBEDDED)


def test_a_missing_host_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(HostError, match="cannot be found"):
        register(CHECKOUT)
