"""AAPE's aggregators, generator and losses: what holds for any features."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sar.toolbox.aggregation import (
    AGGREGATORS,
    Aggregator,
    Attention,
    Drawn,
    PromptGenerator,
    Scored,
    contrastive_reward,
    cosine_distance,
    cosine_reward,
    hidden_width,
    l2_distance,
)

D = 32
sizes = given(st.integers(1, 6), st.integers(1, 7), st.integers(0, 10**6))
every = pytest.mark.parametrize("kind", AGGREGATORS)


def made(kind: str, seed: int = 0) -> Aggregator:
    torch.manual_seed(seed)
    return AGGREGATORS[kind](D, 4)


def world(images: int, prompts: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Normalized image features, prompts, and which of these are there, at least one of each."""
    torch.manual_seed(seed)
    present = torch.rand(images, prompts) < 0.6
    present[:, 0] = True
    features = F.normalize(torch.randn(images, D), dim=-1)
    return features, F.normalize(torch.randn(images, prompts, D), dim=-1), present


@every
@sizes
def test_the_summary_is_a_convex_combination_of_the_prompts_there_are(kind, images, prompts, seed):
    given = world(images, prompts, seed)
    aggregator = made(kind, seed)
    if isinstance(aggregator, Drawn):
        aggregator.begin(seed)
    shares = aggregator.shares(*given)
    assert shares.shape == (images, prompts)
    assert (shares >= 0).all()
    assert not shares[~given[2]].any()
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(images))
    if isinstance(aggregator, Drawn):
        aggregator.begin(seed)
        assert ((shares == 0) | (shares == 1)).all()
    expected = F.normalize(torch.einsum("bk,bkd->bd", shares, given[1]), dim=-1)
    torch.testing.assert_close(aggregator(*given), expected)


@sizes
def test_the_shares_of_attention_are_those_of_the_formula(images, prompts, seed):
    """Head by head: softmax of (Wq f . Wk r_k) / sqrt(e), and their mean."""
    attention = Attention(D, 4)
    features, of_images, present = world(images, prompts, seed)
    query, key = (F.layer_norm(x, (D,)) for x in (features, of_images))
    query, key = attention.query(query), attention.key(key)
    heads = []
    for head in torch.arange(D).chunk(4):
        scores = (query[:, None, head] * key[..., head]).sum(dim=-1) / 8**0.5
        heads.append(scores.where(present, -torch.inf).softmax(dim=1))
    expected = torch.stack(heads).mean(dim=0)
    torch.testing.assert_close(attention.shares(features, of_images, present), expected)


@sizes
def test_the_shares_of_the_mlp_are_those_of_its_scores(images, prompts, seed):
    """It sees [image; prompt], both of them with entries of about 1."""
    scored = Scored(D)
    features, of_images, present = world(images, prompts, seed)
    seen = torch.cat([features.unsqueeze(1).expand_as(of_images), of_images], dim=-1)
    seen = F.layer_norm(seen.unflatten(-1, (2, D)), (D,)).flatten(-2)
    weight = torch.cat([scored.image.weight, scored.prompt.weight], dim=1)
    hidden = F.relu(F.linear(seen, weight, scored.image.bias + scored.prompt.bias))
    expected = scored.score(hidden).squeeze(-1).where(present, -torch.inf).softmax(dim=1)
    torch.testing.assert_close(scored.shares(features, of_images, present), expected)


def test_hidden_layers_are_a_sixteenth_wide_or_eight():
    assert [hidden_width(dim) for dim in (32, 128, 512, 768)] == [8, 8, 32, 48]


@pytest.mark.parametrize("kind", ["attention", "mlp", "mean"])
@sizes
def test_the_order_of_the_prompts_does_not_matter(kind, images, prompts, seed):
    features, of_images, present = world(images, prompts, seed)
    order = torch.stack([torch.randperm(prompts) for _ in range(images)])
    shuffled = of_images.gather(1, order.unsqueeze(-1).expand_as(of_images))
    aggregator = made(kind, seed)
    torch.testing.assert_close(
        aggregator(features, shuffled, present.gather(1, order)),
        aggregator(features, of_images, present),
    )


