"""Running protocols: each job runs once, is resumed, and nothing is overwritten.

The jobs are those of a stand-in for `sarclip train`; processes, locks and signals are real.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from sar.errors import DataError
from sar.protocols.base2new import BaseToNew
from sar.protocols.cli import PLANS, main
from sar.protocols.jobs import Job, State
from sar.protocols.launcher import run as launch_jobs
from sar.protocols.local import LocalLauncher
from sar.protocols.progress import Progress
from sar.results import collect
from sar.results.protocol import read_protocol
from sar.storage.locks import RUN_LOCK, try_lock

ROOT = Path(__file__).resolve().parents[1]
STANDIN = "standin_train:main"
TRAIN = "train_base/demo_food/shots_16/CoOp/pocket/seed1"
TEST = "test_new/demo_food/shots_16/CoOp/pocket/seed1"


EPOCHS = ("OPTIM.MAX_EPOCH", "3", "--jobs", "3")
SHORT: dict[str, Any] = {"few-shot": {"shots": [1, 4]}, "ablation": {"studies": ["novel"]}}


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
    assert "test new: not run, because demo_food CoOp seed2: train base: failed: ValueError" in err
    assert [r.key.seed for r in collect(tmp_path).records] == [1]
    assert "no log.txt" in out  # the failed one is listed below the table


def test_a_start_that_got_nowhere_may_be_corrected(tmp_path, capfd):
    with pytest.raises(SystemExit):
        run(tmp_path, "TEST.FAIL", "train_base")
    run(tmp_path)
    assert "train base: unfinished, to resume" in capfd.readouterr().out
    assert epochs(tmp_path) == ["epoch 1", "epoch 2", "epoch 3", "test"]


def test_half_finished_work_of_other_settings_is_left_alone(tmp_path, interrupted, capfd):
    os.killpg(interrupted.pid, signal.SIGINT)
    interrupted.communicate(timeout=20)
    done = epochs(tmp_path)
    with pytest.raises(SystemExit):
        run(tmp_path, "TEST.EPOCH_SECONDS", "0.4", "OPTIM.LR", "0.5")
    assert "OPTIM.LR was 0.1, now 0.5" in capfd.readouterr().err
    assert epochs(tmp_path) == done


def test_finished_work_of_other_settings_is_left_alone(tmp_path, capfd):
    run(tmp_path)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    capfd.readouterr()
    with pytest.raises(SystemExit):
        run(tmp_path, "OPTIM.LR", "0.5")
    err = capfd.readouterr().err
    assert "OPTIM.LR was 0.1, now 0.5" in err
    assert "choose another --output" in err
    assert {p: p.read_bytes() for p in before} == before


@pytest.mark.parametrize("text", ["{} texture.", "a: b: c", "2020-01-01", "[1", "", "~", "- x"])
def test_options_that_look_like_yaml(tmp_path, text):
    job = Job("a", tmp_path, options=("TRAINER.SAR.TEMPLATE", text))
    job.record()
    assert job.changes() == []
    other = Job("a", tmp_path, options=("TRAINER.SAR.TEMPLATE", f"{text}!"))
    assert len(other.changes()) == 1


def test_an_edited_configuration_file_is_noticed(tmp_path, monkeypatch, capfd):
    folder = tmp_path / "configs"
    shutil.copytree(ROOT / "configs", folder)
    monkeypatch.chdir(tmp_path)  # ./configs is looked at before the package's
    run(tmp_path / "out")
    file = folder / "trainers" / "CoOp" / "pocket.yaml"
    text = file.read_text()
    file.write_text("# A remark changes nothing.\n" + text)
    run(tmp_path / "out")
    assert capfd.readouterr().out.count("finished earlier, skipped") == 2
    file.write_text(text.replace("BATCH_SIZE: 32", "BATCH_SIZE: 8"))
    with pytest.raises(SystemExit):
        run(tmp_path / "out")
    assert "DATALOADER.TRAIN_X.BATCH_SIZE was 32, now 8" in capfd.readouterr().err


def test_moved_folder_and_other_root_are_not_other_settings(tmp_path, capfd):
    run(tmp_path / "a", "TEST.EPOCH_SECONDS", "0")
    (tmp_path / "a").rename(tmp_path / "b")
    run(tmp_path / "b", "--root", "/elsewhere", "TEST.EPOCH_SECONDS", "0")
    assert capfd.readouterr().out.count("finished earlier") == 2


def own_pictures(root: Path) -> Path:
    for part in ("train", "test"):
        for name in ("zebra", "okapi"):
            (root / part / name).mkdir(parents=True)
    (root / "classes.yaml").write_text("base: [zebra]\nnew: [okapi]\nnovel: [mule]")
    return root


def test_own_pictures_are_told_apart(tmp_path, monkeypatch, capfd):
    """By their name, by their place and by the classes that a run sees."""
    first, second = (own_pictures(tmp_path / name / "shop") for name in ("first", "second"))

    def start(root: str | Path, *options: str) -> tuple[int, str]:
        options = ("--root", str(root), "--cfg", "pocket", *options)
        try:
            run(tmp_path / "out", *options, datasets="image_folder")
        except SystemExit:
            return 1, capfd.readouterr().err
        return 0, capfd.readouterr().out

    assert start(first)[0] == 0
    assert {p.name for p in (tmp_path / "out" / "train_base").iterdir()} == {"shop"}
    monkeypatch.chdir(tmp_path)
    assert start("first/shop")[1].count("finished earlier") == 2
    status, said = start(second)
    assert status == 1
    assert f'DATASET.ROOT was "{first}", now "{second}"' in said
    assert start(second, "DATASET.TITLE", "the second/shop")[0] == 0
    assert {p.name for p in (tmp_path / "out" / "train_base").iterdir()} == {
        "shop",
        "the-second-shop",
    }
    table = (tmp_path / "out" / "results.csv").read_text()
    assert "shop" in table
    assert "the-second-shop" in table


def test_new_classes_are_tested_again_and_nothing_is_trained(tmp_path, capfd):
    """Finished trainings stay so; the earlier test's log is kept beside the one that counts."""
    root = own_pictures(tmp_path / "shop")

    def start() -> str:
        options = ("--root", str(root), "--cfg", "pocket")
        run(tmp_path / "out", *options, datasets="image_folder", trainers="SAR_CoOp")
        return capfd.readouterr().out

    def again(classes: str) -> str:
        (root / "classes.yaml").write_text(f"base: [zebra]\n{classes}")
        return start()

    start()
    said = again("new: [okapi, horse]\nnovel: [mule]")
    assert "train base: finished earlier, skipped" in said
    assert "test new: of other classes, to test again" in said
    assert start().count("finished earlier") == 2
    said = again("new: [mule]\nnovel: [mule]")  # a stand-in has become a class
    assert "train base: finished earlier, skipped" in said
    test = next((tmp_path / "out" / "test_new").rglob("log.txt")).parent
    kept = {file.name for file in test.glob("*log*")}
    assert kept == {"log.txt", "earlier-1-log.txt", "earlier-2-log.txt"}
    with pytest.raises(SystemExit):
        again("new: [mule]\nnovel: [wolf]")
    assert "train base: started with other settings (content of TRAINER" in capfd.readouterr().err


