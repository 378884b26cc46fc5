"""What holds for every method with SAR, whatever its prompts are: METHODS x invariants.

Over the embedded trainers, or over those of a checkout. Nothing here knows how the alignment gets
into a training step: it is seen in the gradients that the step leaves and in what it reports.
A further method is one line of METHODS.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import tiny_host
import torch
import torch.nn.functional as F
from hosts_at_hand import needs_dassl
from tiny_host import BASE, NOVEL, ON_CHECKOUT, run_on_checkout, tiny_clip, tiny_trainer
from torch import Tensor

from sar.alignment import similarity_alignment_loss


@dataclass(frozen=True)
class Method:
    """node: its settings, below TRAINER. settings: for a CLIP with 3 text and 2 image layers.

    own_loss_off: without its own regularization. aligned: a parameter that L_SAR depends on.
    spread: of parameters with which the classes are told apart.
    """

    node: str
    settings: dict[str, Any] = field(default_factory=dict)
    own_loss_off: dict[str, Any] = field(default_factory=dict)
    aligned: str = "prompt_learner.ctx"
    spread: float = 0.05


METHODS = {
    "CoOp": Method("COOP"),
    "CoCoOp": Method("COCOOP"),
    "KgCoOp": Method("COOP", own_loss_off={"W": 0.0}),
    "MaPLe": Method("MAPLE", {"PROMPT_DEPTH": 2}),
    "PromptSRC": Method(
        "PROMPTSRC",
        {"PROMPT_DEPTH_VISION": 2, "PROMPT_DEPTH_TEXT": 3, "GPA_MEAN": 2},
        {"TEXT_LOSS_WEIGHT": 0, "IMAGE_LOSS_WEIGHT": 0},
    ),
    "AAPE": Method(
        "AAPE",
        own_loss_off={"DISTILL_WEIGHT": 0.0, "AGGREGATOR": "mean"},
        aligned="prompt_learner.combination.out.weight",
        spread=0.5,
    ),
}
HERE = [name for name in METHODS if name in tiny_host.engine.TRAINER_REGISTRY.registered_names()]
# Divergence, its temperature, weight.
LOSSES = [("kl", 0.02, 0.25), ("kl", 1.0, 30.0), ("l1", 0.1, 4.0), ("l2", 0.1, 16.0)]
Gradients = dict[str, Tensor]


def make(
    folder: Path, trainer: str, precision: str = "fp32", own_loss: bool = True, **options: Any
) -> Any:
    method = METHODS[trainer.removeprefix("SAR_")]
    settings = {**method.settings, "PREC": precision, **({} if own_loss else method.own_loss_off)}
    given = {f"TRAINER__{method.node}__{key}": value for key, value in settings.items()}
    return tiny_trainer(folder, trainer, **given | options)


def learned(trainer: Any) -> dict[str, torch.nn.Parameter]:
    return {n: p for n, p in trainer.model.named_parameters() if p.requires_grad}


def start(trainer: Any) -> Any:
    """A batch of the trainer, brought to its first step; no step will move its parameters."""
    trainer.before_train()
    trainer.set_model_mode("train")
    for group in trainer.optim.param_groups:
        group["lr"] = 0.0
    trainer.num_batches = 3
    torch.manual_seed(7)
    return next(iter(trainer.train_loader_x))


def step(
    trainer: Any, batch: Any, epoch: int = 0, i: int = 0
) -> tuple[dict[str, float], Gradients]:
    """What a training step reports, and the gradients that it leaves."""
    trainer.epoch, trainer.batch_idx = epoch, i
    reported = trainer.forward_backward(batch)
    return reported, {n: p.grad.float().clone() for n, p in learned(trainer).items()}


class Explicit(NamedTuple):
    """The plain method's first step, and the text features of base and novel classes."""

    batch: Any
    gradients: Gradients
    parameters: dict[str, torch.nn.Parameter]
    features: Tensor  # (C, D), with gradients into `parameters`
    reference: Tensor  # (C, D), frozen

    def alignment(self, index: Tensor, divergence: str, temperature: float) -> Tensor:
        return similarity_alignment_loss(
            self.features[index],
            self.reference[index],
            divergence=divergence,
            temperature=temperature,
        )

    def gradients_with(self, weight: float, alignment: Tensor) -> Gradients:
        found = torch.autograd.grad(
            alignment, list(self.parameters.values()), retain_graph=True, allow_unused=True
        )
        shares = dict(zip(self.parameters, found, strict=True))
        return {
            name: gradient if shares[name] is None else gradient + weight * shares[name]
            for name, gradient in self.gradients.items()
        }


ALL = torch.arange(len(BASE + NOVEL))
# One image, whose context is also the mean context that CoCoOp aligns.
ONE_IMAGE: dict[str, Any] = {"DATALOADER__TRAIN_X__BATCH_SIZE": 1}


