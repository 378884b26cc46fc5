"""MaPLe and PromptSRC, plain and with SAR, on the embedded toolbox."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny_host import BASE, NOVEL, ON_CHECKOUT, tiny_clip, tiny_trainer, tokenize
from torch import Tensor

from sar.classes.templates import imagenet_templates
from sar.encoding import encode_prompts
from sar.errors import ConfigError, WeightsError

if ON_CHECKOUT:
    pytest.skip("the embedded toolbox only", allow_module_level=True)

from sar.toolbox.clip.pocket import build_pocket
from sar.toolbox.clip.visual_prompts import PromptedImageEncoder, vision_transformer
from sar.toolbox.trainers import maple, promptsrc

NODES = {"MaPLe": "MAPLE", "PromptSRC": "PROMPTSRC"}
both = pytest.mark.parametrize("base", NODES)


def make(folder: Path, trainer: str, precision: str = "fp32", **options: Any) -> Any:
    """The tiny CLIP has 3 text layers and 2 of the image encoder."""
    settings = {
        "TRAINER__MAPLE__PROMPT_DEPTH": 2,
        "TRAINER__PROMPTSRC__PROMPT_DEPTH_VISION": 2,
        "TRAINER__PROMPTSRC__PROMPT_DEPTH_TEXT": 3,
        "TRAINER__PROMPTSRC__GPA_MEAN": 2,
        f"TRAINER__{NODES[trainer.removeprefix('SAR_')]}__PREC": precision,
    }
    return tiny_trainer(folder, trainer, **settings | options)


def learnable(trainer: Any) -> dict[str, Tensor]:
    return {n: p for n, p in trainer.model.named_parameters() if p.requires_grad}


def start(trainer: Any) -> tuple[Tensor, Tensor]:
    """At the first step, with its batch."""
    trainer.before_train()
    trainer.set_model_mode("train")
    trainer.epoch, trainer.batch_idx, trainer.num_batches = 0, 0, 100
    torch.manual_seed(7)
    return trainer.parse_batch_train(next(iter(trainer.train_loader_x)))


def relative(found: Tensor, expected: Tensor) -> float:
    return ((found - expected).norm() / expected.norm()).item()


def naive_features(trainer: Any, names: list[str]) -> Tensor:
    """All 77 positions, with the prompt learner that the method builds for `names`."""
    model, clip = trainer.model, tiny_clip().float()
    own = model.prompt_learner
    if hasattr(own, "compound_prompts_text"):
        learner: Any = maple.MultiModalPromptLearner(trainer.cfg, names, clip)
        deep = list(own.compound_prompts_text)
    else:
        learner = promptsrc.VLPromptLearner(trainer.cfg, names, clip, own.fixed_embeddings)
        deep = [block.VPT_shallow for block in model.text_encoder.transformer.resblocks[1:]]
    learner.ctx = own.ctx
    eot = learner.tokenized_prompts.argmax(dim=-1)
    return encode_prompts(model.text_encoder, learner.prompts(), eot, deep_prompts=deep)


@both
def test_shared_prefix_is_exact(tmp_path, base):
    """Of the host's own text encoder, and of the view of all classes; deep prompts included."""
    trainer = make(tmp_path, f"SAR_{base}")
    start(trainer)
    model = trainer.model
    # "of a" lies behind MaPLe's two context vectors and is common to all classes, too.
    assert model.text_encoder.shared == 5
    own = model.prompt_learner()
    own = (own[0], own[2]) if base == "MaPLe" else (own,)
    features = model.text_encoder(own[0], model.tokenized_prompts, *own[1:])
    for found, names in (
        (features, BASE),
        (trainer._injection.alignment.view(), BASE + NOVEL),
    ):
        expected = naive_features(trainer, names)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
        torch.manual_seed(0)
        weights = torch.randn_like(found)
        text = [p for n, p in learnable(trainer).items() if reaches_text(n)]
        for ours, theirs in zip(
            torch.autograd.grad((found * weights).sum(), text, retain_graph=True),
            torch.autograd.grad((expected * weights).sum(), text),
            strict=True,
        ):
            assert relative(ours, theirs) < 1e-5


def reaches_text(name: str) -> bool:
    return "proj" not in name and "image_encoder" not in name


def test_promptsrc_uses_the_mean_over_epochs_also_when_resumed(tmp_path, monkeypatch, capsys):
    options: dict[str, Any] = {"OPTIM__MAX_EPOCH": 3, "TRAIN__CHECKPOINT_FREQ": 1}
    whole = make(tmp_path, "PromptSRC", **options)
    epochs = []
    add = whole.average.add
    monkeypatch.setattr(
        whole.average,
        "add",
        lambda epoch: (epochs.append(whole.model.image_encoder.VPT.detach().clone()), add(epoch)),
    )
    whole.train()
    gauss = torch.tensor([0.60653066, 1.0, 0.60653066])  # mean 2, deviation 1
    expected = sum(w * e for w, e in zip(gauss / gauss.sum(), epochs, strict=True))
    torch.testing.assert_close(whole.model.image_encoder.VPT.data, expected)
    assert not torch.allclose(expected, epochs[-1])

    options["OUTPUT_DIR"] = str(tmp_path / "interrupted")
    first = make(tmp_path, "PromptSRC", **options)
    monkeypatch.setattr(first, "before_epoch", lambda: 1 / 0 if first.epoch == 2 else None)
    with pytest.raises(ZeroDivisionError):
        first.train()
    capsys.readouterr()
    resumed = make(tmp_path, "PromptSRC", **options)
    resumed.train()
    assert "Resuming after epoch 2" in capsys.readouterr().out
    expected = learnable(whole)
    assert all(torch.equal(expected[n], p) for n, p in learnable(resumed).items())


