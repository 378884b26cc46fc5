"""CLIPs of open_clip and transformers: features are those packages' own; prompts are learned."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

open_clip = pytest.importorskip("open_clip")
pytest.importorskip("transformers")

import tiny_host  # noqa: E402
from foreign_clips import (  # noqa: E402
    CASES,
    LENGTH,
    PIXELS,
    configuration,
    open_clip_folder,
    open_clip_model,
    transformers_folder,
)

from sar.encoding import encode_prompts  # noqa: E402
from sar.errors import ConfigError, WeightsError  # noqa: E402
from sar.toolbox.clip import Backbone, find_backbone, from_file, load_clip  # noqa: E402
from sar.toolbox.clip.towers import ImageTower, WholeText  # noqa: E402
from sar.toolbox.clip.visual_prompts import PromptedImageEncoder, vision_transformer  # noqa: E402

TEXTS = ["a photo of a cat", "the great pyrenees", "sea"]
CLOSE: dict[str, Any] = {"atol": 1e-5, "rtol": 0.0}


def images(size: int = PIXELS) -> Tensor:
    return torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def assert_same(backbone: Backbone, image_features: Tensor, text_features: Tensor) -> None:
    assert not backbone.model.training
    ours = backbone.model.encode_image(images(backbone.resolution))
    torch.testing.assert_close(ours, image_features, **CLOSE)
    ours = backbone.model.encode_text(backbone.tokenizer(TEXTS))
    torch.testing.assert_close(ours, text_features, **CLOSE)


@pytest.mark.parametrize("case", CASES)
def test_features_are_those_of_open_clip(case: str, tmp_path: Path) -> None:
    model = open_clip_folder(tmp_path, **CASES[case])
    config = configuration(**CASES[case])
    backbone = load_clip(str(tmp_path))
    length = config["text_cfg"].get("context_length", 77)
    tokens = open_clip.SimpleTokenizer(context_length=length)(TEXTS)
    with torch.no_grad():
        theirs = [
            encode(given, normalize=False)
            for encode, given in (
                (model.encode_image, images()),
                (model.encode_text, tokens),
            )
        ]
    assert_same(backbone, *theirs)
    assert backbone.activation == ("QuickGELU" if config.get("quick_gelu") else "GELU")
    assert backbone.heads == (0 if case == "ResNet" else 2, 4)
    assert backbone.mean == (0.4, 0.5, 0.6)
    assert backbone.tokenizer.length == length


@pytest.mark.parametrize("kind", ["clip", "siglip", "siglip2", "naflex"])
@pytest.mark.parametrize("activation", ["", "gelu"])
def test_features_are_those_of_transformers(kind: str, activation: str, tmp_path: Path) -> None:
    model, tokenizer = transformers_folder(tmp_path, kind, activation)
    backbone = load_clip(str(tmp_path))
    if tokenizer is None:
        ids = backbone.tokenizer(TEXTS).long()
    else:
        ids = tokenizer(TEXTS, padding="max_length", max_length=LENGTH, return_tensors="pt")
        ids = ids.input_ids
    given: dict[str, Any] = {"pixel_values": images()}
    if kind == "naflex":
        side, patch = 2, 16
        flat = images().reshape(3, 3, side, patch, side, patch).permute(0, 2, 4, 3, 5, 1)
        given["pixel_values"] = flat.reshape(3, side * side, -1)
        given["pixel_attention_mask"] = torch.ones(3, side * side, dtype=torch.long)
        given["spatial_shapes"] = torch.tensor([[side, side]] * 3)
    with torch.no_grad():
        found = [model.get_image_features(**given), model.get_text_features(input_ids=ids)]
    assert_same(backbone, *(getattr(one, "pooler_output", one) for one in found))
    assert backbone.heads == (4, 4)
    usual = "QuickGELU" if kind == "clip" else "GELU (tanh)"
    assert backbone.activation == ("GELU" if activation else usual)


def test_texts_are_told_as_their_tokenizer_tells_them(tmp_path: Path) -> None:
    """Words behind others are encoded as there; ids are in OpenAI's order."""
    _, theirs = transformers_folder(tmp_path, "siglip2")
    tokenizer = load_clip(str(tmp_path)).tokenizer
    assert tokenizer.starts == 0
    row = tokenizer(["a cat"])[0].tolist()
    assert [i - 1 for i in row[: row.index(max(row))]] == theirs("a cat").input_ids[:-1]
    assert tokenizer.encode("a cat") == tokenizer.encode("a") + tokenizer.behind("cat")
    assert tokenizer.encode("cat") != tokenizer.behind("cat")
    assert row.index(max(row)) == len(tokenizer.encode("a cat"))
    assert set(row[row.index(max(row)) + 1 :]) == {0}
    assert tokenizer.decode(tokenizer.encode("a cat")).strip() == "a cat"


