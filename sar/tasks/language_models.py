"""A frozen causal language model by its name."""

from __future__ import annotations

from sar.storage.files import expanded
from sar.tasks.language import TINY, LanguageModel
from sar.tasks.tiny import Tiny


def load_language_model(name: str) -> LanguageModel:
    """`TINY`, or a causal model of transformers by its name or folder.

    Raises:
        WeightsError: there is none, or it is no causal language model.
        MissingPackageError: transformers is not installed.
    """
    if name == TINY:
        return Tiny()
    from sar.tasks.pretrained import Pretrained

    return Pretrained(str(expanded(name)))
