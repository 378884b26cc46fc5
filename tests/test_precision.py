"""A step of all twelve trainers in every precision, with and without gradient scaling."""

from pathlib import Path

import pytest
import torch
from tiny_host import ON_CHECKOUT, tiny_trainer
from torch import Tensor

if ON_CHECKOUT:
    pytest.skip("the embedded toolbox only", allow_module_level=True)

from sar.toolbox.trainers import prompt_learning

NODES = {
    "CoOp": "COOP",
    "CoCoOp": "COCOOP",
    "KgCoOp": "COOP",
    "MaPLe": "MAPLE",
    "PromptSRC": "PROMPTSRC",
    "AAPE": "AAPE",
}
every = pytest.mark.parametrize("name", [f"{sar}{name}" for name in NODES for sar in ("", "SAR_")])
# fp16 autocast is what "amp" is on CUDA; here it is put in the place of the CPU's bf16.
PRECISIONS = ("fp32", "fp16", "bf16", "bf16 autocast", "fp16 autocast")


def step(
    folder: Path, name: str, precision: str, scaler: torch.amp.GradScaler | None = None
) -> tuple[dict[str, float], dict[str, Tensor]]:
    """What a step reports, and by how much it moves each parameter that is trained."""
    node = NODES[name.removeprefix("SAR_")]
    options = {
        f"TRAINER__{node}__PREC": "amp" if "autocast" in precision else precision,
        "TRAINER__MAPLE__PROMPT_DEPTH": 2,
        "TRAINER__PROMPTSRC__PROMPT_DEPTH_VISION": 2,
        "TRAINER__PROMPTSRC__PROMPT_DEPTH_TEXT": 3,
    }
    trainer = tiny_trainer(folder, name, **options)
    trainer.scaler = scaler
    trainer.before_train()
    trainer.set_model_mode("train")
    trainer.epoch, trainer.batch_idx, trainer.num_batches = 0, 0, 100
    torch.manual_seed(7)
    batch = next(iter(trainer.train_loader_x))
    learned = {n: p for n, p in trainer.model.named_parameters() if p.requires_grad}
    initial = {n: p.detach().clone() for n, p in learned.items()}
    with pytest.MonkeyPatch.context() as patch:
        if precision == "fp16 autocast":
            patch.setattr(
                prompt_learning, "autocast", lambda *_: torch.autocast("cpu", torch.float16)
            )
        reported = trainer.forward_backward(batch)
    return reported, {n: (p - initial[n]).detach().float() for n, p in learned.items()}


@every
def test_every_precision_gives_the_losses_and_directions_of_fp32(tmp_path, name):
    reported, expected = step(tmp_path, name, "fp32")
    for precision in PRECISIONS[1:]:
        scaler = (
            torch.amp.GradScaler("cpu", init_scale=2.0**10)
            if precision == "fp16 autocast"
            else None
        )
        found_reported, found = step(tmp_path, name, precision, scaler)
        for key in ("loss", "loss_sar"):
            if key in reported:
                assert found_reported[key] == pytest.approx(reported[key], rel=0.1), precision
        all_found, all_expected = (
            torch.cat([m.flatten() for m in ms.values()]) for ms in (found, expected)
        )
        tolerated = 0.8 if precision.startswith("bf16") else 0.99  # 8 bits of mantissa, or 11
        assert torch.cosine_similarity(all_found, all_expected, dim=0) > tolerated, precision
        assert all(move.isfinite().all() and move.any() for move in found.values()), precision


@every
@pytest.mark.parametrize(
    ("precision", "tolerance"), [("fp32", 1e-4), ("bf16 autocast", 1e-2), ("fp16 autocast", 5e-2)]
)
def test_a_gradient_scaled_step_equals_an_unscaled_one(tmp_path, name, precision, tolerance):
    """The alignment's share is scaled with the host's loss, and unscaled with it."""
    _, expected = step(tmp_path, name, precision)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    _, found = step(tmp_path, name, precision, scaler)
    assert scaler.get_scale() == 2.0**10  # no overflow, hence no step left out
    for key, move in expected.items():
        assert (found[key] - move).norm() <= tolerance * move.norm(), key
