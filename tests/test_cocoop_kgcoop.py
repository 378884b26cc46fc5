"""CoCoOp and KgCoOp, and SAR on both: over the embedded trainers, or over a checkout's own."""

from pathlib import Path
from typing import Any

import pytest
import tiny_host
import torch
import torch.nn.functional as F
from hosts_at_hand import needs_dassl
from tiny_host import (
    BASE,
    HOST,
    NOVEL,
    ON_CHECKOUT,
    run_on_checkout,
    tiny_clip,
    tiny_trainer,
)
from torch import Tensor

from sar.alignment import similarity_alignment_loss
from sar.errors import ConfigError

NODES = {"CoCoOp": "COCOOP", "KgCoOp": "COOP"}
HERE = [name for name in NODES if name in tiny_host.engine.TRAINER_REGISTRY.registered_names()]
embedded = pytest.mark.skipif(ON_CHECKOUT, reason="about the embedded trainers")


def trainer_of(folder: Path, name: str, precision: str = "fp32", **options: Any) -> Any:
    node = NODES[name.removeprefix("SAR_")]
    return tiny_trainer(folder, name, **{f"TRAINER__{node}__PREC": precision}, **options)


def started(folder: Path, name: str, **options: Any) -> tuple[Any, Tensor, Tensor]:
    """A trainer at the beginning of its first step, and that step's batch."""
    trainer = trainer_of(folder, name, **options)
    trainer.before_train()
    trainer.set_model_mode("train")
    trainer.epoch, trainer.batch_idx, trainer.num_batches = 0, 0, 100
    torch.manual_seed(7)
    return trainer, *trainer.parse_batch_train(next(iter(trainer.train_loader_x)))


def learned(trainer: Any) -> dict[str, Tensor]:
    return {n: p for n, p in trainer.model.named_parameters() if p.requires_grad}


def gradients(loss: Tensor, trainer: Any) -> dict[str, Tensor]:
    parameters = learned(trainer)
    return dict(zip(parameters, torch.autograd.grad(loss, list(parameters.values())), strict=True))


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found.float() - expected).norm() / expected.norm())


@pytest.mark.skipif("CoCoOp" not in HERE, reason="this checkout has no CoCoOp")
def test_cocoop_aligns_the_mean_context_of_a_batch(tmp_path: Path) -> None:
    """With prompts written out here, all 77 positions encoded by CLIP."""
    weight = 3.0
    options: dict[str, Any] = {"TRAINER__SAR__WEIGHT": weight, "TRAINER__SAR__SAMPLE_SIZE": 0}
    trainer, images, labels = started(tmp_path, "SAR_CoCoOp", OPTIM__LR=0.0, **options)
    model = trainer.model
    reported = trainer.forward_backward({"img": images, "label": labels})
    found = {name: p.grad.clone() for name, p in learned(trainer).items()}

    frozen, learner = tiny_clip().float(), model.prompt_learner
    names = [n.replace("_", " ") for n in BASE + NOVEL]
    tokenize = tiny_host.tokenize
    tokens = tokenize([f"X X X X {n}." for n in names])
    embedded = frozen.token_embedding(tokens).detach()
    features = F.normalize(model.image_encoder(images), dim=-1)
    ctx = learner.ctx + learner.meta_net(features).mean(dim=0)
    prompts = torch.cat(
        [embedded[:, :1], ctx.expand(len(names), -1, -1), embedded[:, 1 + len(ctx) :]], dim=1
    )
    x = (prompts + frozen.positional_embedding).transpose(0, 1)
    x = frozen.ln_final(frozen.transformer(x).transpose(0, 1))
    ours = x[torch.arange(len(x)), tokens.argmax(dim=-1)] @ frozen.text_projection
    reference = frozen.encode_text(tokenize([f"a photo of a {n}." for n in names])).detach()
    sar = trainer.cfg.TRAINER.SAR
    alignment = similarity_alignment_loss(
        ours, reference, divergence=sar.DIVERGENCE, temperature=sar.TEMPERATURE
    )
    assert reported["loss_sar"] == pytest.approx(alignment.item(), rel=1e-4)
    trainer.set_model_mode("eval")
    host = F.cross_entropy(model(images), labels)
    for key, expected in gradients(host + weight * alignment, trainer).items():
        assert relative(found[key], expected) < 1e-4, key


