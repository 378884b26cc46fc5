"""Protocols: which jobs there are, and that each runs once, is resumed, and never overwritten.

The jobs are those of a stand-in for `sarclip train`; processes, locks and signals are real.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sar.errors import ConfigError
from sar.protocols import configs
from sar.protocols.base2new import BaseToNew
from sar.protocols.cli import main
from sar.protocols.jobs import Job, State, try_lock
from sar.protocols.local import LocalRunner
from sar.results import collect

ROOT = Path(__file__).resolve().parents[1]
STANDIN = "standin_train:main"
TRAIN = "train_base/demo_food/shots_16/CoOp/pocket/seed1"
TEST = "test_new/demo_food/shots_16/CoOp/pocket/seed1"


@pytest.fixture(autouse=True)
def _fast_standin(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-in needs no torch, so its fork server does not import it either."""
    monkeypatch.setattr("sar.protocols.local._PRELOAD", ("sar.protocols.local",))


def command(
    output: Path, *arguments: str, seeds: str, trainers: str, datasets: str = "demo_food"
) -> list[str]:
    """Arguments of a short protocol, three jobs at a time."""
    what = ["--datasets", datasets, "--seeds", seeds, "--trainers", trainers]
    where = ["--output", str(output), "--jobs", "3"]
    return ["base2new", *what, *where, "OPTIM.MAX_EPOCH", "3", *arguments]


def run(
    output: Path,
    *arguments: str,
    datasets: str = "demo_food",
    seeds: str = "1",
    trainers: str = "CoOp",
) -> None:
    options = {"datasets": datasets, "seeds": seeds, "trainers": trainers}
    main(command(output, *arguments, **options), STANDIN)


def epochs(output: Path, part: str = TRAIN) -> list[str]:
    return (output / part / "epochs.txt").read_text().split("\n")[:-1]


def wait_until(condition, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "timed out"
        time.sleep(0.02)


# --- which jobs ------------------------------------------------------------------------------


def test_jobs_of_the_main_job():
    jobs = BaseToNew(configs.DEMO_DATASETS, configs.SEEDS, Path("out")).jobs()
    assert len(jobs) == len({job.output for job in jobs}) == 2 * (2 + 2 * 3 * 2)
    outputs = [job.output for job in jobs]
    for job in jobs:
        assert not job.needs or outputs.index(job.needs) < outputs.index(job.output)
    zero_shot = [str(j.output) for j in jobs if "Zeroshot" in str(j.output) and "food" in j.title]
    assert zero_shot == [
        f"out/{part}/demo_food/shots_16/ZeroshotCLIP/pocket/seed1"
        for part in ("test_base", "test_new")
    ]


def test_load_epoch_follows_the_configuration():
    def load_epoch(*options: str) -> int:
        jobs = BaseToNew(["demo_food"], [1], Path("out"), ["SAR_CoOp"], options=options).jobs()
        words = jobs[1].argv()
        return int(words[words.index("--load-epoch") + 1])

    file = configs.config_path("trainers", "SAR_CoOp", "pocket")
    assert load_epoch() == configs.setting("OPTIM.MAX_EPOCH", [file])
    assert load_epoch("OPTIM.MAX_EPOCH", "7", "OPTIM.MAX_EPOCH", "9") == 9


def test_flags_come_before_options_and_sar_options_reach_sar_only():
    plain, _, sar, _ = BaseToNew(
        ["demo_food"],
        [1],
        Path("out"),
        ["CoOp", "SAR_CoOp"],
        options=["TRAINER.SAR.WEIGHT", "4", "OPTIM.LR", "0.1"],
    ).jobs()
    assert plain.argv()[-2:] == ["OPTIM.LR", "0.1"]
    assert "TRAINER.SAR.WEIGHT" not in plain.argv()
    assert "TRAINER.SAR.WEIGHT" in sar.argv()
    words = sar.argv()
    last_flag = max(i for i, word in enumerate(words) if word.startswith("--"))
    assert last_flag < words.index("DATASET.NUM_SHOTS")
    assert shlex.split(sar.command()) == ["sarclip", *sar.argv()]


def test_published_configurations():
    def load_epoch(dataset: str) -> str:
        return BaseToNew([dataset], [1], Path("o"), ["CoOp"], root="/data").jobs()[1].flags[-2]

    assert configs.default_cfg("SAR_CoOp", "oxford_pets") == "vit_b16_ctxv1"
    assert load_epoch("oxford_pets") == "200"
    assert configs.default_cfg("CoOp", "imagenet") == "vit_b16_ep50_ctxv1"
    assert load_epoch("imagenet") == "50"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--datasets", "demo_foot"], "demo_food"),
        (["--trainers", "SAR_Coop"], "ZeroshotCLIP, .*CoOp"),
        (["--cfg", "vit_b61"], "pocket"),
        (["--datasets", "oxford_pets"], "--root"),
        (["OPTIM.LR"], "KEY VALUE"),
    ],
)
def test_wrong_arguments_say_what_exists(tmp_path, arguments, message):
    with pytest.raises(ConfigError, match=message):
        main(["base2new", "--output", str(tmp_path / "out"), *arguments], STANDIN)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("seed", ["0", "-1", "one", "1,x"])
