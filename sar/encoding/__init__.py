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

Each computed token is a row of (G, T, d): `layout` says in what order, and `attention` lets them
attend to each other.

A text encoder that is not causal (SigLIP), or is none of CLIP's, computes every position of every
class. Its attribute `whole` says so: the module that does it.
"""

import copy
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sar.encoding.attention import build_attention
from sar.encoding.layout import Layout, build_layout
from sar.errors import SARError

__all__ = [
    "TextEncoder",
    "encode_prompts",
    "encode_tokens",
    "shared_prefix_length",
]

# Greatest accepted deviation from another computation of the same features, see `tolerance`.
# Rounding alone gives 1e-6 and 1e-3; a wrong prefix or end of text gives about 1.
EXACT = 1e-4
ROUGH = 2e-2
_AT_ONCE = 2048  # texts


class TextEncoder(Protocol):
    """OpenAI CLIP's text attributes: CLIP itself and the toolboxes' `TextEncoder` have them.

    Each of `transformer.resblocks` has ln_1, attn (nn.MultiheadAttention), ln_2 and mlp.
    """

    transformer: Any
    positional_embedding: Tensor  # (77, d)
    ln_final: Any
    text_projection: Tensor  # (d, D)


def whole(encoder: Any) -> Any:
    """The module that computes prompts at all positions, if the encoder shares none; else None.

    Called with prompts (N, L, d), eot (N,) and deep prompts, it gives (N, D).
    """
    return getattr(encoder, "whole", None)


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

    An encoder with `whole` takes all of its L positions, padding included, and ignores `shared`.
    """
    deep_prompts = deep_prompts or ()
    if (compute := whole(encoder)) is not None:
        many = prompts.flatten(0, -3)  # (N, L, d)
        features = compute(many, eot.repeat(len(many) // len(eot)), deep_prompts)
        return features.unflatten(0, prompts.shape[:-2])
    blocks = encoder.transformer.resblocks
    ends: list[int] = eot.tolist()
    _validate(encoder, prompts, eot, ends, shared, deep_prompts)
    rows = build_layout(ends, prompts.shape[-2], shared, prompts.device)
    attend = build_attention(rows)

    groups = prompts if prompts.ndim == 4 else prompts.unsqueeze(0)
    x = groups.flatten(1, 2).index_select(1, rows.source).to(encoder.text_projection.dtype)
    x = x + encoder.positional_embedding[rows.position].to(x.dtype)  # (G, T, d)
    for depth, block in enumerate(blocks):
        if 0 < depth <= len(deep_prompts):
            x = _replace(x, rows, deep_prompts[depth - 1])
        qkv = F.linear(block.ln_1(x), block.attn.in_proj_weight, block.attn.in_proj_bias)
        attended = attend(qkv.unflatten(2, (3, block.attn.num_heads, -1)))  # (G, T, d)
        if depth == len(blocks) - 1:  # only the EOT leaves the last block; in order of classes
            x, attended = x.index_select(1, rows.eot), attended.index_select(1, rows.eot)
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
    used = tokens if whole(encoder) is not None else tokens[:, : int(eot.max()) + 1]
    shared = shared_prefix_length(tokens, n_ctx=0)
    return encode_prompts(encoder, token_embedding(used), eot, shared=shared)


def float32_text(clip_model: Any) -> Callable[[Tensor], Tensor]:
    """`encode_tokens` of a CLIP whose weights may be in half precision, computed in float32.

    If they are, a float32 copy of the text tower alone is made once and computes it. Tokens (C, L)
    on any device -> (C, D) on the text tower's; many texts are encoded in parts.
    """
    of_own = whole(clip_model)
    tower: Any = (
        SimpleNamespace(whole=in_float32(of_own))
        if of_own is not None
        else SimpleNamespace(
            transformer=in_float32(clip_model.transformer),
            positional_embedding=clip_model.positional_embedding.float(),
            ln_final=in_float32(clip_model.ln_final),
            text_projection=clip_model.text_projection.float(),
        )
    )
    table, device = clip_model.token_embedding, clip_model.logit_scale.device

    def embed(tokens: Tensor) -> Tensor:
        embedded: Tensor = table(tokens.to(next(table.parameters()).device))
        return embedded.to(device, torch.float32)

    return lambda tokens: torch.cat(
        [encode_tokens(tower, embed, some) for some in tokens.split(_AT_ONCE)]
    )


def in_float32(module: nn.Module) -> nn.Module:
    """The module itself, or a copy in float32."""
    if all(parameter.dtype == torch.float32 for parameter in module.parameters()):
        return module
    return copy.deepcopy(module).float()


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


def _replace(x: Tensor, rows: Layout, prompt: Tensor) -> Tensor:
    """Put prompt (n, d) in the place of positions 1..n, wherever they occur in x (G, T, d)."""
    n, prompt = len(prompt), prompt.to(x.dtype)
    if n < rows.shared:
        return torch.slice_scatter(x, prompt.expand(len(x), -1, -1), 1, 1, 1 + n)
    places = ((rows.position >= 1) & (rows.position <= n)).nonzero().squeeze(1)
    values = prompt.index_select(0, rows.position[places] - 1)
    return x.index_copy(1, places, values.expand(len(x), -1, -1))


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
