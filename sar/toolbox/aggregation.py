"""AAPE's prompt embeddings: aggregated from an image's reference prompts, generated from the image.

C. Huang, S. Seto, S. Abnar, D. Grangier, N. Jaitly, J. Susskind, Aggregate-and-Adapt Natural
Language Prompts for Downstream Generalization of CLIP, NeurIPS 2024, arXiv 2410.23698. No code was
published. Known are the two parts, what they are for, and that the aggregator is attention, adapted
to the image, invariant to the order of the prompts and learned with a CLIP reward. *The formulas
are a reconstruction* (docs/aape.md), with f the image feature and r_k those of its K prompts:

    a     = softmax_k(Wq f . Wk r_k / sqrt(e)), the mean over the heads, of width e each
    s     = normalize(sum_k a_k r_k)                           summary, training only
    p     = normalize(f + W2 relu(W1 f))                       generated, all that is left in a test
    L_rew = 1 - cos(s, f)                                      or contrastive over the batch
    L_dis = 1 - cos(p, stopgrad(s))                            or l2

The prompts themselves are the values, so that the summary is normalize(a convex combination of
texts): it cannot simply copy f.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sar.toolbox.clip.prompted import normalize


def hidden_width(dim: int) -> int:
    """The width of hidden layers: D/16, but so many units that they do not all begin dead."""
    return max(8, dim // 16)


class Aggregator(nn.Module):
    """One summary of each image's reference prompts; subclasses say how much each prompt counts."""

    def begin(self, seed: int) -> None:
        """Seeds what is drawn from now on; to be called before a step or a training."""

    def shares(self, image: Tensor, prompts: Tensor, present: Tensor) -> Tensor:
        """What `forward` takes -> shares (B, K) of the prompts, 0 or more; a row's sum is 1."""
        raise NotImplementedError

    def forward(self, image: Tensor, prompts: Tensor, present: Tensor) -> Tensor:
        """Summaries (B, D), normalized.

        Args:
            image: features (B, D), normalized.
            prompts: features (B, K, D) of each image's prompts, normalized.
            present: (B, K) bool, False where an image has fewer than K.
        """
        return normalize(torch.einsum("bk,bkd->bd", self.shares(image, prompts, present), prompts))


class Attention(Aggregator):
    """Multi-head attention, the query from the image; the shares are the mean over the heads."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        # Features have norm 1; their entries would be too small to tell prompts apart.
        self.norm = nn.LayerNorm(dim, elementwise_affine=False)
        self.query, self.key = nn.Linear(dim, dim), nn.Linear(dim, dim)

    def shares(self, image: Tensor, prompts: Tensor, present: Tensor) -> Tensor:
        query = self.query(self.norm(image)).unflatten(-1, (self.heads, -1))  # (B, heads, e)
        key = self.key(self.norm(prompts)).unflatten(-1, (self.heads, -1))  # (B, K, heads, e)
        scores = torch.einsum("bhe,bkhe->bhk", query, key) * query.shape[-1] ** -0.5
        return _softmax(scores, present.unsqueeze(1)).mean(dim=1)


class Scored(Aggregator):
    """An MLP scores each prompt beside the image."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, elementwise_affine=False)
        hidden = hidden_width(dim)
        self.image, self.prompt = nn.Linear(dim, hidden), nn.Linear(dim, hidden)
        self.score = nn.Linear(hidden, 1)

    def shares(self, image: Tensor, prompts: Tensor, present: Tensor) -> Tensor:
        # A linear layer on [image; prompt] is the sum of one on each.
        hidden = self.image(self.norm(image)).unsqueeze(1) + self.prompt(self.norm(prompts))
        return _softmax(self.score(F.relu(hidden)).squeeze(-1), present)


class Mean(Aggregator):
    """All count the same."""

    def shares(self, image: Tensor, prompts: Tensor, present: Tensor) -> Tensor:
        return present.to(prompts) / present.sum(dim=1, keepdim=True)