def test_wrong_seed(seed):
    with pytest.raises(ConfigError, match="whole number from 1 up"):
        main(["base2new", f"--seeds={seed}"], STANDIN)


# --- running them ----------------------------------------------------------------------------


def test_runs_everything_once_and_writes_the_table(tmp_path, capfd):
    run(tmp_path, trainers="ZeroshotCLIP,CoOp,SAR_CoOp", seeds="1,2")
    first = capfd.readouterr().out
    assert first.count("sarclip train ") == 2 + 2 * 2 * 2
    assert "SAR_CoOp - CoOp" in first
    assert {p.name for p in tmp_path.glob("results.*")} == {
        "results.md",
        "results.csv",
        "results.json",
    }
    records = {(r.key.trainer, r.key.seed): r.values for r in collect(tmp_path).records}
    assert records["CoOp", 2]["base"] == 72.0
    assert records["CoOp", 2]["new"] == 52.0
    assert set(records) == {
        ("ZeroshotCLIP", 1),
        ("CoOp", 1),
        ("CoOp", 2),
        ("SAR_CoOp", 1),
        ("SAR_CoOp", 2),
    }

    logs = {path: path.read_bytes() for path in tmp_path.rglob("log.txt")}
    run(tmp_path, trainers="ZeroshotCLIP,CoOp,SAR_CoOp", seeds="1,2,3")
    second = capfd.readouterr().out
    assert second.count("finished earlier, skipped") == 10
    assert second.count("sarclip train ") == 4
    assert {path: path.read_bytes() for path in logs} == logs
    assert epochs(tmp_path) == ["epoch 1", "epoch 2", "epoch 3", "test"]


def test_a_failure_stops_only_what_needs_it(tmp_path, capfd):
    with pytest.raises(SystemExit) as status:
        run(tmp_path, "TEST.FAIL", "train_base/demo_food/shots_16/CoOp/pocket/seed2", seeds="1,2")
    assert status.value.code == 1
    out, err = capfd.readouterr()
    assert "2 of 4 jobs failed" in err
    assert "failed: ValueError: the images are made of cheese" in err
    assert str(tmp_path / TRAIN.replace("seed1", "seed2") / "console.txt") in err
    assert "not run: demo_food CoOp seed2: train base failed" in err
    assert [r.key.seed for r in collect(tmp_path).records] == [1]
    assert "no log.txt" in out  # the failed one is listed below the table


def test_finished_or_half_finished_work_of_other_settings_is_left_alone(tmp_path, capfd):
    run(tmp_path)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    capfd.readouterr()
    with pytest.raises(SystemExit):
        run(tmp_path, "OPTIM.LR", "0.5")
    err = capfd.readouterr().err
    assert "now OPTIM.LR 0.5" in err
    assert "choose another --output" in err
    assert {p: p.read_bytes() for p in before} == before


def test_moved_folder_and_other_root_are_not_other_settings(tmp_path, capfd):
    run(tmp_path / "a", "TEST.EPOCH_SECONDS", "0")
    (tmp_path / "a").rename(tmp_path / "b")
    run(tmp_path / "b", "--root", "/elsewhere", "TEST.EPOCH_SECONDS", "0")
    assert capfd.readouterr().out.count("finished earlier") == 2