@pytest.mark.parametrize("key", ["NOVEL", "TEMPLATE"])
def test_files_with_names_are_known_by_content(tmp_path, capfd, key):
    file = tmp_path / "names.txt"
    behind = " {}" if key == "TEMPLATE" else ""
    file.write_text(f"mule{behind}\n")
    options = (f"TRAINER.SAR.{key}", str(file))
    run(tmp_path / "out", *options, trainers="SAR_CoOp")
    run(tmp_path / "out", *options, trainers="SAR_CoOp")
    assert capfd.readouterr().out.count("finished earlier") == 2
    file.write_text(f"wolf{behind}\n")
    with pytest.raises(SystemExit):
        run(tmp_path / "out", *options, trainers="SAR_CoOp")
    assert f"content of TRAINER.SAR.{key} was " in capfd.readouterr().err


def test_novel_names_of_a_class_list_are_read_alone(tmp_path):
    file = own_pictures(tmp_path) / "classes.yaml"
    job = Job("a", tmp_path, options=("TRAINER.SAR.NOVEL", str(file)))
    before = job.settings()
    file.write_text("base: [zebra]\nnew: [okapi, horse]\nnovel: [mule]")
    assert job.settings() == before
    file.write_text("base: [zebra]\nnew: [okapi]\nnovel: [wolf]")
    assert job.settings() != before
    file.write_text("base: [zebra")  # the run itself will say so
    assert "content of TRAINER.SAR.NOVEL" not in job.settings()


