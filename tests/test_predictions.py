"""What a test leaves for every image: the accuracy of the log, in the order of the dataset."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from toolbox_mini import arguments, make_cfg, write_world

from sar.errors import DataError
from sar.predictions import PREDICTIONS_FILE, Predictions, read_predictions, write_predictions
from sar.results.log import read_run
from sar.toolbox.data.contents import content_of
from sar.toolbox.engine import build_trainer
from sar.toolbox.train import main

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "tests" / "support" / "toolbox_mini.py"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("world")
    write_world(root)
    main(arguments(root, root / "run"))
    return root


def predictions(folder: Path) -> Predictions:
    found = read_predictions(folder)
    assert found is not None
    return found


def test_they_give_the_accuracy_of_the_log(world, tmp_path):
    score = read_run(world / "run", trained=True, subset="base").score
    assert score is not None
    found = predictions(world / "run")
    assert (int(found.correct.sum()), len(found.label)) == (score.correct, score.total)
    assert found.accuracy == score.accuracy
    trained = ["--eval-only", "--model-dir", str(world / "run"), "--load-epoch", "5"]
    main([*arguments(world, tmp_path), *trained])
    again = predictions(tmp_path)
    assert again.images == found.images
    assert np.array_equal(again.predicted, found.predicted)
    np.testing.assert_allclose(again.confidence, found.confidence, rtol=1e-5)
    main([*arguments(world, tmp_path / "new"), *trained, "DATASET.SUBSAMPLE_CLASSES", "new"])
    assert predictions(tmp_path / "new").images != found.images


def test_they_are_the_models_own_probabilities_in_the_order_of_the_dataset(world, tmp_path):
    for trainer in ("CoOp", "MaPLe"):  # from kept image features, and from the images
        deep = ("TRAINER.MAPLE.PROMPT_DEPTH", "1", "TRAINER.MAPLE.PREC", "fp32")
        trainer = build_trainer(
            make_cfg([*arguments(world, tmp_path / trainer, trainer=trainer), *deep])
        )
        trainer.test()
        assert not Path(trainer.output_dir).exists()  # no run, no file
        Path(trainer.output_dir).mkdir()
        trainer.test()
        found = predictions(Path(trainer.output_dir))
        images = trainer.test_loader.dataset.data_source
        assert found.label.tolist() == [image.label for image in images]
        chances = [trainer.model(batch["img"]).softmax(dim=1) for batch in trainer.test_loader]
        expected = np.concatenate([chance.detach().numpy() for chance in chances])
        assert np.array_equal(found.predicted, expected.argmax(axis=1))
        np.testing.assert_allclose(found.confidence, expected.max(axis=1), rtol=1e-5)


def test_validation_leaves_none(world, tmp_path):
    trainer = build_trainer(make_cfg(arguments(world, tmp_path)))
    trainer.test("val")
    assert read_predictions(tmp_path) is None


def test_images_in_no_fixed_order_leave_none(world, tmp_path):
    shuffled = ("DATALOADER.TEST.SAMPLER", "RandomSampler")
    trainer = build_trainer(make_cfg([*arguments(world, tmp_path), *shuffled]))
    trainer.test()
    assert read_predictions(tmp_path) is None


def test_processes_sum_up_to_one_file(world, tmp_path):
    """16 images in batches of 7, so that the parts of a batch are unequal."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    trained = ["--eval-only", "--model-dir", str(world / "run"), "--load-epoch", "5"]
    done = subprocess.run(
        [sys.executable, *launcher, str(SCRIPT), *arguments(world, tmp_path, *trained)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    one, two = predictions(world / "run"), predictions(tmp_path)
    assert two.images == one.images
    assert np.array_equal(two.label, one.label)
    assert np.array_equal(two.predicted, one.predicted)
    np.testing.assert_allclose(two.confidence, one.confidence, rtol=1e-5)


def test_a_resumed_run_leaves_those_of_an_uninterrupted_one(world, tmp_path):
    argv = [sys.executable, str(SCRIPT), *arguments(world, tmp_path, "TRAIN.CHECKPOINT_FREQ", "1")]
    env = {"SAR_TEST_KILL": "3,1", "PYTHONPATH": str(ROOT)}
    killed = subprocess.run(argv, env={**os.environ, **env}, capture_output=True, check=False)
    assert killed.returncode < 0
    assert read_predictions(tmp_path) is None
    main([*arguments(world, tmp_path), "TRAIN.CHECKPOINT_FREQ", "1"])
    assert "Resuming after epoch" in (tmp_path / "log.txt").read_text()
    ours, theirs = predictions(tmp_path), predictions(world / "run")
    assert np.array_equal(ours.predicted, theirs.predicted)
    assert np.array_equal(ours.confidence, theirs.confidence)


def test_images_are_told_apart_by_content_and_label_wherever_they_lie(world, tmp_path):
    images = build_trainer(make_cfg(arguments(world, tmp_path / "a"))).dm.dataset.test
    known = content_of(images)
    assert content_of(images) == known  # from the cache, too
    assert content_of(images[::-1]) != known
    moved = [_moved(image, tmp_path / "elsewhere") for image in images]
    assert content_of(moved) == known
    Path(moved[3].impath).write_bytes(b"another picture")
    assert content_of(moved) != known
    Path(moved[3].impath).write_bytes(Path(images[3].impath).read_bytes())
    assert content_of(moved) == known
    moved[3]._label += 1
    assert content_of(moved) != known


def _moved(image, folder: Path):
    folder.mkdir(exist_ok=True)
    target = folder / Path(image.impath).name
    shutil.copy(image.impath, target)
    return type(image)(str(target), image.label, image.domain, image.classname)


def test_the_file_is_small_and_the_same_for_the_same_predictions(tmp_path):
    rng = np.random.default_rng(0)
    some = Predictions(
        np.repeat(np.arange(50), 20).astype(np.int32),
        rng.integers(50, size=1000).astype(np.int32),
        rng.random(1000).astype(np.float32),
        "ab" * 32,
    )
    write_predictions(tmp_path, some)
    file = tmp_path / PREDICTIONS_FILE
    content = file.read_bytes()
    assert len(content) < 8000
    write_predictions(tmp_path, predictions(tmp_path))
    assert file.read_bytes() == content
    for damaged in (content[:-100], b"", b"text", content[:200] + b"x" + content[201:]):
        file.write_bytes(damaged)
        with pytest.raises(DataError, match="is damaged"):
            read_predictions(tmp_path)