def test_an_optimizer_of_other_parameters_is_named_and_its_weights_can_be_used(tmp_path):
    """As in the published PromptSRC's checkpoints, whose frozen image encoder counts twice."""
    trained = make(tmp_path, "PromptSRC")
    trained.train()
    file = Path(trained.output_dir, "VLPromptLearner", "model.pth.tar-2")
    checkpoint = torch.load(file, weights_only=True)
    parameters = checkpoint["optimizer"]["param_groups"][0]["params"]
    parameters.append(len(parameters))
    torch.save(checkpoint, file)
    with pytest.raises(WeightsError, match=r"optimizer in .*model.pth.tar-2 .*INIT_WEIGHTS"):
        make(tmp_path, "PromptSRC").train()
    started = make(tmp_path, "PromptSRC", MODEL__INIT_WEIGHTS=str(file))
    expected = learnable(trained)
    assert all(torch.equal(expected[n], p) for n, p in learnable(started).items())


def test_promptsrc_teacher_is_the_mean_over_the_templates(tmp_path):
    templates = imagenet_templates()
    assert len(set(templates)) == 60
    assert all(template.count("{}") == 1 for template in templates)
    trainer = make(tmp_path, "PromptSRC", "bf16")
    clip = tiny_clip().float()
    names = [name.replace("_", " ") for name in BASE]
    with torch.no_grad():
        features = [
            clip.encode_text(tokenize([t.format(n) for t in templates])).mean(dim=0) for n in names
        ]
    fixed = trainer.model.prompt_learner.fixed_embeddings
    torch.testing.assert_close(fixed, torch.stack(features), atol=1e-5, rtol=1e-5)
    assert "prompt_learner.fixed_embeddings" not in trainer.model.state_dict()


@pytest.mark.parametrize("build", [tiny_clip, build_pocket])
def test_image_encoder(build):
    """Without prompts it is CLIP's; each prompt has its say."""
    torch.manual_seed(0)
    visual = build().float().visual
    encoder = PromptedImageEncoder(visual)
    width, layers = len(visual.class_embedding), len(visual.transformer.resblocks)
    image = torch.randn(2, 3, visual.input_resolution, visual.input_resolution)
    torch.testing.assert_close(encoder(image, torch.zeros(0, width)), visual(image))
    prompts = [torch.randn(3, width, requires_grad=True) for _ in range(layers)]
    features = encoder(image, prompts[0], prompts[1:])
    for found in torch.autograd.grad(features.sum(), prompts):
        assert (found.norm(dim=1) > 0).all()
    assert encoder.state_dict().keys() == visual.state_dict().keys()


@pytest.mark.parametrize(
    ("trainer", "options", "message"),
    [
        ("MaPLe", {"TRAINER__MAPLE__PROMPT_DEPTH": 3}, r"MAPLE\.PROMPT_DEPTH is 3; .* to 2"),
        ("MaPLe", {"TRAINER__MAPLE__N_CTX": 0}, r"MAPLE\.N_CTX is 0"),
        ("MaPLe", {"TRAINER__MAPLE__PREC": "half"}, r"MAPLE\.PREC is 'half'"),
        (
            "MaPLe",
            {"TRAINER__MAPLE__N_CTX": 3, "TRAINER__MAPLE__CTX_INIT": "a photo"},
            "has 2 tokens, but there are 3",
        ),
        ("PromptSRC", {"TRAINER__PROMPTSRC__PROMPT_DEPTH_TEXT": 0}, "DEPTH_TEXT is 0"),
        ("PromptSRC", {"TRAINER__PROMPTSRC__PROMPT_DEPTH_VISION": 3}, "DEPTH_VISION is 3"),
        ("PromptSRC", {"TRAINER__PROMPTSRC__GPA_STD": 0}, "GPA_STD is 0"),
    ],
)
def test_wrong_settings_are_named(tmp_path, trainer, options, message):
    with pytest.raises(ConfigError, match=message):
        make(tmp_path, trainer, **options)


def test_visual_prompts_need_a_vision_transformer():
    with pytest.raises(ConfigError, match="ModifiedResNet"):
        vision_transformer(SimpleNamespace(visual=type("ModifiedResNet", (), {})()))


def test_promptsrc_without_visual_prompts(tmp_path):
    trainer = make(tmp_path, "PromptSRC", TRAINER__PROMPTSRC__PROMPT_DEPTH_VISION=0)
    assert not any("image_encoder" in name for name in learnable(trainer))
    image, label = start(trainer)
    assert trainer.forward_backward({"img": image, "label": label})["loss_image"] == 0