@pytest.fixture(scope="module", params=HERE)
def method(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def explicit(method: str, tmp_path_factory: pytest.TempPathFactory) -> Explicit:
    """The features are those of the plain method itself, trained on base and novel classes."""
    folder = tmp_path_factory.mktemp(method)
    plain = make(folder, method, **ONE_IMAGE)
    batch = start(plain)
    _, gradients = step(plain, batch)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny_host, "BASE", BASE + NOVEL)
        wide = make(folder, method, **ONE_IMAGE)
    wide.model.load_state_dict(
        {n: p for n, p in plain.model.state_dict().items() if n in learned(plain)}, strict=False
    )
    wide.set_model_mode("eval")
    features = class_features(wide.model, batch["img"])
    texts = [f"a photo of a {name.replace('_', ' ')}." for name in BASE + NOVEL]
    with torch.no_grad():
        reference = tiny_clip().float().encode_text(tiny_host.tokenize(texts))
    return Explicit(batch, gradients, learned(wide), features.flatten(0, -2), reference)


def class_features(model: Any, images: Tensor) -> Tensor:
    if not ON_CHECKOUT:
        embedded: Tensor = model.class_features(images)
        return embedded
    found: list[Tensor] = []
    model.text_encoder.register_forward_hook(lambda m, a, output: found.append(output))
    model(images)
    return found[0]


def close(found: Tensor, expected: Tensor, tolerance: float = 1e-4) -> bool:
    return bool((found - expected).norm() <= tolerance * expected.norm())


@pytest.mark.parametrize(("divergence", "temperature", "weight"), LOSSES)
def test_gradient_is_that_of_the_explicit_loss(
    tmp_path: Path,
    method: str,
    explicit: Explicit,
    divergence: str,
    temperature: float,
    weight: float,
) -> None:
    """Of the host's loss + weight L_SAR, in every parameter."""
    settings: dict[str, Any] = {
        "WEIGHT": weight,
        "DIVERGENCE": divergence,
        "TEMPERATURE": temperature,
    }
    options = {f"TRAINER__SAR__{k}": v for k, v in {**settings, "SAMPLE_SIZE": 0}.items()}
    sar = make(tmp_path, f"SAR_{method}", **options, **ONE_IMAGE)
    start(sar)
    reported, found = step(sar, explicit.batch)

    alignment = explicit.alignment(ALL, divergence, temperature)
    assert reported["loss_sar"] == pytest.approx(alignment.item(), rel=1e-4)
    expected = explicit.gradients_with(weight, alignment)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert close(found[name], gradient), name
    aligned = METHODS[method].aligned
    assert not close(explicit.gradients[aligned], expected[aligned], 1e-2)  # it can be seen


def test_each_step_samples_classes_by_its_number(
    tmp_path: Path, method: str, explicit: Explicit
) -> None:
    """The classes are recognized by the loss, the only one of all samples that it can be of."""
    subsets = [torch.tensor(s) for s in itertools.combinations(range(len(ALL)), 10)]
    losses = [explicit.alignment(subset, "kl", 0.1) for subset in subsets]
    options: dict[str, Any] = {
        "TRAINER__SAR__SAMPLE_SIZE": 10,
        "TRAINER__SAR__TEMPERATURE": 0.1,
        **ONE_IMAGE,
    }

    def sampled(steps: list[tuple[int, int]]) -> list[int]:
        sar = make(tmp_path, f"SAR_{method}", **options)
        start(sar)
        found = []
        for epoch, i in steps:
            reported, gradients = step(sar, explicit.batch, epoch, i)
            nearest = min(
                range(len(losses)), key=lambda k: abs(losses[k].item() - reported["loss_sar"])
            )
            assert reported["loss_sar"] == pytest.approx(losses[nearest].item(), rel=1e-4)
            expected = explicit.gradients_with(1.0, losses[nearest])
            assert all(close(gradients[name], expected[name]) for name in expected)
            found.append(nearest)
        return found

    steps = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
    drawn = sampled(steps)
    assert len(set(drawn)) > 3
    assert sampled(steps[:3:-1]) == drawn[:3:-1]  # as a resumed run does, in any order
    options["SEED"] = 2
    assert sampled(steps[:3]) != drawn[:3]


class Run(NamedTuple):
    trainer: Any
    outputs: list[Tensor]  # all that its model returned in training and test
    random_state: Tensor  # at the end
    before: dict[str, Tensor]  # the model's state


THREE_EPOCHS: dict[str, Any] = {"OPTIM__MAX_EPOCH": 3, "TRAIN__CHECKPOINT_FREQ": 1}


def train(folder: Path, trainer: str, **options: Any) -> Run:
    trained = make(folder, trainer, **THREE_EPOCHS | options)
    before = {name: value.clone() for name, value in trained.model.state_dict().items()}
    outputs: list[Tensor] = []

    def keep(module: Any, args: Any, output: Any) -> None:
        output = output if isinstance(output, tuple) else (output,)
        outputs.extend(tensor.detach().clone() for tensor in output)

    trained.model.register_forward_hook(keep)
    trained.train()
    state = torch.get_rng_state()
    if hasattr(trained, "predictions"):  # our tests hand image features on, not through the model
        with torch.no_grad():
            outputs += [output for output, _ in trained.predictions(trained.test_loader, "test")]
    return Run(trained, outputs, state, before)