@embedded
def test_kgcoops_distance_counts_in_every_precision(tmp_path: Path) -> None:
    for precision in ("fp32", "fp16", "bf16", "amp"):
        losses = []
        for weight in (0.0, 2.0):
            trainer, images, labels = started(
                tmp_path, "KgCoOp", precision=precision, TRAINER__COOP__W=weight
            )
            loss = trainer.compute_loss(images, labels)[0]
            losses.append(loss.item())
        distance = trainer.model(images)[1].item()
        assert distance > 0.01
        assert losses[1] - losses[0] == pytest.approx(2 * distance, rel=0.05)


@embedded
def test_kgcoops_hand_crafted_prompts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In fp32 at any precision, generic for a dataset without a template, never saved."""
    trainer = trainer_of(tmp_path, "KgCoOp", "fp16")
    frozen = tiny_clip().float()
    texts = [f"a photo of a {name.replace('_', ' ')}." for name in BASE]
    expected = frozen.encode_text(tiny_host.tokenize(texts))
    found = trainer.model.ori_embedding
    torch.testing.assert_close(found, F.normalize(expected, dim=-1), atol=1e-5, rtol=1e-4)
    assert "ori_embedding" not in trainer.model.state_dict()
    assert trainer.model.prompt_learner.ctx.dtype == torch.float16


@embedded
def test_kgcoop_reads_checkpoints_with_unused_parameters(tmp_path: Path) -> None:
    from sar.toolbox.utils.checkpoint import load_weights

    learner = trainer_of(tmp_path, "KgCoOp").model.prompt_learner
    state = {**learner.state_dict(), "bias_vectors": torch.zeros(1, 512)}
    state |= {"ctx": torch.ones_like(learner.ctx), "meta_net.linear1.bias": torch.zeros(512)}
    load_weights(learner, state, "published")
    assert (learner.ctx == 1).all()


@embedded
def test_classes_are_encoded_once_or_once_per_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kgcoop = trainer_of(tmp_path, "KgCoOp")
    calls: list[Any] = []
    kgcoop.model.text_encoder.register_forward_hook(lambda *args: calls.append(args[1]))
    kgcoop.test()
    assert len(calls) == 1

    # CoCoOp: in chunks of images, whose size changes nothing but memory.
    from sar.toolbox.trainers import cocoop

    trainer = trainer_of(tmp_path, "CoCoOp")
    trainer.set_model_mode("eval")
    images = torch.rand(5, 3, 32, 32)
    shapes: list[Any] = []
    trainer.model.text_encoder.register_forward_hook(
        lambda module, args, output: shapes.append(tuple(output.shape[:2]))
    )
    with torch.no_grad():
        whole = trainer.model(images)
        monkeypatch.setattr(cocoop, "PROMPTS_AT_A_TIME", 2 * len(BASE))
        torch.testing.assert_close(trainer.model(images), whole, atol=1e-4, rtol=1e-5)
    assert shapes == [(5, 6), (2, 6), (2, 6), (1, 6)]
    assert not torch.allclose(whole[0], whole[1])


@embedded
@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("CoCoOp", {"TRAINER__COCOOP__N_CTX": 0}, r"COCOOP\.N_CTX is 0; expected at least 1"),
        ("KgCoOp", {"TRAINER__COOP__W": -1.0}, r"COOP\.W is -1\.0; expected a weight >= 0"),
        ("KgCoOp", {"TRAINER__COOP__CLASS_TOKEN_POSITION": "x"}, "end, middle, front"),
    ],
)
def test_wrong_settings_are_named(
    tmp_path: Path, name: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        trainer_of(tmp_path, name, **options)
    with pytest.raises(ConfigError, match=rf"{NODES[name]}\.PREC is 'half'"):
        trainer_of(tmp_path, name, "half")


@embedded
def test_the_protocols_know_them() -> None:
    from sar.protocols import configs

    published = {"CoCoOp": "vit_b16_c4_ep10_batch1_ctxv1", "KgCoOp": "vit_b16_ep100_ctxv1"}
    for name, cfg in published.items():
        for trainer in (name, f"SAR_{name}"):
            assert trainer in configs.trainer_names()
            assert trainer in tiny_host.register(HOST)
            for dataset in ("oxford_pets", "demo_food"):
                chosen = configs.default_cfg(trainer, dataset)
                assert chosen == ("pocket" if dataset == "demo_food" else cfg)
                assert configs.config_path("trainers", trainer, chosen).is_file()


@needs_dassl
@pytest.mark.skipif(ON_CHECKOUT, reason="this is the process for the checkout")
@pytest.mark.parametrize("checkout", ["CoOp", "KgCoOp/KgCoOp"])
def test_checkout(checkout: str) -> None:
    """Everything here that is not about the embedded trainers, over the published ones."""
    run_on_checkout(checkout, "tests/test_cocoop_kgcoop.py")
