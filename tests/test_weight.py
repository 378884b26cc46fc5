"""WEIGHT_RULE auto: the factor follows the bound, and a resumed run has it to the last bit."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from first_step import start, texts
from tiny_host import ON_CHECKOUT, tiny_trainer

from sar.alignment import similarity_alignment_loss
from sar.classes.templates import imagenet_templates
from sar.errors import ConfigError, WeightsError
from sar.toolbox.engine.checkpointing import last_checkpoint
from sar.toolbox.utils import load_checkpoint
from sar.weight import STATE, DualWeight, Weight

AUTO: dict[str, Any] = {"TRAINER__SAR__WEIGHT_RULE": "auto", "TRAINER__SAR__WEIGHT": 2.0}


def test_it_rises_above_the_bound_and_falls_below() -> None:
    weight = DualWeight(2.0, bound=0.5, steps=400)
    assert weight.rate == 0.05
    for loss, factor in ((0.5, 0.0), (0.6, 0.2), (0.4, -0.2), (0.0, -1.0), (1.0, 1.0), (99.0, 1.0)):
        before = weight.value
        weight.update(loss)
        assert weight.value == pytest.approx(before * math.exp(0.05 * factor))
    assert DualWeight(1.0, 0.5, steps=1).rate == 0.1
    fixed = Weight(2.0)
    fixed.update(99.0)
    assert fixed.value == 2.0


@pytest.mark.parametrize("start", [0.01, 1.0, 100.0])
def test_it_finds_the_multiplier(start: float) -> None:
    """Minimize (x - 3)^2 with x^2 <= 1: x is 1 and lambda 2, wherever it starts."""
    weight, x = DualWeight(start, bound=1.0, steps=2000), 0.0
    for _ in range(2000):
        x -= 0.01 * (2 * (x - 3) + weight.value * 2 * x) / (1 + weight.value)
        weight.update(x * x)
    assert x == pytest.approx(1.0, abs=0.02)
    assert weight.value == pytest.approx(2.0, rel=0.05)


@pytest.mark.parametrize("bound", [0.0, math.nan, math.inf])
def test_a_bound_that_binds_nothing_is_an_error(bound: float) -> None:
    with pytest.raises(ConfigError, match="WEIGHT_RULE"):
        DualWeight(1.0, bound, 10)


def test_the_bound_is_the_divergence_of_templates_from_the_teacher(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = start(tmp_path, WEIGHT_RULE="auto", WEIGHT=2.0, TEMPERATURE=0.05, BOUND=0.3)
    teacher = texts("a photo of a {}.")
    losses = [
        similarity_alignment_loss(texts(template), teacher, temperature=0.05)
        for template in imagenet_templates()
    ]
    weight = trainer._injection.alignment.weight
    assert weight.bound == pytest.approx(0.3 * float(torch.stack(losses).mean()), rel=1e-2)
    assert weight.steps == 2 * len(trainer.train_loader_x)
    assert f"weight from 2 by L_SAR <= {weight.bound:.4g}" in capsys.readouterr().out


def test_each_update_uses_it_and_moves_it(tmp_path: Path) -> None:
    trainer = start(tmp_path, WEIGHT_RULE="auto", WEIGHT=2.0)
    weight, context = trainer._injection.alignment.weight, trainer.model.prompt_learner.ctx
    batch = next(iter(trainer.train_loader_x))
    reported, values, gradients = [], [weight.value], []
    for _ in range(2):
        before = context.detach().clone()
        reported.append(trainer.forward_backward(batch))
        context.data.copy_(before)
        gradients.append(context.grad.clone())
        values.append(weight.value)
    assert [r[STATE] for r in reported] == values[1:]
    expected = DualWeight(2.0, weight.bound, weight.steps)
    expected.update(reported[0]["loss_sar"])
    assert values[1] == expected.value != 2.0
    # The parameters were put back: all that differs is the factor.
    _, (alone,) = trainer._injection.alignment.gradients(0, [context])
    found = gradients[1] - gradients[0]
    torch.testing.assert_close(found, (values[1] - 2.0) * alone, rtol=1e-3, atol=1e-6)


def finished(folder: Path, **options: Any) -> Any:
    trainer = tiny_trainer(folder, **{**AUTO, "TRAIN__CHECKPOINT_FREQ": 1, **options})
    trainer.train()
    return trainer


@pytest.mark.skipif(ON_CHECKOUT, reason="Dassl's checkpoints hold no state of a run")
def test_a_resumed_run_ends_in_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    whole = finished(tmp_path / "a", OPTIM__MAX_EPOCH=3)
    broken = tiny_trainer(
        tmp_path / "b", **{**AUTO, "TRAIN__CHECKPOINT_FREQ": 1, "OPTIM__MAX_EPOCH": 3}
    )
    run_epoch = broken.run_epoch

    def stop_in_the_third() -> None:
        if broken.epoch == 2:
            raise KeyboardInterrupt
        run_epoch()

    monkeypatch.setattr(broken, "run_epoch", stop_in_the_third)
    with pytest.raises(KeyboardInterrupt):
        broken.train()
    saved = load_checkpoint(last_checkpoint(Path(broken.output_dir)))["run"]["extra"][STATE]
    assert saved == broken._injection.alignment.weight.value != 2.0
    again = finished(tmp_path / "b", OPTIM__MAX_EPOCH=3)
    ours, theirs = (t._injection.alignment.weight.value for t in (again, whole))
    assert ours == theirs
    assert torch.equal(again.model.prompt_learner.ctx, whole.model.prompt_learner.ctx)


@pytest.mark.skipif(ON_CHECKOUT, reason="Dassl's checkpoints hold no state of a run")
def test_a_run_that_had_no_such_weight_is_not_continued_with_one(tmp_path: Path) -> None:
    tiny_trainer(tmp_path, OPTIM__MAX_EPOCH=1).train()
    with pytest.raises(WeightsError, match=STATE):
        finished(tmp_path)


def test_toolboxes_without_state_do_not_continue(tmp_path: Path) -> None:
    trainer = start(tmp_path, WEIGHT_RULE="auto")
    trainer.start_epoch = 1
    with pytest.raises(ConfigError, match="does not say what its weight was"):
        trainer._dual_weight(0.5)
    assert trainer.extra_state()[STATE] == trainer._injection.alignment.weight.value


def test_weight_zero_computes_nothing(tmp_path: Path) -> None:
    trainer = start(tmp_path, WEIGHT_RULE="auto", WEIGHT=0.0)
    assert trainer._injection is None
    assert STATE not in trainer.extra_state()
