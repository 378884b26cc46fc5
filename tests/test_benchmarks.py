"""The benchmarks measure what they say."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

from measuring import NAMES, SavedForBackward, encode_77, spread

from sar.encoding import encode_prompts
from sar.toolbox.clip import CLIP, tokenize


@pytest.mark.parametrize("deep", [0, 2])
@pytest.mark.parametrize("groups", [(), (2,)])
def test_both_text_encoders_give_the_same(groups, deep):
    """Features, and gradients of prompts and deep prompts."""
    torch.manual_seed(0)
    model = CLIP(32, 32, 1, 64, 32, 77, 49408, 64, 1, 4).requires_grad_(False)
    tokens = tokenize([f"X X {name}." for name in spread(NAMES, 5)])
    prompts = model.token_embedding(tokens).expand(*groups, -1, -1, -1).clone()[..., :20, :]
    prompts.requires_grad_()
    deep_prompts = [torch.randn(2, 64, requires_grad=True) for _ in range(deep)]
    results = []
    for encode, shared in ((encode_77, 0), (encode_prompts, 3)):
        eot = tokens.argmax(dim=1)
        features = encode(model, prompts, eot, shared=shared, deep_prompts=deep_prompts)
        gradients = torch.autograd.grad(features.square().sum(), [prompts, *deep_prompts])
        # The shared positions' gradient belongs to all classes together.
        first, *others = gradients
        results.append([features, first[..., :3, :].sum(dim=-3), first[..., 3:, :], *others])
    for found, expected in zip(*results, strict=True):
        assert (found - expected).norm() < 1e-4 * expected.norm()


def test_memory_counts_each_storage_once_and_no_weights():
    weight, x = torch.nn.Parameter(torch.ones(10, 10)), torch.ones(10, 10, requires_grad=True)
    with SavedForBackward([weight]) as saved:
        y = x @ weight  # keeps x and the weight
        with saved.part():
            z = y.exp()  # keeps z
        z.square().sum()  # keeps z again
    assert (saved.total, saved.partial) == (800, 400)


@pytest.mark.slow
def test_step_benchmark_runs(capsys):
    import step

    step.main(["--quick", "--methods", "MaPLe", "--batch-size", "1"])
    printed = capsys.readouterr().out
    assert "SAR_MaPLe, all classes" in printed
    assert "SAR_MaPLe: text " in printed