def test_results_of_other_scripts_count_as_finished(tmp_path, capfd):
    run(tmp_path)
    (tmp_path / TRAIN / "command.txt").unlink()
    run(tmp_path)
    assert capfd.readouterr().out.count("finished earlier") == 2


def test_two_runners_share_the_work(tmp_path):
    first = launch(tmp_path, "TEST.EPOCH_SECONDS", "0.1")
    second = launch(tmp_path, "TEST.EPOCH_SECONDS", "0.1")
    outputs = [process.communicate(timeout=60)[0] for process in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0), outputs
    for seed in (1, 2, 3):
        train, test = (part.replace("seed1", f"seed{seed}") for part in (TRAIN, TEST))
        assert epochs(tmp_path, train) == ["epoch 1", "epoch 2", "epoch 3", "test"]
        assert epochs(tmp_path, test) == ["test"]
    assert sum(text.count("sarclip train") for text in outputs) in range(6, 13)
    assert all("72.00 ± 1.00" in text for text in outputs)


def test_a_lock_dies_with_its_process(tmp_path):
    job = Job("a", (), tmp_path)
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from pathlib import Path; from sar.protocols.jobs import try_lock\n"
        f"lock = try_lock(Path({str(tmp_path)!r})); print('locked', flush=True)\n"
        "import time; time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "locked\n"
    assert job.state() is State.LOCKED
    assert try_lock(tmp_path) is None
    holder.kill()
    holder.wait()
    assert job.state() is State.NEW


# --- interruptions ---------------------------------------------------------------------------


def launch(output: Path, *options: str) -> subprocess.Popen[str]:
    """A launcher as a process of its own, leader of its own process group like in a shell."""
    code = (
        "import sar.protocols.local as local; local._PRELOAD = (local.__name__,)\n"
        "import sys; from sar.protocols.cli import main; main(sys.argv[1:], "
        f"{STANDIN!r})"
    )
    path = os.pathsep.join((str(ROOT), str(ROOT / "tests")))
    return subprocess.Popen(
        [
            *(sys.executable, "-c", code),
            *command(output, *options, seeds="1,2,3", trainers="CoOp"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": path},
    )


@pytest.fixture
def interrupted(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A launcher whose seed 1 has finished one slow epoch."""
    process = launch(tmp_path, "TEST.EPOCH_SECONDS", "0.4")
    log = tmp_path / TRAIN / "epochs.txt"
    wait_until(lambda: log.exists() and "epoch 1" in log.read_text())
    yield process
    process.kill()
    process.communicate()


def finish_and_check(output: Path) -> None:
    run(output, "TEST.EPOCH_SECONDS", "0.4", seeds="1,2,3")
    for seed in (1, 2, 3):
        done = epochs(output, TRAIN.replace("seed1", f"seed{seed}"))
        assert done == ["epoch 1", "epoch 2", "epoch 3", "test"]  # no epoch twice, none missing
    assert [r.values["base"] for r in collect(output).records] == [71.0, 72.0, 73.0]


def test_ctrl_c_leaves_everything_resumable(tmp_path, interrupted, capfd):
    os.killpg(interrupted.pid, signal.SIGINT)  # what a terminal does: to the whole group
    text, _ = interrupted.communicate(timeout=20)
    assert interrupted.returncode == 130
    assert re.search(r"interrupted: \d of 6 jobs are finished; the same command continues", text)
    assert "Traceback" not in text
    finish_and_check(tmp_path)
    assert "seed1: train base: unfinished, to resume" in capfd.readouterr().out


def test_killed_launcher_takes_its_jobs_along(tmp_path, interrupted):
    interrupted.kill()
    job = Job("a", (), tmp_path / TRAIN, trains=True)
    wait_until(lambda: job.state() is not State.LOCKED, 5)
    stopped = epochs(tmp_path)
    time.sleep(0.6)
    assert epochs(tmp_path) == stopped
    finish_and_check(tmp_path)


def test_killed_job_is_a_failure_with_its_reason_and_resumes(tmp_path, interrupted):
    (victim,) = pids_in(tmp_path / TRAIN)
    os.kill(victim, signal.SIGKILL)
    text, _ = interrupted.communicate(timeout=30)
    assert interrupted.returncode == 1
    assert "seed1: train base: failed: killed by SIGKILL" in text
    assert "2 of 6 jobs failed" in text
    finish_and_check(tmp_path)


def pids_in(folder: Path) -> list[int]:
    """Processes that have a log open in the folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            links = [os.readlink(link) for link in (process / "fd").iterdir()]
        except OSError:
            continue
        if str(folder / "log.txt") in links:
            found.append(int(process.name))
    return found


# --- front -----------------------------------------------------------------------------------


def test_dry_run_lists_states_and_starts_nothing(tmp_path, capsys):
    run(tmp_path, seeds="1")
    (tmp_path / TRAIN.replace("seed1", "seed2")).mkdir()
    (tmp_path / TRAIN.replace("seed1", "seed2") / "log.txt").write_text("")
    capsys.readouterr()
    run(tmp_path, "--dry-run", seeds="1,2")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0::2] == [
        "demo_food CoOp seed1: train base: finished",
        "demo_food CoOp seed1: test new: finished",
        "demo_food CoOp seed2: train base: unfinished, to resume",
        "demo_food CoOp seed2: test new: to run",
    ]
    assert all(line.startswith("  sarclip train ") for line in lines[1::2])
    assert not (tmp_path / TEST.replace("seed1", "seed2")).exists()


def script(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(ROOT / "scripts" / "sar" / "base2new.sh"), *arguments],
        cwd=cwd,
        text=True,
        capture_output=True,
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            **environment,
        },
    )


