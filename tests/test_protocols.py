"""Protocols: which jobs there are, and that each runs once, is resumed, and never overwritten.

The jobs are those of a stand-in for `sarclip train`; processes, locks and signals are real.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from sar.errors import ConfigError, DataError
from sar.protocols import configs
from sar.protocols.ablation import Ablation
from sar.protocols.all_classes import CrossDataset, DomainGeneralization, FewShot
from sar.protocols.base2new import BaseToNew
from sar.protocols.cli import PLANS, main
from sar.protocols.jobs import Job, State, try_lock
from sar.protocols.launcher import run as launch_jobs
from sar.protocols.local import LocalLauncher
from sar.protocols.progress import Progress
from sar.results import collect
from sar.results.layout import locate
from sar.results.protocol import read_protocol

ROOT = Path(__file__).resolve().parents[1]
STANDIN = "standin_train:main"
TRAIN = "train_base/demo_food/shots_16/CoOp/pocket/seed1"
TEST = "test_new/demo_food/shots_16/CoOp/pocket/seed1"


EPOCHS = ("OPTIM.MAX_EPOCH", "3", "--jobs", "3")
SHORT = {"few-shot": {"shots": [1, 4]}, "ablation": {"studies": ["novel"]}}


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
    jobs = BaseToNew(output=Path("out")).jobs()
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
        plan = BaseToNew(
            output=Path("out"), datasets=["demo_food"], trainers=["SAR_CoOp"], options=options
        )
        words = plan.jobs()[1].argv()
        return int(words[words.index("--load-epoch") + 1])

    file = configs.config_path("trainers", "SAR_CoOp", "pocket")
    assert load_epoch() == configs.setting("OPTIM.MAX_EPOCH", [file])
    assert load_epoch("OPTIM.MAX_EPOCH", "7", "OPTIM.MAX_EPOCH", "9") == 9


def test_flags_come_before_options_and_sar_options_reach_sar_only():
    plain, _, sar, _ = BaseToNew(
        output=Path("out"),
        datasets=["demo_food"],
        seeds=[1],
        trainers=["CoOp", "SAR_CoOp"],
        options=["TRAINER.SAR.WEIGHT", "4", "OPTIM.LR", "0.1"],
    ).jobs()
    assert plain.argv()[-2:] == ["OPTIM.LR", "0.1"]
    assert "TRAINER.SAR.WEIGHT" not in plain.argv()
    assert "TRAINER.SAR.WEIGHT" in sar.argv()
    words = sar.argv()
    last_flag = max(i for i, word in enumerate(words) if word.startswith("--"))
    assert last_flag < words.index("DATASET.NUM_SHOTS")
    assert shlex.split(sar.command()) == ["sarclip", *sar.argv()]


def published(protocol: str, **where) -> dict[str, set[tuple[str, str]]]:
    """Trainer -> configuration and last epoch of its trainings."""
    plan = PLANS[protocol](
        output=Path("o"),
        root="/data",
        trainers=["CoOp", "SAR_CoOp", "CoCoOp", "KgCoOp", "MaPLe", "SAR_PromptSRC"],
        **where,
    )
    found: dict[str, set[tuple[str, str]]] = {}
    for job in plan.jobs():
        if job.trains:
            epochs = str(job.settings()["OPTIM.MAX_EPOCH"])
            trainer = job.flags[job.flags.index("--trainer") + 1]
            found.setdefault(trainer, set()).add((job.files[1].stem, epochs))
    return found


def test_published_configurations():
    pets = published("base2new", datasets=["oxford_pets"])
    assert pets["CoOp"] == pets["SAR_CoOp"] == {("vit_b16_ctxv1", "200")}
    assert pets["MaPLe"] == {("vit_b16_c2_ep5_batch4_2ctx", "5")}
    assert published("base2new", datasets=["imagenet"])["CoOp"] == {("vit_b16_ep50_ctxv1", "50")}
    for protocol in ("cross-dataset", "domain-generalization"):
        assert published(protocol, source="imagenet") == {
            "CoOp": {("vit_b16_ep50_ctxv1", "50")},
            "SAR_CoOp": {("vit_b16_ep50_ctxv1", "50")},
            "CoCoOp": {("vit_b16_c4_ep10_batch1_ctxv1", "10")},
            "KgCoOp": {("vit_b16_ep100_ctxv1", "100")},
            "MaPLe": {("vit_b16_c2_ep5_batch4_2ctx_cross_datasets", "2")},
            "SAR_PromptSRC": {("vit_b16_c2_ep20_batch4_4+4ctx_cross_datasets", "20")},
        }
    few = published("few-shot", datasets=["dtd"])
    assert few["CoOp"] == {("vit_b16", "200"), ("vit_b16_ep100", "100"), ("vit_b16_ep50", "50")}
    assert few["SAR_PromptSRC"] == {("vit_b16_c2_ep50_batch4_4+4ctx_few_shot", "50")}


def test_published_options_of_few_shot_datasets():
    plan = FewShot(output=Path("o"), root="/d", datasets=["dtd", "food101"], trainers=["PromptSRC"])
    means = {
        job.title.split()[0]: job.settings()["TRAINER.PROMPTSRC.GPA_MEAN"] for job in plan.jobs()
    }
    assert means == {"dtd": 45, "food101": 30}


@pytest.mark.parametrize(
    ("kind", "source", "targets"),
    [
        (CrossDataset, "imagenet", set(configs.DATASET_GROUPS["all"]) - {"imagenet"}),
        (CrossDataset, "demo_food", {"demo_animals", "demo_objects", "demo_travel"}),
        (
            DomainGeneralization,
            "imagenet",
            {"imagenetv2", "imagenet_sketch", "imagenet_a", "imagenet_r"},
        ),
        (DomainGeneralization, "demo_food", {"demo_food_contrast", "demo_food_fx"}),
    ],
)
def test_a_model_is_trained_once_and_tested_on_every_target(kind, source, targets):
    plan = kind(output=Path("/o"), root="/d", source=source, seeds=[1, 2], trainers=["CoOp"])
    jobs = plan.jobs()
    trainings = [job for job in jobs if job.trains]
    assert [str(job.output) for job in trainings] == [
        f"/o/{source}/CoOp/{trainings[0].files[1].stem}_16shots/seed{seed}" for seed in (1, 2)
    ]
    for training in trainings:
        tests = [job for job in jobs if job.needs == training.output]
        places = [locate(job.output) for job in tests]
        assert {place.key.dataset for place in places if place} == targets
        assert {place.part for place in places if place} == {"evaluation"}
        for job in tests:
            assert job.flags[job.flags.index("--model-dir") + 1] == str(training.output)
            assert job.files[1] == training.files[1]
            assert "DATASET.NUM_SHOTS" not in job.options


def test_zero_shot_is_tested_everywhere_once():
    for kind in (CrossDataset, DomainGeneralization, FewShot, BaseToNew):
        jobs = kind(output=Path("o"), trainers=["ZeroshotCLIP"]).jobs()
        assert not any(job.trains or job.needs for job in jobs)
        assert len({(job.files[0], job.subset) for job in jobs}) == len(jobs)


def test_ablation_trains_every_variant_once():
    plan = Ablation(output=Path("/o"), datasets=["demo_food"], seeds=[1])
    jobs = plan.jobs()
    assert len(jobs) == len({job.output for job in jobs}) == len({job.title for job in jobs})
    trained = {job.output.parts[2]: job for job in jobs if job.trains}
    assert set(trained) == {"baseline", *plan.variants()}
    assert {"weight_0.25", "novel_none", "novel_words150", "weight_1.0"} < set(trained)
    assert trained["weight_0.25"].settings()["TRAINER.SAR.WEIGHT"] == 0.25
    assert "TRAINER.SAR.WEIGHT" not in trained["baseline"].settings()
    assert plan.record().variants["novel_none"] == ["TRAINER.SAR.NOVEL", "none"]
    assert {p.key.variant for job in jobs if (p := locate(job.output, Path("/o")))} == set(trained)


def test_shots_are_part_of_the_job():
    jobs = FewShot(output=Path("/o"), datasets=["demo_food"], trainers=["CoOp"], seeds=[1]).jobs()
    places = [place for job in jobs if (place := locate(job.output))]
    assert [place.key.shots for place in places] == [1, 2, 4, 8, 16]
    assert [job.settings()["DATASET.NUM_SHOTS"] for job in jobs] == [1, 2, 4, 8, 16]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--datasets", "demo_foot"], "demo_food"),
        (["--trainers", "SAR_Coop"], "ZeroshotCLIP, .*CoOp"),
        (["--cfg", "vit_b61"], "pocket"),
        (["--datasets", "oxford_pets"], "--root"),
        (["OPTIM.LR"], "KEY VALUE"),
        (["--per-gpu", "2"], "--gpus"),
    ],
)
def test_wrong_arguments_say_what_exists(tmp_path, arguments, message):
    with pytest.raises(ConfigError, match=message):
        main(["base2new", "--output", str(tmp_path / "out"), *arguments], STANDIN)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["cross_dataset"], "cross-dataset"),
        (["cross-dataset", "--source", "oxford_pets", "--root", "/d"], "--targets"),
        (["cross-dataset", "--targets", "demo_foot"], "demo_food"),
        (["ablation", "--studies", "wait"], "weight"),
        (["ablation", "--trainers", "CoOp"], "SAR_X"),
    ],
)
def test_wrong_arguments_of_the_protocols(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=message):
        main(arguments, STANDIN)
    assert not list(tmp_path.iterdir())


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
    assert "test new: not run, because demo_food CoOp seed2: train base: failed: ValueError" in err
    assert [r.key.seed for r in collect(tmp_path).records] == [1]
    assert "no log.txt" in out  # the failed one is listed below the table


def test_finished_or_half_finished_work_of_other_settings_is_left_alone(tmp_path, capfd):
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
    monkeypatch.setattr(configs, "_root", lambda: folder)
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
    text = start("domain-generalization", *models)
    assert "1 finished trainings taken over" in text
    assert text.count("sarclip train ") == 2  # the tests
    assert len(collect(tmp_path / "domain-generalization").records) == 3
    assert "0 finished trainings taken over" in start("domain-generalization", *models)
    changed = start("few-shot", *models, "--datasets", "demo_food", "OPTIM.LR", "7")
    assert "0 finished trainings taken over" in changed
    with pytest.raises(DataError, match="--models takes"):
        start("few-shot", "--models", str(tmp_path / "nowhere"))


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


def script(
    *arguments: str, cwd: Path, name: str = "base2new", **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(ROOT / "scripts" / "sar" / f"{name}.sh"), *arguments],
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


def test_scripts_of_the_other_protocols(tmp_path):
    for name, environment, arguments, jobs, folder in (
        ("xd", {}, "imagenet|1 2|MaPLe", 22, "evaluation/MaPLe/vit_b16_c2_ep5_batch4_2ctx_cross"),
        ("xd", {"TARGETS": "dtd"}, "food101|1|CoOp", 2, "food101/CoOp/"),
        ("dg", {}, "imagenet|1|CoOp", 5, "evaluation/CoOp/vit_b16_ep50_ctxv1_16shots/imagenet_a/"),
        ("fewshot", {"SHOTS": "2 8"}, "dtd|1|CoOp", 2, "dtd/CoOp/vit_b16_8shots/seed1"),
        ("ablation", {"STUDIES": "novel"}, "dtd|1", 4 + 3 * 2, "novel_words150/train_base/"),
    ):
        done = script(
            *(*arguments.split("|"), "--dry-run"),
            name=name,
            cwd=tmp_path,
            DATA="/data",
            OUTPUT="here",
            **environment,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("  sarclip train --root /data ") == jobs
        assert f"here/{folder}" in done.stdout


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


def test_real_models_meet_another_style(tmp_path):
    import torch
    from toolbox_mini import PIXELS, random_clip

    torch.save(random_clip().state_dict(), tmp_path / "clip.pt")
    done = script(
        *("demo_food", "1", "SAR_CoOp"),
        *("MODEL.BACKBONE.NAME", str(tmp_path / "clip.pt"), "INPUT.SIZE", f"({PIXELS},{PIXELS})"),
        *("OPTIM.MAX_EPOCH", "1"),
        name="dg",
        cwd=tmp_path,
        OUTPUT="out",
        SHOTS="1",
        XDG_CACHE_HOME=str(tmp_path / "cache"),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    results = collect(tmp_path / "out")
    assert not results.problems
    assert [(r.key.dataset, r.key.trainer) for r in results.records] == [
        ("demo_food", "SAR_CoOp"),
        ("demo_food_contrast", "SAR_CoOp"),
        ("demo_food_fx", "SAR_CoOp"),
    ]
    (folder,) = tmp_path.glob("out/evaluation/SAR_CoOp/*/demo_food_fx/seed1")
    assert (
        "total: 490" in (folder / "log.txt").read_text()
    )  # of the 49 classes that this style draws


def test_nothing_here_imports_torch():
    code = "import sys, sar.protocols.cli, sar.results.cli\nsys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_no_jobs():
    assert launch_jobs([], LocalLauncher(1, target=STANDIN), Progress(0)) == []
