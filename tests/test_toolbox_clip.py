"""CLIP files, prompts and checkpoints."""

import os
import sys
from collections import OrderedDict

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from toolbox_mini import PIXELS, random_clip
from torch import nn

from sar.errors import ConfigError, WeightsError
from sar.toolbox.clip import (
    CLIP,
    backbone_names,
    find_backbone,
    from_file,
    load_clip,
    register_backbone,
    tokenize,
)
from sar.toolbox.clip.prompted import ContextLearner
from sar.toolbox.trainers.coop import name_order
from sar.toolbox.utils import load_checkpoint, load_pretrained_weights


@pytest.fixture(scope="module")
def clip_model():
    return random_clip()


def outputs(model):
    with torch.no_grad():
        images = torch.linspace(-1, 1, 2 * 3 * PIXELS * PIXELS).reshape(2, 3, PIXELS, PIXELS)
        return model.encode_image(images), model.encode_text(tokenize(["a dog", "the sea"]))


@pytest.mark.filterwarnings("ignore:.*jit:FutureWarning", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("kind", ["pt", "nested", "safetensors", "jit"])
def test_clip_files(clip_model, tmp_path, kind):
    state = clip_model.state_dict()
    file = tmp_path / ("clip.safetensors" if kind == "safetensors" else "clip.pt")
    if kind == "safetensors":
        save_file(state, file)
    elif kind == "jit":
        example = (torch.zeros(1, 3, PIXELS, PIXELS), tokenize(["x"]))
        torch.jit.trace(clip_model, example, check_trace=False).save(str(file))
    else:
        torch.save({"state_dict": state} if kind == "nested" else state, file)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    model = load_clip(str(file)).model
    assert torch.equal(torch.get_rng_state(), before)
    assert not model.training
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    for ours, theirs in zip(outputs(model), outputs(clip_model), strict=True):
        assert torch.equal(ours, theirs)
    load_clip(str(file), keep_rng=False)
    assert not torch.equal(torch.get_rng_state(), before)


def test_a_record_tells_what_its_clip_takes(clip_model, tmp_path):
    save_file(clip_model.state_dict(), tmp_path / "clip.safetensors")
    found = load_clip(str(tmp_path / "clip.safetensors"))
    assert found.resolution == found.model.visual.input_resolution == PIXELS
    assert find_backbone("pocket").resolution == load_clip("pocket").model.visual.input_resolution
    assert find_backbone("ViT-L/14@336px").resolution == 336
    assert find_backbone("RN50").resolution == 224
    assert found.activation == "QuickGELU"
    assert found.tokenizer.encode("a dog") == tokenize("a dog")[0, 1:3].tolist()

    gelu = from_file(tmp_path / "clip.safetensors", activation="GELU", mean=(0.5, 0.5, 0.5))
    register_backbone("gelu", gelu)
    other = load_clip("gelu")
    assert other.mean == (0.5, 0.5, 0.5)
    for ours, theirs in zip(outputs(other.model), outputs(found.model), strict=True):
        assert not torch.equal(ours, theirs)
        torch.testing.assert_close(ours, theirs, atol=0.5, rtol=0.5)
    assert "gelu" in backbone_names()
    with pytest.raises(ConfigError, match="a backbone 'gelu' already"):
        register_backbone("gelu", gelu)
    with pytest.raises(ConfigError, match="'ReLU'; expected one of QuickGELU, GELU"):
        from_file(tmp_path / "clip.safetensors", activation="ReLU")


def test_resolution_of_a_resnet(tmp_path):
    model = CLIP(32, 64, (1, 1, 1, 1), 8, None, 77, 49408, 64, 1, 2)
    torch.save(model.state_dict(), tmp_path / "resnet.pt")
    assert load_clip(str(tmp_path / "resnet.pt")).resolution == 64


def test_files_that_are_no_clip(clip_model, tmp_path):
    file = tmp_path / "clip.pt"
    with pytest.raises(ConfigError, match=r"ViT-B/16.*or the path"):
        load_clip(str(file))
    file.write_bytes(b"half a download")
    with pytest.raises(WeightsError, match=r"clip\.pt could not be read"):
        load_clip(str(file))
    torch.save({"weight": torch.zeros(1)}, file)
    with pytest.raises(WeightsError, match="text_projection"):
        load_clip(str(file))
    state = dict(clip_model.state_dict())
    del state["transformer.resblocks.0.ln_1.weight"]
    torch.save(state, file)
    with pytest.raises(WeightsError, match=r"structure.*ln_1\.weight"):
        load_clip(str(file))


def test_importing_clip_leaves_no_stand_in():
    module = sys.modules.get("pkg_resources")
    assert module is None or hasattr(module, "__file__")


def test_a_context_without_words_starts_near_zero(clip_model):
    """As CoOp's: normal, with deviation 0.02, and one for all classes or one for each."""
    for specific, shape in ((False, (16, 64)), (True, (2, 16, 64))):
        ctx = ContextLearner("", 16, ["a cat", "a dog"], clip_model, specific).ctx.detach()
        assert ctx.shape == shape
        assert float(ctx.std()) == pytest.approx(0.02, rel=0.1)
        assert float(ctx.mean().abs()) < 0.003


@given(st.lists(st.integers(1, 6), min_size=1, max_size=4), st.integers(1, 8), st.data())
def test_name_order_moves_names_behind_part_of_the_context(name_lens, n_ctx, data):
    before = data.draw(st.integers(0, n_ctx))
    order = name_order(name_lens, n_ctx, before, 20)
    for row, length in zip(order.tolist(), name_lens, strict=True):
        context = [f"ctx{i}" for i in range(n_ctx)]
        name = [f"name{i}" for i in range(length)]
        rest = [f"rest{i}" for i in range(20 - 1 - n_ctx - length)]
        source = ["sos", *context, *name, *rest]
        wanted = ["sos", *context[:before], *name, *context[before:], *rest]
        assert [source[i] for i in row] == wanted


class Bomb:
    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return (os.mkdir, (self.file,))


def test_checkpoints_of_dassl_are_read_without_running_them(tmp_path):
    """Dassl pickles the schedule's successor, with the optimizer inside."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(2))], lr=0.1, momentum=0.9)
    inner = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 7)
    file = tmp_path / "model.pth.tar-3"
    state = {
        "state_dict": OrderedDict(ctx=torch.arange(3.0)),
        "epoch": 3,
        "scheduler": {
            "successor": inner,
            "last_epoch": 2,
            "bomb": Bomb(str(tmp_path / "exploded")),
        },
        "optimizer": optimizer.state_dict(),
        "val_result": None,
    }
    torch.save(state, file)
    read = load_checkpoint(file)
    assert not (tmp_path / "exploded").exists()
    assert torch.equal(read["state_dict"]["ctx"], torch.arange(3.0))
    assert read["optimizer"] == state["optimizer"]
    assert read["scheduler"]["successor"].state["T_max"] == 7.0


def test_damaged_checkpoints(tmp_path):
    file = tmp_path / "model.pth.tar-3"
    torch.save({"epoch": 3}, file)
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(WeightsError, match=r"tar-3 cannot be read"):
        load_checkpoint(file)
    with pytest.raises(WeightsError, match=r"that folder has: model\.pth\.tar-3"):
        load_checkpoint(tmp_path / "model.pth.tar-4")


def test_initial_weights_must_fit(tmp_path):
    file = str(tmp_path / "weights.pt")
    layer = nn.Linear(2, 3)
    torch.save({"token_prefix": torch.zeros(1), **layer.state_dict()}, file)
    fresh = nn.Linear(2, 3)
    load_pretrained_weights(fresh, file)
    assert torch.equal(fresh.weight, layer.weight)
    torch.save({"weight": torch.zeros(3, 3), "extra": torch.zeros(1)}, file)
    with pytest.raises(WeightsError) as error:
        load_pretrained_weights(fresh, file)
    for problem in ("bias is missing", "extra is unexpected", "shape (3, 3), expected (3, 2)"):
        assert problem in str(error.value)
