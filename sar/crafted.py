"""What learned prompts are aligned with: hand-crafted templates, or descriptions of the classes.

``TRAINER.SAR.TEMPLATE`` says which. Descriptions need no hand: a class's reference is the mean of
the embeddings of its sentences, of base and novel classes alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from sar.classes.descriptions import find, load_descriptions, of_every, read_beside
from sar.classes.templates import descriptions_in, templates_from
from sar.errors import DataError
from sar.prompt_tokens import Encode
from sar.reference import frozen_embeddings


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

    def embeddings(
        self,
        clip_model: Any,
        names: Sequence[str],
        encode: Encode,
        like: Tensor,
        *,
        apart: bool = False,
    ) -> Tensor:
        """Text embeddings (C, D) of classes; arguments and result as of `frozen_embeddings`.

        Only several templates can be `apart`.
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

    def embeddings(
        self,
        clip_model: Any,
        names: Sequence[str],
        encode: Encode,
        like: Tensor,
        *,
        apart: bool = False,
    ) -> Tensor:
        return frozen_embeddings(clip_model, names, self.templates, encode, like, apart=apart)


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

    def embeddings(
        self,
        clip_model: Any,
        names: Sequence[str],
        encode: Encode,
        like: Tensor,
        *,
        apart: bool = False,
    ) -> Tensor:
        of_each = of_every(names, self.sentences, self.origin)
        sentences = [sentence for of_one in of_each for sentence in of_one]
        found = frozen_embeddings(clip_model, sentences, ["{}"], encode, like)
        of_classes = found.split([len(of_one) for of_one in of_each])
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
