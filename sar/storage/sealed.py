"""Tensors in a file beside the JSON that describes them: read as they were written, or refused.

The tensors' file holds hashes of both. Files of earlier versions do not, and are taken as they are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from sar.errors import DataError, WeightsError, one_line
from sar.storage.cache import key_of
from sar.storage.files import write_file
from sar.storage.texts import read_json

_RECORD, _TENSORS = "record_sha256", "tensors_sha256"


def write_sealed(record: Path, content: Any, weights: Path, tensors: Mapping[str, Tensor]) -> None:
    """Writes `content` as JSON, and CPU tensors as safetensors with the hashes of both."""
    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    text = json.dumps(content, indent=1)
    hashes = {_RECORD: _hash(json.loads(text)), _TENSORS: key_of(whole)}
    write_file(weights, save(whole, hashes))
    write_file(record, text + "\n")


def read_sealed(record: Path, weights: Path, again: str) -> tuple[Any, dict[str, Tensor]]:
    """What `write_sealed` wrote.

    Args:
        again: what to do where that is not there any more, such as "export it again".

    Raises:
        DataError: the record cannot be read, or was changed. WeightsError: the tensors cannot be
            read, were changed, or one of them is NaN or infinite.
    """
    content = read_json(record, f"expected what {weights.name} was written with; {again}")
    tensors, said = read_tensors(weights, again)
    if _TENSORS in said and said[_TENSORS] != key_of(tensors):
        raise WeightsError(f"{weights} is damaged: its tensors are not those written; {again}")
    if _RECORD in said and said[_RECORD] != _hash(content):
        raise DataError(f"{record} was changed after {weights.name} was written; {again}")
    if odd := [name for name, tensor in tensors.items() if not tensor.is_floating_point()]:
        raise WeightsError(f"{weights} is damaged: {odd[0]} holds no weights; {again}")
    return content, tensors


def read_tensors(file: Path, again: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors in a file of safetensors, and its metadata.

    Raises WeightsError if it cannot be read, or a tensor is NaN or infinite; `again`: what to do.
    """
    try:
        if not file.is_file():  # whoever opens a pipe may wait for ever
            raise ValueError("there is no such file")
        with safe_open(file, framework="pt") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
            said = opened.metadata() or {}
    except (OSError, ValueError, SafetensorError) as error:
        raise WeightsError(f"{file} cannot be read ({one_line(error)}); {again}") from error
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise WeightsError(f"{file} is damaged: {name} is NaN or infinite; {again}")
    return tensors, said


def _hash(content: Any) -> str:
    return key_of(json.dumps(content, sort_keys=True))
