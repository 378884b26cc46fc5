"""Weights are taken only where they mean what they meant in training, and only while whole."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from toolbox_mini import arguments, make_cfg, random_clip, write_world

from sar import cli
from sar.toolbox.engine import build_trainer
from sar.toolbox.engine.origin import content_of
from sar.toolbox.train import main
from sar.toolbox.trainers.coop import CoOp
from sar.toolbox.utils import load_checkpoint

SPECIFIC = ("TRAINER.COOP.CSC", "True")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("world")
    write_world(root)
    torch.save(random_clip(seed=1).state_dict(), root / "other.pt")
    shutil.copy(root / "clip.pt", root / "copy.pt")
    clip = random_clip().state_dict()
    clip["visual.proj"][0, 0] = float("nan")
    torch.save(clip, root / "nan.pt")
    return root


@pytest.fixture(scope="module")
def trained(world):
    """Two epochs of CoOp, and of CoOp with class-specific contexts."""
    for name, options in (("plain", ()), ("specific", SPECIFIC)):
        main([*arguments(world, world / name), "OPTIM.MAX_EPOCH", "2", *options])
    return world


def evaluation(root: Path, model: Path, *options: str, trainer: str = "CoOp") -> list[str]:
    flags = ("--eval-only", "--model-dir", str(model), "--load-epoch", "2")
    return arguments(root, model / "eval", *flags, *options, trainer=trainer)


def said(capsys, argv):
    """Exit status, and what stands on standard error (one line) or standard output."""
    with pytest.raises(SystemExit) as stop:
        cli.main(["train", *argv])
    captured = capsys.readouterr()
    if stop.value.code == 0:
        return 0, captured.out
    (line,) = captured.err.splitlines()
    assert "* accuracy" not in captured.out
    return stop.value.code, line


def refused(capsys, argv, *words):
    status, line = said(capsys, argv)
    assert status == 1
    for word in words:
        assert word in line
    return True


def accuracy(text):
    return text.rpartition("* accuracy: ")[2].partition("%")[0]


def test_weights_of_the_same_settings_are_taken(trained, capsys):
    plain = trained / "plain"
    accuracies = {
        accuracy(said(capsys, argv)[1])
        for argv in (
            evaluation(trained, plain),
            evaluation(trained, plain, trainer="SAR_CoOp"),
            # The same CLIP under another name, and words that are all replaced by the context.
            [*evaluation(trained, plain), "MODEL.BACKBONE.NAME", str(trained / "copy.pt")],
            [*evaluation(trained, plain), "TRAINER.COOP.CTX_INIT", "a photo of a"],
        )
    }
    assert len(accuracies) == 1
    status, _ = said(capsys, [*evaluation(trained, plain), "DATASET.SUBSAMPLE_CLASSES", "new"])
    assert status == 0


OTHER = {
    "the method 'CoOp', and this run has 'KgCoOp'": ("--trainer", "KgCoOp"),
    "CLASS_TOKEN_POSITION 'end'": ("TRAINER.COOP.CLASS_TOKEN_POSITION", "front"),
    "context vectors 4": ("TRAINER.COOP.N_CTX", "5"),
    # Of the five words' six tokens, one stays behind the five vectors.
    "fixed words": ("TRAINER.COOP.CTX_INIT", "a photo of aardvarks"),
    "class-specific contexts False": SPECIFIC,
    "another CLIP": ("MODEL.BACKBONE.NAME", "{world}/other.pt"),
}


@pytest.mark.parametrize("way", ["test", "resume", "start"])
@pytest.mark.parametrize("what", OTHER)
def test_weights_of_other_settings_are_refused(trained, tmp_path, capsys, what, way):
    options = [word.format(world=trained) for word in OTHER[what]]
    flags = [options.pop(0), options.pop(0)] if options[0] == "--trainer" else []
    plain = trained / "plain"
    argv = {
        "test": evaluation(trained, plain, *flags),
        "resume": arguments(trained, tmp_path, "--resume", str(plain), *flags),
        "start": [
            *arguments(trained, tmp_path, *flags),
            *("MODEL.INIT_WEIGHTS", str(plain / "prompt_learner" / "model.pth.tar-2")),
        ],
    }[way]
    assert refused(capsys, [*argv, *options], "model.pth.tar-2 was trained with", what)


def test_another_trainer_does_not_continue_a_run(trained, tmp_path, capsys):
    """Weights of SAR_CoOp and CoOp are alike; a run is one of them."""
    argv = arguments(trained, tmp_path, "--resume", str(trained / "plain"), trainer="SAR_CoOp")
    assert refused(capsys, argv, "was trained by CoOp, which SAR_CoOp does not continue")


def test_settings_that_an_earlier_version_did_not_know_were_the_defaults(trained, tmp_path, capsys):
    shutil.copytree(trained / "plain", tmp_path / "plain")
    file = tmp_path / "plain" / "prompt_learner" / "model.pth.tar-2"
    state = torch.load(file, weights_only=True)
    state["config"] = state["config"].replace("  VIEWS: 0\n", "")
    torch.save(state, file)
    argv = arguments(trained, tmp_path, "--resume", str(tmp_path / "plain"))
    argv += ["OPTIM.MAX_EPOCH", "3", "TEST.NO_TEST", "True", "DATALOADER.VIEWS", "2"]
    status, text = said(capsys, argv)
    assert status == 0
    notes = [line for line in text.splitlines() if line.startswith("Note: ")]
    assert notes == [
        "Note: DATALOADER.VIEWS was 0 in the checkpoint, now 2",
        "Note: OPTIM.MAX_EPOCH was 2 in the checkpoint, now 3",
    ]


PICTURES = {
    "INPUT.INTERPOLATION": ("nearest", "'bicubic' in the checkpoint, now 'nearest'"),
    "INPUT.PIXEL_MEAN": ("[0.5,0.5,0.5]", "in the checkpoint, now [0.5, 0.5, 0.5]"),
    "INPUT.PIXEL_STD": ("[0.5,0.5,0.5]", "in the checkpoint, now [0.5, 0.5, 0.5]"),
}


@pytest.mark.parametrize("way", ["test", "resume"])
def test_pictures_seen_otherwise_than_in_training_are_named_once(trained, tmp_path, capsys, way):
    plain = trained / "plain"
    argv = {
        "test": evaluation(trained, plain),
        "resume": [*arguments(trained, tmp_path, "--resume", str(plain)), "TEST.NO_TEST", "True"],
    }[way]
    same, changed = (
        [line for line in text.splitlines() if line.startswith("Note: INPUT.")]
        for status, text in (
            said(capsys, [*argv, *options])
            for options in ((), [word for key in PICTURES for word in (key, PICTURES[key][0])])
        )
    )
    assert not same
    assert len(changed) == len(PICTURES)
    for line, (key, (_, end)) in zip(changed, PICTURES.items(), strict=True):
        assert line.startswith(f"Note: {key} was ")
        assert line.endswith(end)


def of(version: str, checkpoint: Path) -> None:
    """Rewrites a checkpoint as an earlier version, or another toolbox, would have written it."""
    state = torch.load(checkpoint, weights_only=True)
    gone = {"earlier": ["clip"], "foreign": ["clip", "config", "classnames", "run"]}[version]
    torch.save({k: v for k, v in state.items() if k not in gone}, checkpoint)


@pytest.mark.parametrize("version", ["earlier", "foreign"])
def test_files_without_all_of_it_show_another_clip_and_other_classes(
    trained, tmp_path, capsys, version
):
    for name in ("plain", "specific"):
        shutil.copytree(trained / name, tmp_path / name)
        of(version, tmp_path / name / "prompt_learner" / "model.pth.tar-2")
    status, out = said(capsys, evaluation(trained, tmp_path / "plain"))
    assert status == 0
    assert ("does not say by which method" in out) == (version == "foreign")
    argv = [*evaluation(trained, tmp_path / "plain"), "MODEL.BACKBONE.NAME"]
    assert refused(capsys, [*argv, str(trained / "other.pt")], "another CLIP")
    if version == "earlier":
        argv = evaluation(trained, tmp_path / "plain", trainer="KgCoOp")
        assert refused(capsys, argv, "the method 'CoOp'")
    status, _ = said(capsys, [*evaluation(trained, tmp_path / "specific"), *SPECIFIC])
    assert status == 0
    argv = [*evaluation(renamed(trained, tmp_path), tmp_path / "specific"), *SPECIFIC]
    assert refused(capsys, argv, "class-specific contexts for other classes")


@pytest.fixture
def tuned(trained, tmp_path):
    """A CLIP of the same width that was trained further, its token embeddings as they were."""
    clip = torch.load(trained / "clip.pt", weights_only=True)
    clip["visual.proj"] += 0.1
    torch.save(clip, tmp_path / "tuned.pt")
    return tmp_path / "tuned.pt"


def test_a_file_without_a_hash_says_that_its_clip_cannot_be_checked(
    trained, tuned, tmp_path, capsys
):
    """One from before hashes were kept, tested, continued and labelling with another CLIP."""
    options = ["MODEL.BACKBONE.NAME", str(tuned)]
    assert refused(capsys, [*evaluation(trained, trained / "plain"), *options], "another CLIP")
    old = tmp_path / "plain"
    shutil.copytree(trained / "plain", old)
    of("earlier", old / "prompt_learner" / "model.pth.tar-2")
    note = f"model.pth.tar-2 does not say on which CLIP it was trained; that it is {tuned}"
    for argv in (
        [*evaluation(trained, old), *options],
        [*arguments(trained, tmp_path / "more", "--resume", str(old)), *options],
        [
            *arguments(trained, tmp_path / "start"),
            *options,
            *("MODEL.INIT_WEIGHTS", str(old / "prompt_learner" / "model.pth.tar-2")),
        ],
    ):
        status, out = said(capsys, argv)
        assert (status, out.count(note)) == (0, 1)
    for command in (["predict", str(old), str(trained), "--clip", str(tuned)],):
        with pytest.raises(SystemExit) as stop:
            cli.main(command)
        captured = capsys.readouterr()
        assert stop.value.code == 0
        assert captured.err.count(note) == 1
        assert note not in captured.out


def renamed(world: Path, folder: Path) -> Path:
    """The world with two class names exchanged in its split."""
    root = folder / "renamed"
    shutil.copytree(world, root, ignore=shutil.ignore_patterns("split_fewshot", "plain"))
    split = root / "oxford_pets" / "split_zhou_OxfordPets.json"
    names = {"abyssinian": "beagle", "beagle": "abyssinian"}
    parts = json.loads(split.read_text())
    for items in parts.values():
        items[:] = [(path, label, names.get(name, name)) for path, label, name in items]
    split.write_text(json.dumps(parts))
    return root


def test_class_specific_contexts_are_for_their_classes(trained, tmp_path, capsys):
    argv = [*evaluation(renamed(trained, tmp_path), trained / "specific"), *SPECIFIC]
    before = "class-specific contexts for other classes (abyssinian, basset hound, beagle, ...)"
    assert refused(capsys, argv, before, "has beagle, basset hound, abyssinian")
    words = [*arguments(trained, tmp_path), "TRAINER.COOP.CTX_INIT", "a photo of a", *SPECIFIC]
    assert refused(capsys, words, "CSC is True, but a context that starts from words")


def test_a_flipped_bit_anywhere_is_found(trained, tmp_path, capsys):
    """Where nothing is said, nothing of what is read has changed."""
    shutil.copytree(trained / "plain", tmp_path / "plain")
    file = tmp_path / "plain" / "prompt_learner" / "model.pth.tar-2"
    content, whole = file.read_bytes(), load_checkpoint(file)
    weights = whole["state_dict"]["ctx"].numpy().tobytes()
    inside = content.index(weights)
    found = 0
    for place in (inside, inside + len(weights) // 2, *range(1, len(content), len(content) // 40)):
        damaged = bytearray(content)
        damaged[place] ^= 1
        file.write_bytes(damaged)
        status, out = said(capsys, evaluation(trained, tmp_path / "plain"))
        if status:
            found += 1
            assert "cannot be read" in out
        else:
            assert not inside <= place < inside + len(weights)
            again = load_checkpoint(file)
            assert again["config"] == whole["config"]
            assert torch.equal(again["state_dict"]["ctx"], whole["state_dict"]["ctx"])
    assert found > 30


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(trained, tmp_path, capsys, value):
    shutil.copytree(trained / "plain", tmp_path / "plain")
    file = tmp_path / "plain" / "prompt_learner" / "model.pth.tar-2"
    state = torch.load(file, weights_only=True)
    state["state_dict"]["ctx"][1, 3] = value
    torch.save(state, file)
    words = (f"ctx of {file} is NaN or infinite",)
    assert refused(capsys, evaluation(trained, tmp_path / "plain"), *words)
    assert refused(
        capsys, arguments(trained, tmp_path, "--resume", str(tmp_path / "plain")), *words
    )
    clip = torch.load(trained / "clip.pt", weights_only=True)
    clip["visual.proj"][0, 0] = value
    torch.save(clip, tmp_path / "clip.pt")
    argv = arguments(trained, tmp_path / "zero", trainer="ZeroshotCLIP")
    argv += ["MODEL.BACKBONE.NAME", str(tmp_path / "clip.pt")]
    assert refused(capsys, argv, "clip.pt is damaged: visual.proj is NaN or infinite")


@pytest.mark.parametrize("key", ["visual.proj", "logit_scale"])
def test_weights_of_whole_numbers_are_refused(world, tmp_path, capsys, key):
    clip = torch.load(world / "clip.pt", weights_only=True)
    clip["visual.position_ids"] = torch.arange(4)  # is whole by nature
    clip[key] = (100 * clip[key]).to(torch.int8)
    torch.save(clip, tmp_path / "clip.pt")
    argv = arguments(world, tmp_path / "zero", trainer="ZeroshotCLIP")
    argv += ["MODEL.BACKBONE.NAME", str(tmp_path / "clip.pt")]
    assert refused(capsys, argv, f"clip.pt cannot be used: {key} is of torch.int8")


DIVERGING = {
    "OPTIM.WEIGHT_DECAY is inf": ("OPTIM.WEIGHT_DECAY", "1e400"),
    "visual.proj is NaN or infinite": ("MODEL.BACKBONE.NAME", "{world}/nan.pt"),
    "OPTIM.LR is 1e+38": ("OPTIM.LR", "1e38"),
    "Raise TRAINER.SAR.TEMPERATURE, now 1e-40": ("TRAINER.SAR.TEMPERATURE", "1e-40"),
    "TRAINER.SAR.WEIGHT": ("TRAINER.SAR.WEIGHT", "1e300"),
}


@pytest.mark.parametrize("what", DIVERGING)
def test_a_training_that_diverges_has_no_result(world, tmp_path, capsys, what):
    novel = ("TRAINER.SAR.NOVEL", "words:5", "DATALOADER.TRAIN_X.BATCH_SIZE", "16")
    argv = [*arguments(world, tmp_path, trainer="SAR_CoOp"), *novel, "OPTIM.MAX_EPOCH", "2"]
    options = [word.format(world=world) for word in DIVERGING[what]]
    assert refused(capsys, [*argv, "OPTIM.WARMUP_EPOCH", "0", *options], what)
    assert not list(tmp_path.glob("*/model.pth.tar-*"))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_the_last_step_spoiled_are_not_kept(
    world, tmp_path, capsys, monkeypatch, value
):
    step = CoOp.forward_backward

    def spoiled(self, batch):
        summary = step(self, batch)
        if self.epoch + 1 == self.max_epoch and self.batch_idx + 1 == self.num_batches:
            with torch.no_grad():
                self.model.prompt_learner.ctx[0, 0] = value
        return summary

    monkeypatch.setattr(CoOp, "forward_backward", spoiled)
    argv = [*arguments(world, tmp_path), "OPTIM.MAX_EPOCH", "2"]
    assert refused(capsys, argv, "ctx of prompt_learner after epoch 2 is NaN or infinite")
    assert not list(tmp_path.glob("*/model.pth.tar-2"))


def test_a_clips_content_is_its_weights_and_activations(world):
    clip: Any = random_clip()
    content = content_of(clip)
    assert content == content_of(random_clip()) != content_of(random_clip(seed=1))
    clip.transformer.resblocks[0].mlp.gelu = torch.nn.GELU()
    assert content_of(clip) != content
    cfg = make_cfg([*arguments(world, world / "none"), "OUTPUT_DIR", ""])
    assert build_trainer(cfg).origin.clip == content_of(random_clip())
