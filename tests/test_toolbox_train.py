"""Whole runs of the toolbox: training, testing, interruption, mistakes."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from toolbox_mini import MiniPets, arguments, make_cfg, write_world

from sar import cli
from sar.errors import ConfigError, SARError, WeightsError
from sar.toolbox.clip import PRECISIONS, clip
from sar.toolbox.data import DATASET_REGISTRY
from sar.toolbox.engine import TRAINER_REGISTRY, build_trainer, checkpointing
from sar.toolbox.registered import register_builtin
from sar.toolbox.train import main
from sar.toolbox.trainers.coop import CoOp
from sar.toolbox.utils import load_checkpoint

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("world")
    write_world(root)
    main([*arguments(root, root / "draw"), "--no-train"])  # runs differ in who draws the shots
    return root


def checkpoint(output: Path, epoch: int) -> dict:
    return load_checkpoint(output / "prompt_learner" / f"model.pth.tar-{epoch}")


def assert_equal(ours, theirs, where="checkpoint"):
    assert type(ours) is type(theirs), where
    if isinstance(ours, torch.Tensor):
        assert torch.equal(ours, theirs), where
    elif isinstance(ours, dict):
        assert ours.keys() == theirs.keys(), where
        for key in ours:
            assert_equal(ours[key], theirs[key], f"{where}.{key}")
    elif isinstance(ours, list | tuple):
        assert len(ours) == len(theirs), where
        for i, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            assert_equal(a, b, f"{where}[{i}]")
    else:
        assert ours == theirs, where


def test_a_killed_run_ends_in_the_weights_of_an_uninterrupted_one(world, tmp_path):
    options = ("TRAIN.CHECKPOINT_FREQ", "2", "TEST.FINAL_MODEL", "best_val")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    main([*arguments(world, whole), *options])

    script = ROOT / "tests" / "support" / "toolbox_mini.py"
    process = subprocess.run(
        [sys.executable, str(script), *arguments(world, killed), *options],
        env={**os.environ, "SAR_TEST_KILL": "3,2", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=False,
    )
    assert process.returncode == -signal.SIGKILL, process.stderr
    assert (killed / "prompt_learner" / "checkpoint").read_text() == "model.pth.tar-2\n"
    assert not (killed / "prompt_learner" / "model.pth.tar-4").exists()
    assert "=> result" in (killed / "log.txt").read_text()  # validation; written line by line

    main([*arguments(world, killed), *options])
    ours, theirs = checkpoint(killed, 5), checkpoint(whole, 5)
    assert ours.pop("config") != theirs.pop("config")  # OUTPUT_DIR
    assert_equal(ours, theirs)
    log = (killed / "log.txt").read_text()
    assert "log continued at" in log
    assert "Resuming after epoch 2" in log
    results = log.rpartition("Finish training")[2].partition("Elapsed")[0].splitlines()[-6:]
    assert results == (whole / "log.txt").read_text().rpartition("Elapsed")[0].splitlines()[-6:]


def test_a_training_that_is_all_warm_up_says_so(world, tmp_path, capsys):
    note = "Note: the whole training is warm-up (OPTIM.MAX_EPOCH 1, WARMUP_EPOCH 1)"
    for options, said in (((), 1), (("OPTIM.WARMUP_EPOCH", "0"), 0)):
        output = tmp_path / str(said)
        main([*arguments(world, output), *options, "OPTIM.MAX_EPOCH", "1", "TEST.NO_TEST", "True"])
        assert capsys.readouterr().out.count(note) == said
    main([*arguments(world, tmp_path / "zero", trainer="ZeroshotCLIP"), "OPTIM.MAX_EPOCH", "1"])
    assert note not in capsys.readouterr().out


def test_ctrl_c_says_that_the_same_command_continues(world, tmp_path, monkeypatch, capsys):
    argv = [*arguments(world, tmp_path), "TRAIN.CHECKPOINT_FREQ", "2"]
    with monkeypatch.context() as patch:
        step = CoOp.forward_backward

        def forward_backward(self, batch):
            if self.epoch == 3:
                signal.raise_signal(signal.SIGINT)
            return step(self, batch)

        patch.setattr(CoOp, "forward_backward", forward_backward)
        # A suite started in the background ignores SIGINT.
        former = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            with pytest.raises(SystemExit) as done:
                cli.main(["train", *argv])
        finally:
            signal.signal(signal.SIGINT, former)
    assert done.value.code == 130
    assert capsys.readouterr().err.strip() == "interrupted; the same command continues"
    main(argv)
    assert "Resuming after epoch 2" in (tmp_path / "log.txt").read_text()


def test_an_output_folder_that_cannot_be_made_is_named(world, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        SARError, match=r"cannot write .*file/run: a file is in the way.*--output-dir"
    ):
        main(arguments(world, tmp_path / "file" / "run"))


def test_rerunning_a_finished_run_only_tests_it(world, tmp_path):
    main(arguments(world, tmp_path))
    before = checkpoint(tmp_path, 5)["state_dict"]["ctx"]
    main(arguments(world, tmp_path))
    log = (tmp_path / "log.txt").read_text()
    assert log.count("epoch [5/5]") == log[: log.index("log continued")].count("epoch [5/5]")
    assert log.count("Finish training") == 2
    assert torch.equal(checkpoint(tmp_path, 5)["state_dict"]["ctx"], before)


def test_a_recent_checkpoint_is_kept_between_those_asked_for(world, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpointing, "AUTOSAVE_SECONDS", 0.0)
    kept = []
    trainer = TRAINER_REGISTRY.get("CoOp")
    original = trainer.after_epoch

    def after_epoch(self):
        original(self)
        folder = tmp_path / "prompt_learner"
        kept.append(sorted(int(p.name.rpartition("-")[2]) for p in folder.glob("model.*")))
        assert (folder / "checkpoint").read_text().strip().endswith(f"-{self.epoch + 1}")

    monkeypatch.setattr(trainer, "after_epoch", after_epoch)
    main([*arguments(world, tmp_path), "TRAIN.CHECKPOINT_FREQ", "3"])
    assert kept == [[1], [2], [3], [3, 4], [3, 5]]


def test_base_to_new(world, tmp_path, capsys):
    """Train on base classes, test on new ones; the checkpoint's class names do not matter."""
    main(arguments(world, tmp_path / "base"))
    trained = capsys.readouterr().out
    assert "# classes  4" in trained
    flags = ("--eval-only", "--model-dir", str(tmp_path / "base"), "--load-epoch", "5")
    argv = arguments(world, tmp_path / "new", *flags)
    main([*argv, "DATASET.SUBSAMPLE_CLASSES", "new"])
    tested = capsys.readouterr().out
    assert "# classes  3" in tested
    assert "* total: 12" in tested  # 3 classes, 4 test images each
    assert not (tmp_path / "new" / "prompt_learner").exists()
    with pytest.raises(WeightsError, match="other classes"):
        main([*arguments(world, tmp_path / "base"), "DATASET.SUBSAMPLE_CLASSES", "new"])
    with pytest.raises(WeightsError, match=r"model\.pth\.tar-5"):
        main([word.replace("5", "7") if word == "5" else word for word in argv])