class Drawn(Aggregator):
    """One prompt, drawn anew each time from a generator of its own.

    `begin` seeds that, so that a resumed run draws what an uninterrupted one would have drawn.
    """

    def __init__(self) -> None:
        super().__init__()
        self.generator = torch.Generator()

    def begin(self, seed: int) -> None:
        self.generator.manual_seed(seed)

    def shares(self, image: Tensor, prompts: Tensor, present: Tensor) -> Tensor:
        lots = torch.rand(present.shape, generator=self.generator).to(present.device)
        drawn = lots.masked_fill(~present, -1).argmax(dim=1)
        return F.one_hot(drawn, present.shape[1]).to(prompts)


def padded(prompts: Tensor, counts: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Prompts as `Aggregator` takes them, (N, K, D), and where there are any, (N, K) bool.

    prompts: (M, D), those of N images or classes one after the other; counts: how many each has.
    """
    rows = nn.utils.rnn.pad_sequence(prompts.split(list(counts)), batch_first=True)
    present = torch.arange(rows.shape[1]) < torch.tensor(counts).unsqueeze(1)
    return rows, present.to(prompts.device)


def _softmax(scores: Tensor, present: Tensor) -> Tensor:
    return scores.masked_fill(~present, float("-inf")).softmax(dim=-1)


AGGREGATORS: dict[str, Callable[[int, int], Aggregator]] = {
    "attention": Attention,
    "mlp": lambda dim, heads: Scored(dim),
    "mean": lambda dim, heads: Mean(),
    "random": lambda dim, heads: Drawn(),
}
"""Makes one for features of width D, with so many heads."""


class PromptGenerator(nn.Module):
    """A prompt embedding from the image alone; before it is trained, the image feature itself."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(dim, hidden_width(dim))
        self.linear2 = zero(nn.Linear(hidden_width(dim), dim))

    def forward(self, image: Tensor) -> Tensor:
        """Image features (B, D) -> prompt embeddings (B, D), both normalized."""
        return normalize(image + self.linear2(F.relu(self.linear1(image))))


def zero(layer: nn.Linear) -> nn.Linear:
    """`layer`, with zeros for parameters."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def cosine_reward(summary: Tensor, image: Tensor, label: Tensor, scale: Tensor) -> Tensor:
    """1 - cosine of summaries (B, D) and image features (B, D), both normalized; the mean."""
    return 1 - (summary * image).sum(dim=-1).mean()


def contrastive_reward(summary: Tensor, image: Tensor, label: Tensor, scale: Tensor) -> Tensor:
    """Cross-entropy of finding each summary's image in the batch, among those of other classes.

    label: (B,) of the images. scale: CLIP's, of the cosines.
    """
    logits = pair_logits(summary, image, label, scale)
    return F.cross_entropy(logits, torch.arange(len(label), device=label.device))


def pair_logits(one: Tensor, other: Tensor, label: Tensor, scale: Tensor | float) -> Tensor:
    """Scaled cosines (B, B) of (B, D) and (B, D), of which rows i are a pair.

    label: (B,). Others with the label of a row are no rivals of its own pair: -inf.
    """
    same = label.unsqueeze(1) == label
    own = torch.eye(len(label), dtype=torch.bool, device=label.device)
    return (scale * one @ other.t()).masked_fill(same & ~own, float("-inf"))


def cosine_distance(generated: Tensor, summary: Tensor) -> Tensor:
    """1 - cosine of two (B, D), normalized; the mean over the rows."""
    return 1 - (generated * summary).sum(dim=-1).mean()


def l2_distance(generated: Tensor, summary: Tensor) -> Tensor:
    """The distance of two (B, D); the mean over the rows. (Its square is twice the cosine's.)"""
    return torch.linalg.vector_norm(generated - summary, dim=-1).mean()


REWARDS = {"cosine": cosine_reward, "contrastive": contrastive_reward}
DISTANCES = {"cosine": cosine_distance, "l2": l2_distance}
