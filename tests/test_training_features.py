"""Shared training features: encoded once for all that see the same, and the same bit for bit."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from toolbox_mini import arguments, make_cfg

from sar.config import add_sar_config
from sar.errors import ConfigError
from sar.host import register
from sar.toolbox.clip import PRECISIONS
from sar.toolbox.engine import build_trainer
from sar.toolbox.registered import register_builtin
from sar.toolbox.run_arguments import parse_arguments
from sar.toolbox.train import setup_cfg
from sar.toolbox.training_features import TrainingFeatures
from sar.toolbox.utils import load_checkpoint, set_random_seed

ROOT = Path(__file__).parents[1]
SAR = ("TRAINER.SAR.NOVEL", "words:5", "TRAINER.SAR.SAMPLE_SIZE", "6")
EPOCHS, BATCHES = 2, 4


pytestmark = pytest.mark.usefixtures("folder")


def entries(folder):
    return sorted(folder.glob("training/*.safetensors"))


def trained(world, tmp_path, trainer="CoOp", *options, seed="1", precision="fp32"):
    """The trained weights, the random state then, and how many batches of images were encoded."""
    register_builtin()
    register()
    node = "COCOOP" if "CoCoOp" in trainer else "COOP"
    argv = arguments(world, tmp_path / "none", "--seed", seed, trainer=trainer)
    argv += ["OUTPUT_DIR", str(tmp_path / str(len(os.listdir(tmp_path)))), "TEST.NO_TEST", "True"]
    argv += ["TRAINER.AAPE.DESCRIPTIONS", str(world / "descriptions.json")]
    argv += [f"TRAINER.{node}.PREC", precision, "OPTIM.MAX_EPOCH", str(EPOCHS), *SAR, *options]
    cfg = setup_cfg(parse_arguments(argv), add_sar_config)
    if cfg.SEED >= 0:
        set_random_seed(cfg.SEED)
    model = build_trainer(cfg)
    calls = []
    model.model.image_encoder.register_forward_hook(lambda *call: calls.append(1))
    model.train()
    weights = {
        name: p.detach().clone() for name, p in model.model.prompt_learner.named_parameters()
    }
    return weights, torch.get_rng_state(), len(calls)


def assert_same(found, expected):
    assert found[0].keys() == expected[0].keys()
    assert all(torch.equal(found[0][name], tensor) for name, tensor in expected[0].items())
    assert torch.equal(found[1], expected[1])


@pytest.mark.parametrize(
    ("trainer", "precision", "workers"),
    [
        *(("CoOp", precision, "0") for precision in PRECISIONS),
        ("CoOp", "fp32", "2"),
        ("KgCoOp", "fp32", "0"),
        ("SAR_CoOp", "fp32", "0"),
        ("SAR_CoCoOp", "fp32", "0"),
        ("SAR_AAPE", "fp32", "0"),
    ],
)
def test_weights_and_random_state_are_those_without(
    world, tmp_path, monkeypatch, trainer, precision, workers
):
    def run():
        options = ("DATALOADER.NUM_WORKERS", workers)
        return trained(world, tmp_path, trainer, *options, precision=precision)

    first, again = run(), run()
    monkeypatch.setenv("SAR_CACHE", "off")
    alone = run()
    assert (first[2], again[2], alone[2]) == (EPOCHS * BATCHES, 0, EPOCHS * BATCHES)
    assert_same(first, alone)
    assert_same(again, alone)


def test_methods_and_settings_of_a_seed_share(world, tmp_path, folder):
    encoded = [
        trained(world, tmp_path, trainer, *options)[2]
        for trainer, *options in (
            ("CoOp",),
            ("SAR_CoOp",),
            ("SAR_CoOp", "TRAINER.SAR.WEIGHT", "4.0", "TRAINER.SAR.DIVERGENCE", "l2"),
            ("KgCoOp",),
            ("CoOp", "OPTIM.LR", "0.5"),
            ("AAPE",),  # draws no random context, as CoOp does here
            ("SAR_AAPE", "TRAINER.AAPE.AGGREGATOR", "mlp"),
        )
    ]
    assert encoded == [EPOCHS * BATCHES, 0, 0, 0, 0, EPOCHS * BATCHES, 0]
    assert len(entries(folder)) == 2 * EPOCHS


def test_fixed_views_are_encoded_once_for_all_methods_and_epochs(
    world, tmp_path, folder, monkeypatch
):
    """Each is one view of all pictures; what is trained on them is what the pictures give."""
    options = ("DATALOADER.VIEWS", "1")
    first, again = (trained(world, tmp_path, "SAR_CoOp", *options) for _ in range(2))
    others = [trained(world, tmp_path, trainer, *options)[2] for trainer in ("CoCoOp", "KgCoOp")]
    assert (first[2], again[2], *others) == (BATCHES, 0, 0, 0)
    assert_same(again, first)
    assert len(entries(folder)) == 1
    assert trained(world, tmp_path, "SAR_CoOp", "DATALOADER.VIEWS", "2")[2] == BATCHES
    monkeypatch.setenv("SAR_CACHE", "off")
    alone = trained(world, tmp_path, "SAR_CoOp", *options)
    assert alone[2] == EPOCHS * BATCHES
    assert torch.equal(first[1], alone[1])
    torch.testing.assert_close(first[0], alone[0], rtol=0, atol=1e-5)


def test_fixed_views_come_in_turn_and_depend_on_the_seed_alone(world, tmp_path):
    def images(seed, epoch):
        torch.manual_seed(seed)
        options = ("DATALOADER.VIEWS", "3")
        data = build_trainer(make_cfg(arguments(world, tmp_path / "none", *options)))
        data = data.train_loader_x.dataset
        data.epoch = epoch
        before = torch.get_rng_state()
        found = torch.stack([data[i]["img"] for i in range(4)])
        assert torch.equal(torch.get_rng_state(), before)
        return found

    views = [images(1, epoch) for epoch in range(3)]
    for i in range(4):
        assert len({view[i].sum().item() for view in views}) == 3
    assert torch.equal(images(1, 4), views[1])
    assert not torch.equal(images(2, 0), views[0])


def test_fixed_views_are_one_at_a_time(world, tmp_path):
    both = ("DATALOADER.VIEWS", "3", "DATALOADER.K_TRANSFORMS", "2")
    with pytest.raises(ConfigError, match="VIEWS is 3 and K_TRANSFORMS 2"):
        make_cfg(arguments(world, tmp_path / "none", *both))


@pytest.mark.parametrize(
    ("options", "seed", "precision"),
    [
        ((), "2", "fp32"),
        ((), "1", "amp"),
        (("INPUT.RRCROP_SCALE", "(0.3, 1.0)"), "1", "fp32"),
        (("DATALOADER.TRAIN_X.BATCH_SIZE", "5"), "1", "fp32"),
        (("DATALOADER.NUM_WORKERS", "1"), "1", "fp32"),
        (("DATASET.NUM_SHOTS", "3"), "1", "fp32"),
    ],
)
def test_what_changes_the_features_is_encoded_anew(world, tmp_path, options, seed, precision):
    trained(world, tmp_path)
    assert trained(world, tmp_path, "CoOp", *options, seed=seed, precision=precision)[2] > 0


def test_a_changed_image_is_encoded_anew(world, tmp_path):
    trained(world, tmp_path)
    cfg = make_cfg(arguments(world, tmp_path / "none"))
    image = Path(build_trainer(cfg).dm.dataset.train_x[0].impath)
    kept = image.stat()
    try:
        os.utime(image, ns=(kept.st_atime_ns, kept.st_mtime_ns + 1))
        assert trained(world, tmp_path)[2] == EPOCHS * BATCHES
    finally:
        os.utime(image, ns=(kept.st_atime_ns, kept.st_mtime_ns))


def test_a_damaged_epoch_alone_is_encoded_anew(world, tmp_path, folder):
    first = trained(world, tmp_path)
    damaged = entries(folder)[0]
    damaged.write_bytes(damaged.read_bytes()[:-1])
    with pytest.warns(UserWarning, match="is damaged"):
        again = trained(world, tmp_path)
    assert again[2] == BATCHES
    assert_same(again, first)


def test_unseeded_runs_keep_nothing(world, tmp_path, folder):
    assert trained(world, tmp_path, "CoOp", "SEED", "-1")[2] == EPOCHS * BATCHES
    assert entries(folder) == []


@pytest.mark.parametrize(("views", "kept"), [("0", EPOCHS), ("1", 1)])
def test_the_log_says_what_they_take(world, tmp_path, folder, capsys, views, kept):
    trained(world, tmp_path, "CoOp", "DATALOADER.VIEWS", views)
    size = sum(path.stat().st_size for path in entries(folder))
    said = capsys.readouterr().out
    assert f"{kept} of them {size / 1e6:.0f} MB in {folder} (SAR_CACHE_LIMIT 20 GB)" in said
    assert said.count("Training features:") == 1


@pytest.mark.parametrize("views", ["0", "1"])
def test_what_they_take_is_known_from_the_first_batch(world, tmp_path, monkeypatch, views):
    """Before an epoch is encoded; and it is what an entry has in the end."""
    sizes = []
    monkeypatch.setattr(TrainingFeatures, "_say", lambda self, size: sizes.append(size))
    trained(world, tmp_path, "CoOp", "DATALOADER.VIEWS", views, "OPTIM.MAX_EPOCH", "1")
    assert len(sizes) == BATCHES + 1  # of each batch, then of what was kept
    assert len(set(sizes)) == 1


def test_nothing_is_kept_unwanted(world, tmp_path, folder, monkeypatch):
    monkeypatch.setenv("SAR_TRAINING_FEATURES", "yes")
    with pytest.raises(ConfigError, match="SAR_TRAINING_FEATURES is 'yes'"):
        trained(world, tmp_path)
    monkeypatch.setenv("SAR_TRAINING_FEATURES", "0")
    assert trained(world, tmp_path)[2] == EPOCHS * BATCHES
    assert entries(folder) == []


def test_an_interrupted_training_goes_on_with_what_it_has_kept(world, tmp_path, folder):
    """Killed in its third epoch and resumed after its second: that of a whole one, to the bit."""
    script = ROOT / "tests" / "support" / "toolbox_mini.py"

    def run(output, **environment):
        argv = [*arguments(world, output), "TRAIN.CHECKPOINT_FREQ", "1"]
        return subprocess.run(
            [sys.executable, str(script), *argv],
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
            capture_output=True,
            check=False,
        ).returncode

    assert run(tmp_path / "killed", SAR_TEST_KILL="2,1") != 0
    assert len(entries(folder)) == 3
    assert run(tmp_path / "killed") == 0
    assert len(entries(folder)) == 5
    assert run(tmp_path / "whole", SAR_CACHE="off") == 0
    found, expected = (
        load_checkpoint(tmp_path / name / "prompt_learner" / "model.pth.tar-5")["state_dict"]["ctx"]
        for name in ("killed", "whole")
    )
    assert torch.equal(found, expected)