@pytest.fixture(scope="module")
def plain(method: str, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(tmp_path_factory.mktemp(method), method)


@pytest.fixture(scope="module")
def aligned(method: str, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(tmp_path_factory.mktemp(method), f"SAR_{method}")


def same_weights(ours: Any, theirs: Any) -> bool:
    found, expected = ours.model.state_dict(), theirs.model.state_dict()
    return found.keys() == expected.keys() and all(
        torch.equal(expected[name], value) for name, value in found.items()
    )


def test_weight_zero_is_the_base_trainer_bit_for_bit(
    tmp_path: Path, method: str, plain: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    zero = train(tmp_path, f"SAR_{method}", TRAINER__SAR__WEIGHT=0.0)
    assert "SAR:" not in capsys.readouterr().out  # nor is anything computed
    assert len(zero.outputs) == len(plain.outputs) >= 11  # 3 x 3 training batches, 2 test batches
    assert all(map(torch.equal, zero.outputs, plain.outputs))
    assert torch.equal(zero.random_state, plain.random_state)
    assert same_weights(zero.trainer, plain.trainer)


def test_sar_moves_what_the_method_trains_and_nothing_else(
    method: str, plain: Run, aligned: Run
) -> None:
    ours, theirs = aligned.trainer, plain.trainer
    assert torch.equal(aligned.random_state, plain.random_state)  # and so the same batches
    assert torch.equal(aligned.outputs[0], plain.outputs[0])  # the forward pass is the host's
    before, after, plainly = plain.before, ours.model.state_dict(), theirs.model.state_dict()
    assert before.keys() == after.keys() == plainly.keys()
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert moved == set(learned(ours)) == set(learned(theirs))
    aligned_with = METHODS[method].aligned
    assert not torch.equal(after[aligned_with], plainly[aligned_with])
    assert ours.get_model_names() == theirs.get_model_names()
    counts = [[len(g["params"]) for g in t.optim.param_groups] for t in (ours, theirs)]
    assert counts[0] == counts[1]


def test_checkpoints_load_both_ways(tmp_path: Path, method: str, plain: Run, aligned: Run) -> None:
    for source, reader_name in ((aligned, method), (plain, f"SAR_{method}")):
        reader = make(tmp_path, reader_name)
        reader.load_model(source.trainer.output_dir, epoch=3)
        assert same_weights(reader, source.trainer)
        assert reader.test() == source.trainer.test()


@pytest.mark.skipif(ON_CHECKOUT, reason="Dassl's checkpoints do not hold the random state")
def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(
    tmp_path: Path, method: str, aligned: Run
) -> None:
    cut = make(tmp_path, f"SAR_{method}", **THREE_EPOCHS)
    after_epoch = cut.after_epoch

    def stop_after_the_second() -> None:
        if cut.epoch == 1:
            raise KeyboardInterrupt
        after_epoch()

    cut.after_epoch = stop_after_the_second
    with pytest.raises(KeyboardInterrupt):
        cut.train()
    resumed = train(tmp_path, f"SAR_{method}").trainer
    assert resumed.start_epoch == 1
    assert same_weights(resumed, aligned.trainer)


@pytest.fixture
def alignment_alone(tmp_path: Path, method: str) -> Callable[[str], Gradients]:
    """Gradients of a step in which the host's loss has none."""

    def gradients(precision: str) -> Gradients:
        # At a high temperature gradients are as small as those of a large model and many classes.
        sar = make(tmp_path, f"SAR_{method}", precision, False, TRAINER__SAR__TEMPERATURE=30.0)
        sar.model.logit_scale.data.fill_(float("-inf"))  # all logits are zero, whatever the prompts
        torch.manual_seed(3)
        for parameter in learned(sar).values():
            parameter.data.copy_(torch.randn(parameter.shape).mul_(METHODS[method].spread).half())
        batch = start(sar)
        return step(sar, batch)[1]

    return gradients


def test_fp16_keeps_the_small_gradients(
    method: str, alignment_alone: Callable[[str], Gradients]
) -> None:
    """Without scaling inside the text encoder they vanish."""
    found, expected = alignment_alone("fp16"), alignment_alone("fp32")
    reached = {name for name, gradient in expected.items() if gradient.any()}
    assert METHODS[method].aligned in reached
    for name in reached:
        half, full = found[name].flatten(), expected[name].flatten()
        assert F.cosine_similarity(half, full, dim=0) > 0.999, name
        assert half.norm() == pytest.approx(full.norm().item(), rel=0.05), name


@needs_dassl
@pytest.mark.skipif(ON_CHECKOUT, reason="this is the process for the checkout")
@pytest.mark.parametrize("checkout", ["CoOp", "KgCoOp/KgCoOp"])
def test_checkout(checkout: str) -> None:
    """All of this over the published trainers that a tiny CLIP fits."""
    run_on_checkout(checkout, "tests/test_every_method.py")