def test_a_table_and_a_split_file_that_were_changed_are_noticed(tmp_path):
    own = own_pictures(tmp_path / "own")
    table = own / "images.csv"
    text = "path,label,split\n1.jpg,zebra,train\n2.jpg,zebra,test\n3.jpg,okapi,test\n"
    split = tmp_path / "oxford_pets" / "split_zhou_OxfordPets.json"
    split.parent.mkdir()

    def jobs() -> list[Job]:
        roots = (("image_csv", own), ("oxford_pets", tmp_path))
        plans = [
            BaseToNew(
                output=tmp_path / "out",
                trainers=["CoOp"],
                datasets=[name],
                root=str(root),
                seeds=[1],
            )
            for name, root in roots
        ]
        return [job for plan in plans for job in plan.jobs()]

    def changed() -> list[bool]:
        return ["content of the dataset's lists" in "".join(job.changes()) for job in jobs()]

    for job in jobs():  # as an earlier version, or before the first run has made a split
        job.output.mkdir(parents=True)
        job.record()
    table.write_text(text)
    split.write_text("{}")
    assert not any(changed())
    for job in jobs():
        job.record()
    assert not any(changed())
    table.write_text(text + "4.jpg,okapi,test\n")
    assert changed() == [False, True, False, False]  # training on "zebra", test on "okapi"
    table.write_text(text.replace("1.jpg,zebra,train", "1.jpg,zebra,test"))
    assert changed() == [True, False, False, False]
    split.write_text('{"train": []}')
    assert changed() == [True, False, True, True]


def test_results_of_other_scripts_count_as_finished(tmp_path, capfd):
    run(tmp_path)
    for name in ("command.txt", "settings.json"):
        (tmp_path / TRAIN / name).unlink()
    run(tmp_path)
    assert capfd.readouterr().out.count("finished earlier") == 2


@pytest.mark.parametrize("protocol", ["cross-dataset", "few-shot", "ablation"])
def test_every_protocol_runs_and_is_recorded(tmp_path, capfd, protocol):
    short = {"few-shot": ["--shots", "1,4"], "ablation": ["--studies", "novel"]}.get(protocol, [])
    main([protocol, "--output", str(tmp_path), "--seeds", "1", *short, *EPOCHS], STANDIN)
    total = len(PLANS[protocol](output=tmp_path, seeds=[1], **SHORT.get(protocol, {})).jobs())
    assert capfd.readouterr().out.count("sarclip train ") == total
    recorded = read_protocol(tmp_path)
    assert recorded is not None
    assert (recorded.protocol, recorded.seeds) == (protocol, [1])
    results = collect(tmp_path)
    assert not results.problems
    assert {record.key.variant for record in results.records} == (
        {"baseline", *recorded.variants} if protocol == "ablation" else {""}
    )


def test_trainings_of_another_protocol_are_taken_over(tmp_path, capfd):
    def start(protocol: str, *more: str) -> str:
        output = ("--output", str(tmp_path / protocol), "--seeds", "1", "--trainers", "CoOp")
        main([protocol, *output, *more, *EPOCHS], STANDIN)
        return capfd.readouterr().out

    start("cross-dataset")
    models = ("--models", str(tmp_path / "cross-dataset"))
    listed = start("domain-generalization", *models, "--dry-run")
    assert listed.count(f": to take over from {tmp_path / 'cross-dataset'}") == 1
    text = start("domain-generalization", *models)
    assert "1 finished trainings taken over" in text
    assert text.count("sarclip train ") == 4  # a test of each style
    assert len(collect(tmp_path / "domain-generalization").records) == 5
    assert "0 finished trainings taken over" in start("domain-generalization", *models)
    assert "to take over" not in start("domain-generalization", *models, "--dry-run")
    changed = start("few-shot", *models, "--datasets", "demo_food", "OPTIM.LR", "7")
    assert "0 finished trainings taken over" in changed
    with pytest.raises(DataError, match="--models takes"):
        start("few-shot", "--models", str(tmp_path / "nowhere"))