def test_heads_are_those_of_the_published_widths(tmp_path: Path) -> None:
    """ViT-H's are 80 wide: 16 of them, not 20."""
    image = {"width": 1280, "head_width": 80, "layers": 1, "patch_size": 14, "image_size": 28}
    model = open_clip_model(configuration(vision_cfg=image, text_cfg={"width": 64, "heads": 1}))
    model.half().float()  # what `from_file` does to weights
    save_file(model.state_dict(), tmp_path / "clip.safetensors")
    backbone = from_file(tmp_path / "clip.safetensors", "GELU")
    assert backbone.heads == (16, 1)
    assert find_backbone("ViT-B/16").heads == (12, 8)
    with torch.no_grad():
        theirs, ours = model.encode_image(images(28)), backbone.build()
        torch.testing.assert_close(ours.float().encode_image(images(28)), theirs, **CLOSE)
        with pytest.raises(WeightsError, match="1280 wide layers with 3 heads"):
            from_file(tmp_path / "clip.safetensors", "GELU", (3, 1)).build()


def test_weights_that_do_not_tell_their_activation_are_refused(tmp_path: Path) -> None:
    changes = {"vision_cfg": {"layers": 12}, "text_cfg": {"width": 64, "heads": 1}}
    model = open_clip_model(configuration(**changes))
    file = tmp_path / "clip.safetensors"
    save_file(model.state_dict(), file)
    with pytest.raises(WeightsError, match=r"QuickGELU.*ViT-B/16:.*clip.*ViT-B-16:"):
        find_backbone(str(file))
    assert find_backbone(f"ViT-B/16:{file}").activation == "QuickGELU"
    assert from_file(file, "GELU").activation == "GELU"


def test_names_of_open_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "ViT-tiny", configuration())
    tags = open_clip.pretrained._PRETRAINED
    published = tmp_path / "published.safetensors"
    other = open_clip.pretrained._pcfg(file=str(published), quick_gelu=True, mean=(0.1,) * 3)
    monkeypatch.setitem(tags, "ViT-tiny", {"one": open_clip.pretrained._pcfg(), "other": other})
    model = open_clip_model(configuration(quick_gelu=True))
    save_file(model.state_dict(), published)

    backbone = load_clip("ViT-tiny:other")
    assert (backbone.activation, backbone.mean) == ("QuickGELU", (0.1,) * 3)
    with torch.no_grad():
        texts = open_clip.SimpleTokenizer()(TEXTS)
        assert_same(backbone, model.encode_image(images()), model.encode_text(texts))
    file = load_clip(f"ViT-tiny:{published}")
    assert file.activation == "GELU"
    assert find_backbone(f"ViT-H-14:{published}").heads == (16, 16)
    assert find_backbone(f"ViT-SO400M-14-SigLIP:{published}").mean == (0.5,) * 3
    for name, said in {
        "ViT-tiny": "needs the name of its weights.* one, other",
        "ViT-tiny:on": "did you mean ViT-tiny:one",
        "ViT-B16": "did you mean .*ViT-B/16",
        "ViT-B-61:x": "did you mean .*ViT-B-16",
        f"ViT-B/16:{tmp_path}/no.pt": "no file",
    }.items():
        with pytest.raises(ConfigError, match=said):
            load_clip(name)
    with pytest.raises(WeightsError, match="does not fit this architecture"):
        load_clip(f"ViT-S-32:{published}")


def test_folders_that_are_no_clip(tmp_path: Path) -> None:
    def folder(name: str, **files: object) -> str:
        (tmp_path / name).mkdir()
        for file, content in files.items():
            (tmp_path / name / f"{file}.json").write_text(json.dumps(content))
        return str(tmp_path / name)

    for name, error, said in (
        (folder("empty"), WeightsError, "holds no CLIP: expected open_clip_config.json"),
        (folder("half", open_clip_config=[]), WeightsError, "has no model_cfg"),
        (folder("bert", config={"model_type": "bert"}), ConfigError, "holds a bert"),
        (folder("none", config={}), WeightsError, "is no model's"),
    ):
        with pytest.raises(error, match=said):
            load_clip(name)
    open_clip_folder(tmp_path)
    (tmp_path / "open_clip_model.safetensors").unlink()
    with pytest.raises(WeightsError, match="has no weights"):
        load_clip(str(tmp_path))


