"""Prompts as token ids: the form of a host's prompts, and other prompts of the same form."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from sar.classes.identity import prompt_name
from sar.errors import ConfigError, HostError

Encode = Callable[[str], list[int]]


class Tokenizer(Protocol):
    """CLIP's: text to token ids without special tokens, and back."""

    def encode(self, text: str) -> list[int]: ...

    def decode(self, tokens: list[int]) -> str: ...


def starts(clip_model: Any) -> int:
    """How many start tokens a CLIP's prompts have: one, except with another tokenizer."""
    return int(getattr(getattr(clip_model, "tokenizer", None), "starts", 1))


def encode_behind(tokenizer: Tokenizer) -> Encode:
    """Encodes text that stands behind other words; some vocabularies do that in another way."""
    return getattr(tokenizer, "behind", tokenizer.encode)


def pack_tokens(
    rows: Sequence[Sequence[int]], names: Sequence[str], like: Tensor, starts: int = 1
) -> Tensor:
    """Token ids without special tokens -> padded prompts (C, L), in the layout of `like` (n, L).

    The `starts` start tokens, the end token, L and the dtype are those of `like`, a host's
    tokenized prompts.
    Raises `ConfigError` with the names whose prompts do not fit into L positions.
    """
    length = like.shape[1]
    around = starts + 1
    too_long = [name for row, name in zip(rows, names, strict=True) if len(row) + around > length]
    if too_long:
        shown = ", ".join(repr(name)[:80] for name in too_long[:10])
        raise ConfigError(
            f"The prompts of these class names exceed CLIP's {length} positions: {shown} "
            f"({len(too_long)} in all). Shorten or remove them, or shorten the context."
        )
    start, end = like[0, :starts].tolist(), int(like[0].max())
    tokens = torch.zeros(len(rows), length, dtype=like.dtype)
    for packed, row in zip(tokens, rows, strict=True):
        packed[: len(row) + around] = torch.tensor([*start, *row, end], dtype=like.dtype)
    return tokens


def prompt_form(
    tokens: Tensor, names: Sequence[str], tokenizer: Tokenizer, starts: int = 1
) -> tuple[list[int], str]:
    """What stands around the class names in a host's tokenized prompts (n, L): prefix ids, tail.

    Hosts write ``<prefix> <class name><tail>``: the prefix is "a photo of a", "X X X X", ..., the
    tail mostly a full stop. Both are read off the tokens instead of a configuration. Raises
    `HostError` where a prompt is not of that form or where two classes differ in it.
    """
    texts = [row[starts : int(row.argmax())].tolist() for row in tokens]
    encode = encode_behind(tokenizer)
    first = encode(prompt_name(names[0]))
    behind = [i + len(first) for i in range(len(texts[0])) if texts[0][i:][: len(first)] == first]
    endings = [tokenizer.decode(texts[0][i:]).strip() for i in behind]
    others = []
    for tail in (".", *(space + ending for ending in endings for space in ("", " "))):
        ends = [encode(prompt_name(name) + tail) for name in names]
        prefix = texts[0][: len(texts[0]) - len(ends[0])]
        differing = [i for i, end in enumerate(ends) if prefix + end != texts[i]]
        if not differing:
            return prefix, tail
        others.append(differing[0])
    odd = max(others)
    raise HostError(
        f"The host's prompt for class {names[odd]!r} reads {tokenizer.decode(texts[odd])!r}; "
        f"expected '<context> <class name>.' with one context for all classes, as in "
        f"{tokenizer.decode(texts[0])!r} for {names[0]!r}. This host's prompt learner needs an "
        "adapter (docs/add-a-method.md)."
    )