def test_script_from_any_folder(tmp_path):
    done = script(
        "demo_food",
        "2",
        "SAR_CoOp",
        "--dry-run",
        cwd=tmp_path,
        OUTPUT="here",
        SHOTS="4",
        DATA="/my data",
    )
    assert done.returncode == 0, done.stderr
    titles = done.stdout.splitlines()[0::2]
    assert titles == [
        "demo_food SAR_CoOp seed2: train base: to run",
        "demo_food SAR_CoOp seed2: test new: to run",
    ]
    assert "here/train_base/demo_food/shots_4/SAR_CoOp/pocket/seed2" in done.stdout
    assert "--root '/my data'" in done.stdout
    both = script("demo_food", "1", "", "--dry-run", cwd=tmp_path, TRAINERS="CoOp SAR_CoOp")
    assert both.stdout.count("  sarclip train ") == 4


def test_script_errors_are_one_line(tmp_path):
    for arguments, expected in (
        (["demo_fod", "1"], "demo_food"),
        (["demo_food"], "SEED"),
        (["demo_food", "0"], "from 1 up"),
        (["demo_food", "1", "Coop"], "SAR_CoOp"),
    ):
        done = script(*arguments, cwd=tmp_path, OUTPUT=str(tmp_path / "out"))
        assert done.returncode != 0
        assert len(done.stderr.strip().splitlines()) == 1
        assert expected in done.stderr


def test_real_trainers_on_demo_data_with_a_random_clip(tmp_path):
    import torch
    from toolbox_mini import PIXELS, random_clip

    torch.save(random_clip().state_dict(), tmp_path / "clip.pt")
    options = [
        "MODEL.BACKBONE.NAME",
        str(tmp_path / "clip.pt"),
        "INPUT.SIZE",
        f"({PIXELS},{PIXELS})",
        "OPTIM.MAX_EPOCH",
        "2",
    ]
    for expected in ("% (", "finished earlier, skipped"):
        done = script(
            "demo_food",
            "1",
            "",
            *options,
            cwd=tmp_path,
            OUTPUT="out",
            SHOTS="1",
            TRAINERS="ZeroshotCLIP SAR_CoOp",
            XDG_CACHE_HOME=str(tmp_path / "cache"),
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.count(expected) == 4
    results = collect(tmp_path / "out")
    assert [record.key.trainer for record in results.records] == ["SAR_CoOp", "ZeroshotCLIP"]
    assert not results.problems
    assert not results.notes  # the tested checkpoint is the last epoch's


def test_nothing_here_imports_torch():
    code = "import sys, sar.protocols.cli, sar.results.cli\nsys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_runner_needs_no_jobs():
    assert LocalRunner([], 1, STANDIN).run() == []
