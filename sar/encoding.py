"""CLIP's text encoder without wasted positions, and with the common prompt prefix computed once.

CLIP's text transformer is causal: a position attends to itself and to what stands before it. Two
things follow, both exact and not approximations:

- Nothing behind a class's end-of-text token (EOT) reaches the EOT, whose output is the class's
  feature. Of the 77 positions only those up to the EOT are computed, for each class its own number.
- If the first P positions hold the same vectors for every class (start token, learned context,
  common words), their states are the same for every class in every layer, also where deep prompts
  replace some of them. They are computed once; all classes attend to the same P keys and values.

What is left for a class are the tokens of its name and the end of the sentence. Gradients are
exact too: the shared positions collect those of all classes. The blocks' own weights are used as
they are stored. Their `attn_mask` is not read, since the causal order is built in, and attention
dropout, which CLIP does not have, is not applied.

Where the context depends on the image (CoCoOp), the prompts of one image share theirs: each of G
groups of prompts has shared positions of its own.

Layout: one row for each computed token, (G, T, d), first the P shared rows, then the classes.
Classes of the same number of tokens lie together in a bucket, so that attention needs views, not
copies.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sar.errors import SARError

__all__ = ["TextEncoder", "encode_prompts", "encode_tokens", "shared_prefix_length"]

# A bucket of its own saves its classes padding, but costs small operations in every layer. Both
# are counted in tokens: a bucket is opened where it saves more than this. On a CPU anything from 0
# to 20 measures the same; for an accelerator it is an estimate from the time of a kernel launch.
BUCKET_COST_CPU = 8
BUCKET_COST_ACCELERATOR = 1000
# Greatest accepted deviation from another computation of the same features, see `tolerance`.
# Rounding alone gives 1e-6 and 1e-3; a wrong prefix or end of text gives about 1.
EXACT = 1e-4
ROUGH = 2e-2


class TextEncoder(Protocol):
    """OpenAI CLIP's text attributes: CLIP itself and the toolboxes' `TextEncoder` have them.

    Each of `transformer.resblocks` has ln_1, attn (nn.MultiheadAttention), ln_2 and mlp.
    """

    transformer: Any
    positional_embedding: Tensor  # (77, d)
    ln_final: Any
    text_projection: Tensor  # (d, D)


def encode_prompts(
    encoder: TextEncoder,
    prompts: Tensor,
    eot: Tensor,
    *,
    shared: int = 0,
    deep_prompts: Sequence[Tensor] | None = None,
) -> Tensor:
    """Text features (C, D), not normalized, of C prompts, in the dtype the encoder gives.

    prompts: (C, L, d) token embeddings without positional embedding, L <= 77, any floating dtype;
        or (G, C, L, d), G groups of prompts of the same C texts, which gives features (G, C, D).
    eot: (C,) long, position of each class's end-of-text token; on the CPU it costs no device sync.
    shared: P, the number of leading positions that hold the same vectors for every class of a
        group. They are read, and receive gradients, in its row 0 alone; that the other rows agree
        is the caller's promise and is not checked. 0 for class-specific contexts and for class
        names in front or in the middle of the context.
    deep_prompts: item k, (n, d), replaces positions 1..n at the input of resblocks[k + 1] (MaPLe,
        arXiv 2210.03117; PromptSRC, arXiv 2307.06948).
    Raises SARError for arguments that do not fit together.
    """
    blocks = encoder.transformer.resblocks
    deep_prompts = deep_prompts or ()
    ends: list[int] = eot.tolist()
    _validate(encoder, prompts, eot, ends, shared, deep_prompts)
    layout = _layout(ends, prompts.shape[-2], shared, prompts.device)

    groups = prompts if prompts.ndim == 4 else prompts.unsqueeze(0)
    x = groups.flatten(1, 2).index_select(1, layout.source).to(encoder.text_projection.dtype)
    x = x + encoder.positional_embedding[layout.position].to(x.dtype)  # (G, T, d)
    for depth, block in enumerate(blocks):
        if 0 < depth <= len(deep_prompts):
            x = _replace(x, layout.position, deep_prompts[depth - 1])
        attended = _attention(block.attn, block.ln_1(x), layout)  # (G, T, d)
        if depth == len(blocks) - 1:  # only the EOT leaves the last block; in order of classes
            x, attended = x.index_select(1, layout.eot), attended.index_select(1, layout.eot)
        x = x + block.attn.out_proj(attended)
        x = x + block.mlp(block.ln_2(x))
    features = encoder.ln_final(x) @ encoder.text_projection  # (G, C, d) @ (d, D)
    return features if prompts.ndim == 4 else features.squeeze(0)


def encode_tokens(
    encoder: TextEncoder, token_embedding: Callable[[Tensor], Tensor], tokens: Tensor
) -> Tensor:
    """Text features (C, D), not normalized, of plain text: CLIP's `encode_text`, sharing included.

    tokens: (C, L) long, from CLIP's tokenizer. token_embedding: CLIP's, (C, L) -> (C, L, d).
    """
    eot = tokens.argmax(dim=1)  # CLIP gives EOT the largest id
    used = tokens[:, : int(eot.max()) + 1]
    shared = shared_prefix_length(tokens, n_ctx=0)
    return encode_prompts(encoder, token_embedding(used), eot, shared=shared)


def shared_prefix_length(tokens: Tensor, n_ctx: int) -> int:
    """Number of leading positions that all classes share, for `encode_prompts(shared=...)`.

    tokens: (C, L) long, CLIP tokens of the prompts. n_ctx: number of learned context vectors behind
    the start token, the same for every class. Counted are the start token, the context and the
    columns behind them in which all classes have the same token, never the EOT of any class.
    """
    same = (tokens == tokens[:1]).all(dim=0)  # (L,)
    same[: 1 + n_ctx] = True
    leading = int(same.cumprod(dim=0).sum())
    return min(leading, int(tokens.argmax(dim=1).min()))


def deviation(found: Tensor, expected: Tensor) -> float:
    """Greatest distance between rows of two (C, D), relative to the norm of that of `expected`."""
    found, expected = found.detach().float(), expected.detach().to(found.device).float()
    return float(((found - expected).norm(dim=-1) / expected.norm(dim=-1)).max())


def tolerance(*tensors: Tensor) -> float:
    """The `deviation` that rounding explains where `tensors` are among what was computed."""
    single = all(tensor.dtype in (torch.float32, torch.float64) for tensor in tensors)
    return EXACT if single and torch.get_float32_matmul_precision() == "highest" else ROUGH


@dataclass(frozen=True)
class _Bucket:
    classes: int  # n
    length: int  # S, tokens computed for each class: those behind the shared ones, to the EOT
    future: Tensor  # (S, S) bool, True where a key stands behind the query


@dataclass(frozen=True)
class _Layout:
    """Where the T computed tokens come from. buckets[0] is the shared prefix: 1 class, length P."""

    buckets: list[_Bucket]
    source: Tensor  # (T,) row among a group's C * L
    position: Tensor  # (T,) position in the prompt
    eot: Tensor  # (C,) row of each class's EOT among the T


def _layout(ends: list[int], width: int, shared: int, device: torch.device) -> _Layout:
    cost = BUCKET_COST_CPU if device.type == "cpu" else BUCKET_COST_ACCELERATOR
    lengths = [end + 1 - shared for end in ends]
    padded = _padded_lengths(lengths, cost)
    members: dict[int, list[int]] = {}
    for i, length in enumerate(lengths):
        members.setdefault(padded[length], []).append(i)

    sources = [torch.arange(shared)]
    eot = torch.empty(len(ends), dtype=torch.long)
    start = shared
    for length, classes in members.items():
        indices = torch.tensor(classes)
        rows = indices[:, None] * width + torch.arange(shared, shared + length)  # (n, S)
        sources.append(rows.flatten())
        last = torch.tensor([lengths[i] - 1 for i in classes])
        eot[indices] = start + torch.arange(len(classes)) * length + last
        start += len(classes) * length
    source = torch.cat(sources)

    sizes = [(1, shared), *((len(classes), length) for length, classes in members.items())]
    return _Layout(
        buckets=[
            _Bucket(n, s, torch.ones(s, s, dtype=torch.bool, device=device).triu(1))
            for n, s in sizes
        ],
        source=source.to(device),
        position=(source % width).to(device),
        eot=eot.to(device),
    )


def _padded_lengths(lengths: list[int], cost: int) -> dict[int, int]:
    """The length to compute for each length: its own, or a longer one where that costs less."""
    padded: dict[int, int] = {}
    longer = max(lengths)
    for length, count in sorted(Counter(lengths).items(), reverse=True):
        if count * (longer - length) > cost:
            longer = length
        padded[length] = longer
    return padded


def _attention(attn: nn.MultiheadAttention, x: Tensor, layout: _Layout) -> Tensor:
    """Causal self-attention of every bucket, with the prefix in front: (G, T, d) -> (G, T, d).

    Before the output projection.
    """
    qkv = F.linear(x, attn.in_proj_weight, attn.in_proj_bias)  # (G, T, 3d)
    qkv = qkv.unflatten(2, (3, attn.num_heads, -1))  # (G, T, 3, heads, d/heads)
    prefix, *others = qkv.split([bucket.classes * bucket.length for bucket in layout.buckets], 1)
    _, keys, values = prefix.unbind(2)  # (G, P, heads, d/heads)
    first, *rest = layout.buckets
    attended = [_attend(prefix, first, keys[:, :0], values[:, :0])]
    attended += [
        _attend(part, bucket, keys, values) for part, bucket in zip(others, rest, strict=True)
    ]
    return torch.cat(attended, dim=1)


def _attend(qkv: Tensor, bucket: _Bucket, prefix_keys: Tensor, prefix_values: Tensor) -> Tensor:
    """One bucket: (G, n*S, 3, heads, e) and the prefix (G, P, heads, e) -> (G, n*S, heads*e).

    Written out, because scaled_dot_product_attention would need the prefix copied for each class:
    on a CPU it takes up to twice the time, and much more memory for a long context.
    """
    q, k, v = qkv.unflatten(1, (bucket.classes, bucket.length)).unbind(3)  # (G, n, S, heads, e)
    to_prefix = torch.einsum("gnshe,gphe->gnhsp", q, prefix_keys)
    to_own = torch.einsum("gnshe,gnthe->gnhst", q, k).masked_fill(bucket.future, float("-inf"))
    scores = torch.cat([to_prefix, to_own], dim=-1) * q.shape[-1] ** -0.5
    on_prefix, on_own = scores.softmax(dim=-1).split([prefix_keys.shape[1], bucket.length], dim=-1)
    out = torch.einsum("gnhsp,gphe->gnshe", on_prefix, prefix_values)
    out = out + torch.einsum("gnhst,gnthe->gnshe", on_own, v)
    return out.flatten(3).flatten(1, 2)


def _replace(x: Tensor, position: Tensor, prompt: Tensor) -> Tensor:
    """Put prompt (n, d) in the place of positions 1..n, wherever they occur in x (G, T, d)."""
    rows = ((position >= 1) & (position <= len(prompt))).nonzero().squeeze(1)
    values = prompt.to(x.dtype).index_select(0, position[rows] - 1)
    return x.index_copy(1, rows, values.expand(len(x), -1, -1))


def _validate(
    encoder: TextEncoder,
    prompts: Tensor,
    eot: Tensor,
    ends: list[int],
    shared: int,
    deep_prompts: Sequence[Tensor],
) -> None:
    positions, width = encoder.positional_embedding.shape
    length, d = prompts.shape[-2:] if prompts.ndim in (3, 4) else (0, 0)
    if length > positions or d != width:
        raise SARError(
            f"Prompts are {tuple(prompts.shape)}: this text encoder takes (classes, at most "
            f"{positions} positions, width {width}), or groups of them; shorten the text or pass "
            "fitting embeddings"
        )
    if eot.shape != prompts.shape[-3:-2] or not ends:
        raise SARError(
            f"EOT positions are {tuple(eot.shape)} for prompts {tuple(prompts.shape)}: pass one "
            "position for each of at least one class"
        )
    if min(ends) < 0 or max(ends) >= length:
        raise SARError(
            f"EOT positions go from {min(ends)} to {max(ends)}, prompts have {length} "
            "positions: pass the positions (not the token ids) and prompts that contain them"
        )
    if not 0 <= shared <= min(ends):
        raise SARError(
            f"{shared} shared positions: the first EOT is at {min(ends)}, and an EOT cannot be "
            "shared; use shared_prefix_length"
        )
    layers = len(encoder.transformer.resblocks)
    if len(deep_prompts) >= layers:
        raise SARError(
            f"{len(deep_prompts)} deep prompts: {layers} layers take at most {layers - 1}, "
            "one at the input of each layer but the first"
        )
    for k, prompt in enumerate(deep_prompts):
        if prompt.ndim != 2 or prompt.shape[1] != width or len(prompt) >= min(ends):
            raise SARError(
                f"Deep prompt {k} is {tuple(prompt.shape)}: expected (n, {width}) with n < "
                f"{min(ends)}, so that positions 1..n lie in front of every EOT"
            )
