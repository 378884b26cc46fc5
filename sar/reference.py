"""What learned prompts are aligned with: hand-crafted templates, or descriptions of the classes.

``TRAINER.SAR.TEMPLATE`` says which. Descriptions need no hand: a class's reference is the mean of
the embeddings of its sentences, of base and novel classes alike. A host's frozen text encoder
computes the embeddings, and they are kept on disk (`sar.storage.cache`): runs that share CLIP,
texts and class names, such as the seeds of an experiment, compute them once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from tqdm import tqdm

from sar.classes.descriptions import find, load_descriptions, of_every, read_beside
from sar.classes.identity import prompt_name
from sar.classes.templates import descriptions_in, templates_from
from sar.encoding import float32_text, whole
from sar.errors import DataError
from sar.prompt_tokens import Encode, pack_tokens, starts
from sar.storage.cache import arithmetic, kept, key_of

_USED = ("ln_1", "attn", "ln_2", "mlp")  # of a block; hosts put prompts of their own beside them


@dataclass(frozen=True)
class FrozenText:
    """A host's frozen text encoder, for hand-crafted prompts."""

    clip_model: Any
    encode: Encode
    """CLIP's tokenizer, without start and end token."""
    like: Tensor
    """The host's tokenized prompts (n, L), whose length and padding are used."""

    @torch.no_grad()
    def embeddings(
        self, names: Sequence[str], templates: Sequence[str], *, apart: bool = False
    ) -> Tensor:
        """Text embeddings (C, D), float32, on the CPU, of the classes `names`.

        Each of `templates` has one ``{}`` for the class name. Of several, the embeddings are
        averaged, or with `apart` stacked, (T, C, D); neither they nor their mean is normalized, as
        in PromptSRC (arXiv 2307.06948). Where the host holds half-precision weights, a float32 copy
        of the text tower alone is made for this. The result is bit for bit the same whether it was
        kept on disk or not. Raises `ConfigError` for names that are too long.
        """
        tokens = torch.stack([self._tokens(names, template) for template in templates])  # (T, C, L)

        def compute() -> dict[str, Tensor]:
            found = _embeddings(self.clip_model, tokens)
            return {"embeddings": found if apart else found.mean(dim=0)}

        kind = "templates" if apart else "reference"
        return kept(kind, _key(self.clip_model, tokens), compute)["embeddings"]

    def _tokens(self, names: Sequence[str], template: str) -> Tensor:
        rows = [self.encode(template.format(prompt_name(name))) for name in names]
        return pack_tokens(rows, names, self.like, starts(self.clip_model))


class Reference(Protocol):
    """Frozen prompts of classes."""

    @property
    def templates(self) -> Sequence[str]:
        """Templates with one ``{}``; none where prompts are not made from one."""

    @property
    def title(self) -> str:
        """What a run calls it."""

    def known(self, names: Sequence[str]) -> list[str]:
        """Those of some novel names that have a prompt; DataError where none has."""

    def embeddings(self, text: FrozenText, names: Sequence[str], *, apart: bool = False) -> Tensor:
        """Embeddings (C, D) of the classes `names`, float32; only several templates can be `apart`.

        What `apart` means and which errors are raised: see `FrozenText.embeddings`.
        """


@dataclass(frozen=True)
class HandCrafted:
    """One template, or several whose embeddings are averaged."""

    templates: Sequence[str]

    @property
    def title(self) -> str:
        more = f" and {len(self.templates) - 1} more" if len(self.templates) > 1 else ""
        return f"{self.templates[0]}{more}"

    def known(self, names: Sequence[str]) -> list[str]:
        return list(names)

    def embeddings(self, text: FrozenText, names: Sequence[str], *, apart: bool = False) -> Tensor:
        return text.embeddings(names, self.templates, apart=apart)


@dataclass(frozen=True)
class Described:
    """The mean of the embeddings of a class's descriptions."""

    sentences: Mapping[str, list[str]]
    origin: str
    """What messages call their source."""

    templates = ()

    @property
    def title(self) -> str:
        return f"the mean of the descriptions of each class, {self.origin}"

    def known(self, names: Sequence[str]) -> list[str]:
        """Without those that have no description.

        A template in its place would be a text of another style, nearer to its like than to others
        whatever the classes are.
        """
        found = find(names, self.sentences)
        described = [name for name, of_one in zip(names, found, strict=True) if of_one]
        if names and not described:
            raise DataError(
                f"{self.origin} describes none of the {len(names)} novel names, and SAR's "
                "reference is to be descriptions. Describe them (`sarclip describe generate "
                "--classes` a file with them), or set TRAINER.SAR.NOVEL none"
            )
        if left_out := len(names) - len(described):
            print(f"SAR: {left_out} of {len(names)} novel names have no description: left out")
        return described

    def embeddings(self, text: FrozenText, names: Sequence[str], *, apart: bool = False) -> Tensor:
        of_each = of_every(names, self.sentences, self.origin)
        sentences = [sentence for of_one in of_each for sentence in of_one]
        of_classes = text.embeddings(sentences, ["{}"]).split([len(of_one) for of_one in of_each])
        return torch.stack([embeddings.mean(dim=0) for embeddings in of_classes])


def reference_of(
    template: str, dataset: str, encode: Encode | None = None, novel: str = "none"
) -> Reference:
    """What a value of ``TRAINER.SAR.TEMPLATE`` stands for.

    Args:
        template: ``"descriptions"`` (shipped ones), ``"descriptions:FILE"``, or what
            `templates_from` takes. `dataset`: the registered name.
        encode: CLIP's tokenizer, by which the length of descriptions is checked, if given.
        novel: ``TRAINER.SAR.NOVEL``, a file of which may hold descriptions of its names.

    Raises:
        ConfigError, DataError: as `templates_from` and `load_descriptions`.
    """
    if (source := descriptions_in(template)) is None:
        return HandCrafted(templates_from(template, dataset))
    found, origin = load_descriptions(source, dataset, encode)
    return Described({**read_beside(novel), **found}, origin)


def _embeddings(clip_model: Any, tokens: Tensor) -> Tensor:
    """The embeddings of tokens (T, C, L): (T, C, D), float32."""
    encode = float32_text(clip_model)
    silent = len(tokens) == 1 or None  # None: unless somebody is watching
    bar = tqdm(tokens, desc="Reference embeddings", unit="template", disable=silent)
    return torch.stack([encode(of_one) for of_one in bar])


def _key(clip_model: Any, tokens: Tensor) -> str:
    """The cache key: everything that decides the embeddings (tokens, weights and arithmetic)."""
    used = tokens.unique()
    table = clip_model.token_embedding
    embedded = table(used.to(next(table.parameters()).device))
    weights = {"tokens": tokens, "token_embedding": embedded}
    device = clip_model.logit_scale.device
    if (of_own := whole(clip_model)) is not None:
        return key_of(arithmetic(device), f"{of_own} {of_own.words}", weights | of_own.state_dict())
    blocks = [
        {name: getattr(block, name) for name in _USED} for block in clip_model.transformer.resblocks
    ]
    structure = (
        *(f"{block['attn'].num_heads} {block}" for block in blocks),
        str(clip_model.ln_final),
    )
    weights |= {
        "positional_embedding": clip_model.positional_embedding,
        "text_projection": clip_model.text_projection,
        **{f"ln_final.{name}": p for name, p in clip_model.ln_final.named_parameters()},
        **{
            f"{depth}.{part}.{name}": p
            for depth, block in enumerate(blocks)
            for part, module in block.items()
            for name, p in module.named_parameters()
        },
    }
    return key_of(arithmetic(device), "\n".join(structure), weights)