def test_all_positions_give_what_shared_ones_give(tmp_path: Path) -> None:
    """A causal text encoder computed whole, deep prompts included."""
    model = open_clip_folder(tmp_path)
    clip = load_clip(str(tmp_path)).model
    text = open_clip.CustomTextCLIP(**configuration()).text
    own = {name: value for name, value in model.state_dict().items() if "visual" not in name}
    text.load_state_dict({name: value for name, value in own.items() if "logit" not in name})
    whole = WholeText(text, (0, 1, 49407), 1)
    tokens = clip.tokenizer([f"a photo of a {name}" for name in ("cat", "red fox", "sea")])
    eot = tokens.argmax(dim=1)
    generator = torch.Generator().manual_seed(2)
    context = torch.randn(4, 48, generator=generator).requires_grad_()
    deep = torch.randn(2, 48, generator=generator).requires_grad_()
    embedded = clip.token_embedding(tokens)
    prompts = torch.cat([embedded[:, :1], context.expand(3, -1, -1), embedded[:, 5:]], dim=1)
    shared = encode_prompts(clip, prompts, eot, shared=5, deep_prompts=[deep])
    all_of_them = whole(prompts, eot, [deep])
    torch.testing.assert_close(all_of_them, shared, **CLOSE)
    towards = torch.randn(3, 32, generator=generator)
    ours, theirs = (
        torch.autograd.grad((one * towards).sum(), (context, deep)) for one in (all_of_them, shared)
    )
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["GELU", "not causal", "CoCa", "siglip"])
def test_an_image_encoder_with_prompts_gives_its_own_features_without(
    kind: str, tmp_path: Path
) -> None:
    if kind in CASES:
        open_clip_folder(tmp_path, **CASES[kind])
    else:
        transformers_folder(tmp_path, kind)
    visual = load_clip(str(tmp_path)).model.visual
    prompted = PromptedImageEncoder(visual)
    width = visual.transformer.width
    with torch.no_grad():
        without = prompted(images(), torch.empty(0, width), [torch.empty(0, width)])
        torch.testing.assert_close(without, visual(images()), **CLOSE)
        some = prompted(images(), torch.ones(2, width), [torch.ones(2, width)])
    assert some.shape == without.shape
    assert not torch.allclose(some, without, atol=1e-3)


def test_an_image_encoder_that_is_no_transformer_takes_no_prompts(tmp_path: Path) -> None:
    open_clip_folder(tmp_path, **CASES["ResNet"])
    with pytest.raises(ConfigError, match="not ModifiedResNet"):
        vision_transformer(load_clip(str(tmp_path)).model)


METHODS: dict[str, dict[str, Any]] = {
    "CoOp": {},
    "CoCoOp": {},
    "KgCoOp": {"TRAINER__COOP__CTX_INIT": "the sea of a"},
    "MaPLe": {"TRAINER__MAPLE__PROMPT_DEPTH": 2, "TRAINER__MAPLE__PREC": "fp32"},
    "PromptSRC": {
        "TRAINER__PROMPTSRC__PROMPT_DEPTH_VISION": 2,
        "TRAINER__PROMPTSRC__PROMPT_DEPTH_TEXT": 2,
        "TRAINER__PROMPTSRC__PREC": "fp32",
    },
}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A causal CLIP, one that is not, and one with a vocabulary of its own."""
    found = {}
    for kind in ("GELU", "CoCa", "siglip2"):
        folder = tmp_path_factory.mktemp(kind)
        if kind in CASES:
            open_clip_folder(folder, **CASES[kind])
        else:
            transformers_folder(folder, kind)
        found[kind] = load_clip(str(folder)).model
    return found


@pytest.mark.parametrize("kind", ["GELU", "CoCa", "siglip2"])
@pytest.mark.parametrize("method", METHODS)
def test_methods_learn_on_them_with_alignment(
    method: str,
    kind: str,
    clips: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What is learned gets a gradient from the method's loss and from SAR, which sees the prompts
    as the method's own text encoder does."""
    monkeypatch.setattr(tiny_host, "tiny_clip", lambda: copy.deepcopy(clips[kind]))
    trainer = tiny_host.tiny_trainer(tmp_path, f"SAR_{method}", **METHODS[method])
    trainer.before_train()
    trainer.set_model_mode("train")
    trainer.num_batches, trainer.batch_idx, trainer.epoch = 3, 0, 0
    summary = trainer.forward_backward(next(iter(trainer.train_loader_x)))
    assert summary["loss_sar"] > 0
    said = capsys.readouterr().out
    assert "at all positions, because" not in said
    assert "SAR: text features of the base classes within" in said
    learned = {n: p for n, p in trainer.model.named_parameters() if p.requires_grad}
    assert learned
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in learned.values())
    towers = [module for module in trainer.model.modules() if isinstance(module, ImageTower)]
    assert towers
    assert not any(module.training for tower in towers for module in tower.visual.modules())