@pytest.mark.parametrize(("size", "batches"), [(4, 4), (5, 3), (32, 1)])
def test_a_last_smaller_batch_is_left_out_unless_it_is_all(world, tmp_path, size, batches):
    options = ("DATALOADER.TRAIN_X.BATCH_SIZE", str(size))
    trainer = build_trainer(make_cfg([*arguments(world, tmp_path), *options]))
    assert len(list(trainer.train_loader_x)) == batches  # of 16 images


def test_zero_shot(world, tmp_path, capsys):
    main(arguments(world, tmp_path, trainer="ZeroshotCLIP"))
    out = capsys.readouterr().out
    assert "a photo of a great pyrenees" not in out  # a new class
    assert "'a photo of a basset hound.'" in out
    assert "* total: 16" in out


@pytest.mark.parametrize("precision", PRECISIONS)
def test_precisions_train(world, tmp_path, precision):
    options = ("TRAINER.COOP.PREC", precision, "OPTIM.MAX_EPOCH", "2")
    trainer = build_trainer(make_cfg([*arguments(world, tmp_path), *options]))
    learner = trainer.model.prompt_learner
    before = learner.ctx.detach().clone()
    trainer.train()
    low = {"fp16": torch.float16, "bf16": torch.bfloat16}
    assert learner.ctx.dtype == low.get(precision, torch.float32)
    assert not torch.equal(learner.ctx, before)
    assert [n for n, p in trainer.model.named_parameters() if p.requires_grad] == [
        "prompt_learner.ctx"
    ]


