"""Shared test features: encoded once for all methods and seeds, and the same to the last bit."""

import importlib
from pathlib import Path

import pytest
import torch
from toolbox_mini import arguments, make_cfg

from sar.toolbox.clip import PRECISIONS
from sar.toolbox.engine import SimpleTrainer, build_trainer

FROZEN = ("ZeroshotCLIP", "CoOp", "KgCoOp", "CoCoOp", "AAPE")


pytestmark = pytest.mark.usefixtures("folder")


def build(world, trainer, *options, seed="1"):
    argv = arguments(world, world / "none", "--seed", seed, trainer=trainer)
    torch.manual_seed(int(seed))
    return build_trainer(make_cfg([*argv, "OUTPUT_DIR", "", *options]))


@torch.no_grad()
def logits(trainer, split="test"):
    """What an evaluation sees, and how many batches of images were encoded for it."""
    calls = []
    hook = trainer.model.image_encoder.register_forward_hook(lambda *call: calls.append(1))
    trainer.set_model_mode("eval")
    loader = trainer.test_loader if split == "test" else trainer.val_loader
    outputs, labels = zip(*trainer.predictions(loader, split), strict=True)
    hook.remove()
    return torch.cat(outputs), torch.cat(labels), len(calls)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("trainer", FROZEN[1:])
def test_logits_are_those_without_sharing(world, trainer, precision, monkeypatch):
    node = {"CoCoOp": "COCOOP", "AAPE": "AAPE"}.get(trainer, "COOP")
    model = build(world, trainer, f"TRAINER.{node}.PREC", precision)
    torch.manual_seed(0)
    first = logits(model)
    states = [torch.get_rng_state()]
    torch.manual_seed(0)
    again = logits(model)
    states.append(torch.get_rng_state())
    monkeypatch.setenv("SAR_CACHE", "off")
    torch.manual_seed(0)
    alone = logits(model)
    assert all(torch.equal(state, torch.get_rng_state()) for state in states)
    assert first[2] == alone[2] > 1
    assert again[2] == 0
    for found in (first, again):
        assert torch.equal(found[0], alone[0])
        assert torch.equal(found[1], alone[1])


@torch.no_grad()
def test_outputs_and_random_state_are_those_of_any_other_trainer(world):
    model = build(world, "CoOp")
    model.set_model_mode("eval")
    found = []
    for kind in (SimpleTrainer, type(model)):
        torch.manual_seed(0)
        outputs, labels = zip(*kind.predictions(model, model.test_loader, ""), strict=True)
        found.append((torch.cat(outputs), torch.cat(labels), torch.get_rng_state()))
    assert all(torch.equal(plain, shared) for plain, shared in zip(*found, strict=True))


def test_all_methods_and_seeds_share(world, folder):
    encoded = [logits(build(world, FROZEN[0]))[2]]
    encoded += [
        logits(build(world, name, "TRAINER.COCOOP.PREC", "fp32", seed=seed))[2]
        for name in FROZEN[1:]
        for seed in "12"
    ]
    # What concerns training alone makes no difference.
    alone = ("INPUT.TRANSFORMS", "['random_flip', 'normalize']", "INPUT.RRCROP_SCALE", "(0.3, 1.0)")
    encoded.append(logits(build(world, "CoOp", *alone))[2])
    assert encoded[0] > 0
    assert not any(encoded[1:])
    assert len(list(folder.rglob("*.safetensors"))) == 1


@pytest.mark.parametrize(
    "options",
    [
        ("DATASET.SUBSAMPLE_CLASSES", "new"),
        ("INPUT.INTERPOLATION", "bilinear"),
        ("TRAINER.COOP.PREC", "fp16"),
        ("DATALOADER.TEST.BATCH_SIZE", "5"),
    ],
)
def test_what_changes_the_features_is_encoded_anew(world, options):
    assert logits(build(world, "CoOp"))[2] > 0
    assert logits(build(world, "CoOp", *options))[2] > 0


def test_a_changed_image_is_encoded_anew(world):
    before = logits(build(world, "CoOp"))
    trainer = build(world, "CoOp")
    first = Path(trainer.dm.dataset.test[0].impath)
    other = Path(trainer.dm.dataset.test[-1].impath)
    content = first.read_bytes()
    try:
        first.write_bytes(other.read_bytes())
        after = logits(build(world, "CoOp"))
    finally:
        first.write_bytes(content)
    assert after[2] > 0
    assert not torch.equal(before[0][0], after[0][0])
    assert torch.equal(before[0][1:], after[0][1:])


def test_validation_and_test_images_are_apart(world):
    trainer = build(world, "CoOp")
    assert logits(trainer)[2] > 0
    assert logits(trainer, "val")[2] > 0


def test_a_random_order_of_test_images_is_not_shared(world, folder):
    trainer = build(world, "CoOp", "DATALOADER.TEST.SAMPLER", "RandomSampler")
    assert logits(trainer)[2] > 0
    assert not folder.exists()


@torch.no_grad()
def test_another_structure_of_the_same_weights_is_encoded_anew(world, tmp_path, monkeypatch):
    """Weights do not tell the kind of an activation, nor what one's own encoder does with them."""
    assert logits(build(world, "CoOp"))[2] > 0
    trainer = build(world, "CoOp")
    trainer.model.image_encoder.transformer.resblocks[0].mlp.gelu = torch.nn.GELU()
    assert logits(trainer)[2] > 0
    file = tmp_path / "mine.py"
    for code in ("import torch\nclass Mine(torch.nn.Identity):\n    pass\n", "    pass\n"):
        with file.open("a") as own:
            own.write(code)
        monkeypatch.syspath_prepend(tmp_path)
        trainer = build(world, "CoOp")
        trainer.model.image_encoder.mine = importlib.import_module("mine").Mine()
        assert logits(trainer)[2] > 0
    trainer = build(world, "CoOp")
    trainer.model.image_encoder.mine = importlib.import_module("mine").Mine()
    assert logits(trainer)[2] == 0