def test_an_ablation_and_base_to_new_take_each_others_trainings_over(tmp_path, capfd):
    def start(protocol: str, trainers: str, *more: str) -> str:
        output = ("--output", str(tmp_path / f"{protocol} {len(more)}"), "--seeds", "1")
        data = ("--datasets", "demo_food", "--trainers", trainers)
        main([protocol, *output, *data, *more, *EPOCHS], STANDIN)
        return capfd.readouterr().out

    start("base2new", "CoOp")
    models = ("--models", str(tmp_path / "base2new 0"))
    said = start("ablation", "SAR_CoOp", "--studies", "novel", *models)
    assert "1 finished trainings taken over" in said  # the baseline
    back = start("base2new", "CoOp", "--models", str(tmp_path / "ablation 4"))
    assert "1 finished trainings taken over" in back
    logs = {file.read_text() for file in tmp_path.glob("**/train_base/*/*/CoOp/*/seed1/log.txt")}
    assert len(logs) == 1


def test_children_see_their_gpu(tmp_path, capfd):
    sharing = ("--gpus", "3,5", "--per-gpu", "2", "--jobs", "4")
    run(tmp_path, *sharing, "TEST.EPOCH_SECONDS", "0.1", seeds="1,2,3,4,5")
    seen: dict[str, list[tuple[float, float]]] = {}
    for file in sorted(tmp_path.rglob("gpu.txt")):
        gpu, began, ended = file.read_text().split()
        seen.setdefault(gpu, []).append((float(began), float(ended)))
    assert set(seen) == {"3", "5"}
    assert sum(map(len, seen.values())) == 10
    for spans in seen.values():
        at_once = [sum(a <= begin < b for a, b in spans) for begin, _ in spans]
        assert max(at_once) <= 2


def test_slots():
    assert LocalLauncher(2, target=STANDIN).workers == 2
    assert LocalLauncher(None, ["0", "1"], 2, STANDIN).workers == 4
    assert LocalLauncher(3, ["0", "1"], 2, STANDIN).workers == 3


def test_live_table_on_a_terminal(tmp_path):
    screen = io.StringIO()
    job = Job("demo_food CoOp seed1: train base", tmp_path, trains=True)
    (tmp_path / "log.txt").write_text("epoch [2/10] batch [5/5] loss 1\nepoch [3/10] batch [1/5]\n")
    with Progress(4, Console(file=screen, force_terminal=True, width=100)) as progress:
        progress.say("a line [that is] *not* markup")
        progress.count(ok=False)
        progress.show([job])
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue())
    assert "a line [that is] *not* markup" in shown
    assert re.search(r"demo_food CoOp seed1: train base +epoch 3/10 +0:00", shown)
    assert re.search(r"1 failed .* 1/4", shown)


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
    job = Job("a", tmp_path)
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from pathlib import Path; from sar.storage.locks import try_lock\n"
        f"lock = try_lock(Path({str(tmp_path / RUN_LOCK)!r})); print('locked', flush=True)\n"
        "import time; time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "locked\n"
    assert job.state() is State.LOCKED
    assert try_lock(tmp_path / RUN_LOCK) is None
    holder.kill()
    holder.wait()
    assert job.state() is State.NEW


# --- interruptions ---------------------------------------------------------------------------


def launch(output: Path, *options: str, stdout: int = subprocess.PIPE) -> subprocess.Popen[str]:
    """A launcher as a process of its own, leader of its own process group like in a shell."""
    code = (
        "import sar.protocols.local as local; local._PRELOAD = (local.__name__,)\n"
        # A suite started in the background ignores SIGINT, and hands that on.
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from sar.command_line.signals import listen; listen()\n"
        "import sys; from sar.protocols.cli import main; main(sys.argv[1:], "
        f"{STANDIN!r})"
    )
    path = os.pathsep.join((str(ROOT), str(ROOT / "tests" / "support")))
    return subprocess.Popen(
        [
            *(sys.executable, "-c", code),
            *command(output, *options, seeds="1,2,3", trainers="CoOp"),
        ],
        stdout=stdout,
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


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGHUP])
def test_other_signals_do_what_ctrl_c_does(tmp_path, interrupted, sent):
    (victim,) = pids_in(tmp_path / TRAIN)
    os.kill(victim, signal.SIGSTOP)  # it has to end all the same
    interrupted.send_signal(sent)
    interrupted.send_signal(sent)  # again, while it stops its jobs
    text, _ = interrupted.communicate(timeout=20)
    assert interrupted.returncode == 128 + sent
    said = rf"interrupted by {sent.name}: \d of 6 jobs are finished; the same command continues"
    assert re.search(said, text)
    assert "Traceback" not in text
    assert not pids_in(tmp_path / TRAIN)
    assert not Path(f"/proc/{victim}").exists()
    finish_and_check(tmp_path)