def test_texts_are_encoded_once_per_evaluation(world, tmp_path):
    trainer = build_trainer(make_cfg(arguments(world, tmp_path)))
    calls = []
    trainer.model.text_encoder.register_forward_hook(lambda *args: calls.append(1))
    images = torch.rand(3, 3, 32, 32)
    trainer.test()
    assert len(calls) == 1
    assert len(trainer.test_loader) > 1
    with torch.no_grad():
        first = trainer.model(images)
        trainer.model.prompt_learner.ctx.normal_()
        second = trainer.model(images)
        with trainer.model.text_encoded_once():
            assert torch.equal(trainer.model(images), second)
            assert torch.equal(trainer.model(images), second)
    assert len(calls) == 4
    assert not torch.allclose(first, second)


def test_output_is_given_back_and_seed_0_counts(world, tmp_path):
    before = sys.stdout
    main([*arguments(world, tmp_path), "--seed", "0", "--no-train"])
    assert sys.stdout is before
    log = (tmp_path / "log.txt").read_text()
    assert "Setting fixed seed: 0" in log
    assert "SEED: 0" in log
    assert not (tmp_path / "prompt_learner").exists()


def without_input(world: Path, folder: Path) -> list[str]:
    """Arguments for the world's configuration without what the CLIP says, too."""
    lines = (world / "mini.yaml").read_text().splitlines()
    short = [line for line in lines if not line.startswith(("  SIZE:", "  PIXEL_"))]
    assert len(short) == len(lines) - 3
    (folder / "short.yaml").write_text("\n".join(short))
    return ["--config-file", str(folder / "short.yaml")]


def test_what_the_clip_takes_need_not_be_said(world, tmp_path):
    """Size and mean of the pictures come from the CLIP; saying them changes nothing."""
    main(arguments(world, tmp_path / "said"))
    main([*arguments(world, tmp_path / "left out"), *without_input(world, tmp_path)])
    left_out, typed = checkpoint(tmp_path / "left out", 5), checkpoint(tmp_path / "said", 5)
    assert torch.equal(left_out["state_dict"]["ctx"], typed["state_dict"]["ctx"])
    assert left_out["config"] == typed["config"].replace("/said", "/left out")
    main([*arguments(world, tmp_path / "other"), "INPUT.PIXEL_MEAN", "[0.5, 0.5, 0.5]"])
    other = checkpoint(tmp_path / "other", 5)
    assert not torch.equal(left_out["state_dict"]["ctx"], other["state_dict"]["ctx"])


def test_a_backbone_of_ones_own_is_one_record(world, tmp_path):
    page = Path(__file__).parent.parent / "docs" / "add-a-backbone.md"
    code = page.read_text(encoding="utf-8").partition("```python\n")[2].partition("```")[0]
    file = tmp_path / "my_clips.py"
    file.write_text(code.replace("clip.pt", str(world / "clip.pt")), encoding="utf-8")
    own = ("--import", str(file), "--backbone", "mine", *without_input(world, tmp_path))
    main(arguments(world, tmp_path / "out", *own))
    config = checkpoint(tmp_path / "out", 5)["config"]
    assert "NAME: mine" in config
    assert "PIXEL_MEAN:\n  - 0.5\n" in config


MISTAKES = {
    "TRAINER.COOP.NCTX 4": "did you mean TRAINER.COOP.N_CTX",
    "TRAINER.NAME coop": "did you mean CoOp?",
    "DATASET.NAME Food": "MiniPets",
    "DATASET.SUBSAMPLE_CLASSES old": "all, base, new",
    "MODEL.BACKBONE.NAME ViT-B16": "ViT-B/16",
    "TRAINER.COOP.PREC half": "fp32, fp16, bf16, amp",
    "TRAINER.COOP.CLASS_TOKEN_POSITION begin": "end, middle, front",
    "INPUT.SIZE (224,224)": "takes 32 x 32 pixels",
    "INPUT.PIXEL_MEAN [0.5]": "expected a list of 0 or 3",
    "INPUT.TRANSFORMS ('flip',)": "random_flip",
    "OPTIM.NAME lion": "sgd",
    "OPTIM.MAX_EPOCH 0": "from 1",
    "OPTIM.LR quick": "expected a float",
    "OPTIM.LR": "KEY VALUE pairs",
    "--modeldir x": "--modeldir",
    "--config-file configs/trainers/CoOp/none.yaml": "pocket.yaml",
}


