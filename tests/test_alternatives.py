"""experiments/alternatives.py: each alternative is CoOp where its own part is nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from toolbox_mini import arguments, make_cfg
from torch.nn import functional

from sar.settings.extensions import import_file
from sar.toolbox.clip.prompted import normalize
from sar.toolbox.engine import TRAINER_REGISTRY, build_trainer

REGISTERED: set[str] = set()
ALTERNATIVES = import_file(Path(__file__).parents[1] / "experiments" / "alternatives.py")


def built(world: Path, output: Path, name: str = "CoOp", **constants: float) -> Any:
    """CoOp, or the alternative of this name with other constants."""
    if constants:
        kind = getattr(ALTERNATIVES, name)
        name = f"{name} {constants}"
        if name not in REGISTERED:
            TRAINER_REGISTRY.register()(type(name, (kind,), dict(constants)))
            REGISTERED.add(name)
    torch.manual_seed(0)
    return build_trainer(make_cfg(arguments(world, output, trainer=name)))


def logits_of(trainer: Any) -> torch.Tensor:
    """Logits of a test."""
    found: list[torch.Tensor] = []
    process = trainer.evaluator.process
    trainer.evaluator.process = lambda logits, labels: (
        found.append(logits.clone()),
        process(logits, labels),
    )
    trainer.test()
    trainer.evaluator.process = process
    return torch.cat(found)


@pytest.fixture(scope="module")
def coop(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    trainer = built(world, tmp_path_factory.mktemp("coop"))
    trainer.train()
    return trainer


def context(trainer: Any) -> torch.Tensor:
    return trainer.model.prompt_learner.ctx.detach().clone()


def test_a_context_that_is_wholly_learned_is_coops(world, tmp_path, coop):
    whole = built(world, tmp_path / "1", "ShrunkCoOp", share=1.0)
    start = context(whole)
    whole.train()
    assert torch.equal(context(whole), context(coop))
    assert torch.equal(logits_of(whole), logits_of(coop))
    half = built(world, tmp_path / "2", "ShrunkCoOp", share=0.5)
    half.train()
    assert torch.equal(context(half), context(coop))  # what is trained and saved
    between = built(world, tmp_path / "3")
    with torch.no_grad():
        between.model.prompt_learner.ctx.copy_((start + context(coop)) / 2)
    torch.testing.assert_close(logits_of(half), logits_of(between))


def test_the_distance_of_logits_is_kl_to_zero_shot_clip(world, tmp_path, coop):
    without = built(world, tmp_path / "0", "LogitsCoOp", weight=0.0)
    without.train()
    torch.testing.assert_close(context(without), context(coop), rtol=0, atol=1e-6)
    trainer = built(world, tmp_path / "3", "LogitsCoOp", weight=3.0)
    zero_shot = built(world, tmp_path / "z", "ZeroshotCLIP")
    batch = next(iter(trainer.test_loader))
    image, label = batch["img"], batch["label"]
    with torch.no_grad():
        loss, _ = trainer.compute_loss(image, label)
        logits, theirs = trainer.model.predict(image), zero_shot.model(image)
    plain = functional.cross_entropy(logits, label)
    pair = (logits.log_softmax(1), theirs.log_softmax(1))
    distance = functional.kl_div(*pair, reduction="batchmean", log_target=True)
    torch.testing.assert_close(loss, plain + 3 * distance)


def test_the_average_is_trained_on(world, tmp_path):
    trainer = built(world, tmp_path, "AveragedCoOp")
    model = trainer.model
    learned = normalize(model.text_encoder(model.prompt_learner(), model.tokenized_prompts))
    features = model.encode_classes(model.prompt_learner())
    torch.testing.assert_close(features, normalize(learned + model.hand_crafted))
    assert features.requires_grad
    trainer.train()


def test_the_mean_over_the_epochs_is_saved(world, tmp_path, coop):
    trainer = built(world, tmp_path, "MeanCoOp")
    seen = []
    after_epoch = trainer.after_epoch
    trainer.after_epoch = lambda: (seen.append(context(trainer)), after_epoch())
    trainer.train()
    assert torch.equal(seen[-1], context(coop))
    weights = torch.tensor(trainer.average.weights)
    expected = (weights[:, None, None] * torch.stack(seen)).sum(dim=0)
    torch.testing.assert_close(context(trainer), expected)
    again = built(world, tmp_path / "again", "MeanCoOp")
    again.load_model(str(tmp_path), epoch=5)
    assert torch.equal(context(again), context(trainer))