@every
@sizes
def test_padding_does_not_matter(kind, images, prompts, seed):
    features, of_images, _ = world(images, prompts, seed)
    everywhere = torch.ones(images, prompts, dtype=torch.bool)
    padded = F.pad(of_images, (0, 0, 0, 2), value=7.0)
    aggregator = made(kind, seed)
    if isinstance(aggregator, Drawn):  # which one is drawn may depend on it
        drawn = aggregator(features, padded, F.pad(everywhere, (0, 2)))
        nearest = (of_images - drawn.unsqueeze(1)).norm(dim=-1).amin(dim=1)
        assert (nearest < 1e-5).all()
        return
    torch.testing.assert_close(
        aggregator(features, padded, F.pad(everywhere, (0, 2))),
        aggregator(features, of_images, everywhere),
    )


def test_a_seed_decides_what_is_drawn_and_the_global_generator_does_not():
    given = world(6, 7, 0)
    aggregator = made("random")
    assert isinstance(aggregator, Drawn)
    found = []
    for seed in (1, 1, 2):
        aggregator.begin(seed)
        found.append(aggregator.shares(*given))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


@pytest.mark.parametrize("kind", ["attention", "mlp"])
@pytest.mark.parametrize("reward", [cosine_reward, contrastive_reward])
def test_the_reward_is_learned_and_adapted_to_the_image(kind, reward):
    """In a batch in which each image is one of its prompts, the shares find that one."""
    torch.manual_seed(0)
    of_images = F.normalize(torch.randn(16, 4, D), dim=-1)
    label, own = torch.arange(16), torch.arange(16) % 4
    features = of_images[label, own]
    present = torch.ones(16, 4, dtype=torch.bool)
    aggregator = made(kind)
    optimizer = torch.optim.Adam(aggregator.parameters(), 0.02)
    found = []
    for _ in range(60):
        loss = reward(aggregator(features, of_images, present), features, label, torch.tensor(20.0))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    assert found[-1] < 0.5 * found[0]
    shares = aggregator.shares(features, of_images, present)
    assert shares[label, own].mean() > 0.35  # by chance 0.25


@sizes
def test_the_generator_begins_with_the_image_and_stays_on_the_sphere(images, prompts, seed):
    features, _, _ = world(images, prompts, seed)
    torch.manual_seed(seed)
    generator = PromptGenerator(D)
    torch.testing.assert_close(generator(features), features)
    with torch.no_grad():
        for parameter in generator.parameters():
            parameter.normal_()
    hidden = features @ generator.linear1.weight.t() + generator.linear1.bias
    off = hidden.clamp(min=0) @ generator.linear2.weight.t() + generator.linear2.bias
    torch.testing.assert_close(generator(features), F.normalize(features + off, dim=-1))


@sizes
def test_rewards_and_distances_are_those_of_the_formulas(images, prompts, seed):
    a, b, _ = world(images, prompts, seed)
    b = b[:, 0]
    label = torch.randint(3, (images,))
    scale = torch.tensor(20.0)
    cosines = F.cosine_similarity(a, b)
    torch.testing.assert_close(cosine_reward(a, b, label, scale), (1 - cosines).mean())
    torch.testing.assert_close(cosine_distance(a, b), (1 - cosines).mean())
    torch.testing.assert_close(
        l2_distance(a, b), (2 - 2 * cosines).clamp_min(0).sqrt().mean(), atol=1e-3, rtol=0
    )
    terms = []
    for i in range(images):
        rivals = [j for j in range(images) if j == i or label[j] != label[i]]
        terms.append(-(scale * a[i] @ b[rivals].t()).log_softmax(dim=0)[rivals.index(i)])
    torch.testing.assert_close(contrastive_reward(a, b, label, scale), torch.stack(terms).mean())