def failure(capsys, *argv: str) -> str:
    """The one line on standard error that a command leaves which cannot do what it is told."""
    with pytest.raises(SystemExit) as stop:
        cli.main(["train", *argv])
    (line,) = capsys.readouterr().err.splitlines()
    assert stop.value.code == (2 if line.endswith("see sarclip train --help") else 1)
    return line


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line(world, tmp_path, capsys, mistake):
    error = failure(capsys, *arguments(world, tmp_path), *mistake.split(" "))
    assert MISTAKES[mistake] in error


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_image_is_named(tmp_path, capsys, workers):
    write_world(tmp_path)
    image = tmp_path / "oxford_pets" / "images" / "beagle_test1.png"
    image.write_bytes(image.read_bytes()[:100])
    argv = arguments(tmp_path, tmp_path / "out", "--eval-only", trainer="ZeroshotCLIP")
    error = failure(capsys, *argv, "DATALOADER.NUM_WORKERS", str(workers))
    assert error.startswith(f"error: cannot read image {image}")
    assert "Error: cannot read image" in (tmp_path / "out" / "log.txt").read_text()


def test_released_weights_that_cannot_be_had(world, tmp_path, monkeypatch):
    def offline(url, root):
        raise OSError("no network")

    monkeypatch.setattr(clip, "_download", offline)
    argv = [*arguments(world, tmp_path), "MODEL.BACKBONE.NAME", "ViT-B/16"]
    with pytest.raises(SARError, match=r"ViT-B-16\.pt.*no network.*pocket"):
        main(argv)


def test_the_test_set_chooses_no_model(world, tmp_path):
    class WithoutValidation(MiniPets):
        def __init__(self, cfg):
            super().__init__(cfg)
            self.val = None

    DATASET_REGISTRY.register(WithoutValidation)
    argv = [*arguments(world, tmp_path), "DATASET.NAME", "WithoutValidation"]
    for option in (("TEST.FINAL_MODEL", "best_val"), ("TEST.SPLIT", "val")):
        with pytest.raises(ConfigError, match="no validation images"):
            main([*argv, *option])
    trainer = build_trainer(make_cfg(argv))
    with pytest.raises(ConfigError, match="no validation images"):
        trainer.test(split="val")


def test_trainers_form_one_chain():
    """A trainer is read upwards: every class has one parent, and there are few."""
    register_builtin()
    ours = [t for t in TRAINER_REGISTRY.registered() if t.__module__.startswith("sar.toolbox.")]
    assert len(ours) >= 6
    for trainer in ours:
        assert all(len(parent.__bases__) <= 1 for parent in trainer.__mro__)
        assert len(trainer.__mro__) <= 7  # with `object`


def test_too_long_prompts(world, tmp_path):
    with pytest.raises(ConfigError, match="has 81 tokens, and CLIP takes 77"):
        main([*arguments(world, tmp_path), "TRAINER.COOP.N_CTX", "75"])


def test_many_runs_in_forked_workers(world, tmp_path):
    """As a launcher does: the parent has imported everything, each run is a fork of it."""
    pids = []
    for run in range(2):
        pid = os.fork()
        if pid == 0:
            try:
                main(arguments(world, tmp_path / str(run)))
                os._exit(0)
            finally:
                os._exit(1)
        pids.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0, 0]
    first, second = (checkpoint(tmp_path / str(run), 5) for run in range(2))
    assert torch.equal(first["state_dict"]["ctx"], second["state_dict"]["ctx"])


def test_two_models_killed_between_their_files(tmp_path, world):
    """The model that is ahead goes back to the epoch both have."""

    class Pair(CoOp):
        def build_model(self):
            super().build_model()
            self.other = torch.nn.Linear(2, 2)
            self.register_model("other", self.other)

    cfg = make_cfg(arguments(world, tmp_path))
    trainer = Pair(cfg)
    states = []
    for epoch in range(2):
        with torch.no_grad():
            trainer.other.weight.fill_(epoch)
            trainer.model.prompt_learner.ctx.fill_(epoch)
        trainer.save_model(epoch, str(tmp_path))
        states.append(torch.get_rng_state())
        torch.rand(1)
    (tmp_path / "other" / "model.pth.tar-2").unlink()
    (tmp_path / "other" / "checkpoint").write_text("model.pth.tar-1\n")

    fresh = Pair(cfg)
    assert fresh.resume_model_if_exist(str(tmp_path)) == 1
    assert (fresh.other.weight == 0).all()
    assert (fresh.model.prompt_learner.ctx == 0).all()
    assert torch.equal(torch.get_rng_state(), states[0])


def test_checkpoints_hold_what_a_reader_needs(world, tmp_path):
    main(arguments(world, tmp_path))
    state = checkpoint(tmp_path, 5)
    dassl = {"state_dict", "epoch", "optimizer", "scheduler", "val_result"}
    assert dassl | {"config", "classnames", "clip", "run"} == state.keys()
    assert state["classnames"] == ["abyssinian", "basset hound", "beagle", "bengal"]
    assert "N_CTX: 4" in state["config"]
