"""CLIPs as folders: what open_clip and transformers save, here or on a hub."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from sar.command_line.extras import extra
from sar.errors import WeightsError, one_line
from sar.storage.texts import read_json

from . import architectures, loading
from .backbone import Backbone

OPEN_CLIP, TRANSFORMERS = "open_clip_config.json", "config.json"
# In order of preference; of transformers the second and fourth.
WEIGHTS = (
    "open_clip_model.safetensors",
    "model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "pytorch_model.bin",
    "open_clip_pytorch_model.bin",
)


def from_folder(folder: Path, weights: Any = None) -> Backbone:
    """The record of a CLIP in a folder: open_clip's, or a CLIP or SigLIP of transformers.

    Args:
        weights: gives the file with the weights, if it is not one of WEIGHTS in the folder.

    Raises:
        WeightsError: the folder holds neither. ConfigError: a model that is not known here.
    """
    read = partial(_read, folder, weights)
    if (folder / OPEN_CLIP).is_file():
        said = read_json(folder / OPEN_CLIP, "expected what open_clip saves", WeightsError)
        if not isinstance(said, Mapping) or not isinstance(said.get("model_cfg"), Mapping):
            raise WeightsError(f"{folder / OPEN_CLIP} has no model_cfg; expected open_clip's")
        preprocess = said.get("preprocess_cfg", {})
        if not isinstance(preprocess, Mapping):
            raise WeightsError(f"{folder / OPEN_CLIP} has no preprocess_cfg; expected open_clip's")
        return architectures.described(
            said["model_cfg"], preprocess, read, str(folder), str(folder)
        )
    if (folder / TRANSFORMERS).is_file():
        from . import huggingface

        return huggingface.described(folder, read)
    raise WeightsError(
        f"{folder} holds no CLIP: expected {OPEN_CLIP} or {TRANSFORMERS}, and the weights beside it"
    )


def from_hub(name: str) -> Backbone:
    """The record of a CLIP on the hub, as `from_folder`; its weights are loaded when it is built.

    Raises WeightsError if it cannot be had.
    """
    with extra("hub"):
        from huggingface_hub import hf_hub_download, snapshot_download

    def download() -> Path:
        problems = []
        for file in WEIGHTS:
            try:
                return Path(hf_hub_download(name, file))
            except Exception as error:  # not there, or no network
                problems.append(one_line(error))
        raise _missing(name, problems[0])

    try:
        folder = snapshot_download(name, allow_patterns=["*.json", "*.txt", "*.model"])
    except Exception as error:  # of the network, the hub or the disk
        raise _missing(name, one_line(error)) from error
    return from_folder(Path(folder), download)


def _missing(name: str, problem: str) -> WeightsError:
    return WeightsError(
        f"hf-hub:{name} is not here, and downloading it failed ({problem}). Download its folder "
        "elsewhere, and give the path as MODEL.BACKBONE.NAME"
    )


def _read(folder: Path, weights: Any) -> dict[str, Tensor]:
    if weights is not None:
        return loading.read_weights(weights())
    file = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if file is None:
        raise WeightsError(f"{folder} has no weights; expected one of {', '.join(WEIGHTS)} in it")
    return loading.read_weights(file)
