"""Every key of TRAINER.SAR that changes the objective, seen in the loss and gradient of a step."""

from pathlib import Path
from typing import Any

import pytest
import torch
from first_step import start, texts
from tiny_host import BASE
from torch import Tensor

from sar.alignment import similarity_alignment_loss
from sar.classes.templates import imagenet_templates
from sar.errors import ConfigError


@pytest.fixture(scope="module")
def by_template() -> Tensor:
    return torch.stack([texts(template) for template in imagenet_templates()])


MANY = {"TEMPLATE": "imagenet"}


@pytest.mark.parametrize(
    ("sar", "options"),
    [
        ({"DIVERGENCE": "fda", "NEIGHBOURS": 2}, {"neighbours": 2}),
        ({"DIVERGENCE": "hinge", "TOLERANCE": 0.2, **MANY}, {"tolerance": 0.2}),
        ({"DIVERGENCE": "hinge", "PAIRS": "base-novel", **MANY}, {"across": 6}),
        ({"DIVERGENCE": "cross", "TEMPERATURE": 0.02}, {"temperature": 0.02}),
        ({"DIVERGENCE": "rank", "PAIRS": "base-novel"}, {"across": 6}),
        *(({"DIVERGENCE": name, **MANY}, {}) for name in ("cov", "hsic", "hsic_apart", "anchor")),
        ({"PAIRS": "base-novel", "SAMPLE_SIZE": 7}, {}),
    ],
    ids=str,
)
def test_the_loss_is_that_of_the_settings(
    tmp_path: Path, sar: dict[str, Any], options: dict[str, Any], by_template: Tensor
) -> None:
    trainer = start(tmp_path, **sar)
    alignment = trainer._injection.alignment
    index = alignment.sample(0)
    if sar.get("SAMPLE_SIZE"):
        options = {"across": int((index < len(BASE)).sum())}
    divergence = sar.get("DIVERGENCE", "kl")
    reference = texts("a photo of a {}.") if "TEMPLATE" not in sar else by_template
    if reference.dim() == 3 and divergence != "hinge":
        reference = reference.mean(dim=0)
    features = alignment.view.select(index)()
    expected = similarity_alignment_loss(
        features, reference[..., index, :], divergence=divergence, **options
    )
    context = trainer.model.prompt_learner.ctx
    (gradient,) = torch.autograd.grad(expected, context)
    assert gradient.norm() > 0
    loss, (found,) = alignment.gradients(0, [context])
    assert loss.item() == pytest.approx(expected.item(), rel=1e-3, abs=1e-6)
    assert (found - gradient).norm() <= 5e-3 * gradient.norm()


def test_a_step_reports_it(tmp_path: Path) -> None:
    trainer = start(tmp_path, DIVERGENCE="fda", PAIRS="base-novel")
    batch = next(iter(trainer.train_loader_x))
    assert trainer.forward_backward(batch)["loss_sar"] > 0


@pytest.mark.parametrize(
    ("sar", "message"),
    [
        ({"DIVERGENCE": "hinge"}, "TEMPLATE is ''; expected several templates for hinge"),
        ({"DIVERGENCE": "cov", "PAIRS": "base-novel"}, "PAIRS is 'base-novel'; expected all for"),
        ({"PAIRS": "base-novel", "NOVEL": "none"}, "NOVEL is 'none'; expected novel names for"),
        ({"TEACHER": "images"}, "expected none for TEACHER images"),
        (
            {"TEACHER": "sentences", "DIVERGENCE": "cross"},
            "images, shuffled for cross",
        ),
        ({"TEACHER": "constant", "DIVERGENCE": "hinge", **MANY}, "one of text, shuffled for hinge"),
    ],
    ids=str,
)
def test_settings_that_do_not_go_together(
    tmp_path: Path, sar: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        start(tmp_path, **sar)