def test_the_terminal_has_its_cursor_back(tmp_path):
    ours, theirs = os.openpty()
    process = launch(tmp_path, "TEST.EPOCH_SECONDS", "2", stdout=theirs)
    os.close(theirs)
    shown = b""
    while b"\x1b[?25l" not in shown or b"epoch 1" not in shown:  # hidden, while the table is live
        shown += os.read(ours, 1 << 16)
    process.terminate()
    with contextlib.suppress(OSError):  # the end of it
        while True:
            shown += os.read(ours, 1 << 16)
    assert process.wait(20) == 128 + signal.SIGTERM
    assert shown.rfind(b"\x1b[?25h") > shown.rfind(b"\x1b[?25l")
    assert b"the same command continues" in shown


def test_a_job_ends_at_its_time_limit(tmp_path):
    """Also one that is stopped."""
    job = Job("a", tmp_path, ("--seed", "1"), trains=True)
    options = ("OPTIM.MAX_EPOCH", "3", "DATASET.SUBSAMPLE_CLASSES", "base", "TEST.EPOCH_SECONDS")
    slow, quick = (replace(job, options=(*options, seconds)) for seconds in ("60", "0"))
    launcher = LocalLauncher(1, target=STANDIN, minutes=0.1)
    (outcome,) = launch_jobs([replace(quick, output=tmp_path / "other")], launcher, Progress(1))
    assert outcome.ok  # by now the fork server is there, and starts are quick

    def stop() -> None:
        wait_until(lambda: pids_in(slow.output), 5)
        os.kill(pids_in(slow.output)[0], signal.SIGSTOP)

    stopping = threading.Thread(target=stop)
    stopping.start()
    (outcome,) = launch_jobs([slow], launcher, Progress(1))
    stopping.join()
    assert not outcome.ok
    assert "ended at its time limit (--time 0.1); the next start continues" in outcome.message
    assert launch_jobs([quick], launcher, Progress(1))[0].ok


def test_who_is_waited_for_is_said(tmp_path, capfd):
    job = Job("a", tmp_path, ("--seed", "1"), trains=True)
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from pathlib import Path; from sar.storage.locks import try_lock\n"
        f"lock = try_lock(Path({str(tmp_path / RUN_LOCK)!r})); print('locked', flush=True)\n"
        "import time; time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"locked\n"
        assert job.occupied().startswith(f"running in process {other.pid} (")
        other.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, other.pid, os.WSTOPPED)
        threading.Timer(1.5, other.kill).start()
        options = (*EPOCHS[:2], "DATASET.SUBSAMPLE_CLASSES", "base")
        waiting = replace(job, options=options)
        assert launch_jobs([waiting], LocalLauncher(1, target=STANDIN), Progress(1))[0].ok
    said = capfd.readouterr().out.splitlines()[0]
    assert said.startswith(f"a: waits, running in process {other.pid} (")
    assert said.endswith(f"; it is stopped: `kill -CONT {other.pid}` continues it")


@pytest.mark.parametrize("stopped", [False, True])
def test_killed_launcher_takes_its_jobs_along(tmp_path, interrupted, stopped):
    """A stopped job does nothing until it is continued, and nothing more then."""
    victims = pids_in(tmp_path / TRAIN) if stopped else []
    for victim in victims:
        os.kill(victim, signal.SIGSTOP)
    interrupted.kill()
    for victim in victims:
        time.sleep(0.5)
        os.kill(victim, signal.SIGCONT)
    job = Job("a", tmp_path / TRAIN, trains=True)
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


def test_nothing_here_imports_torch():
    code = "import sys, sar.protocols.cli, sar.results.cli\nsys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_no_jobs():
    assert launch_jobs([], LocalLauncher(1, target=STANDIN), Progress(0)) == []
