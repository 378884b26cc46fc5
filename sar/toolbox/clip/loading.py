"""CLIP weights from a released model's name, a file, or the pocket CLIP."""

import contextlib
import os
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sar.errors import ConfigError, WeightsError, one_line

from .openai import build_model, clip
from .pocket import load_pocket

POCKET = "pocket"
# Where OpenAI's own package and all its users keep the released weights.
CACHE = Path("~/.cache/clip")
# One tensor of each part of a CLIP; without them a file holds something else.
_NEEDED = ("text_projection", "token_embedding.weight", "ln_final.weight", "logit_scale")


def backbone_names() -> list[str]:
    """Names `load_clip` accepts besides paths."""
    return [POCKET, *clip.available_models()]


def check_backbone(name: str) -> None:
    """ConfigError unless `name` is a known CLIP or an existing file."""
    if name not in backbone_names() and not Path(name).expanduser().is_file():
        raise ConfigError(
            f"MODEL.BACKBONE.NAME is {name!r}; expected one of {', '.join(backbone_names())}, "
            "or the path of a file with CLIP weights"
        )


def load_clip(
    name_or_path: str, device: str | torch.device = "cpu", *, keep_rng: bool = True
) -> Any:
    """Load a CLIP in fp32 and evaluation mode.

    Args:
        name_or_path: a released model ("ViT-B/16", downloaded once into ~/.cache/clip), "pocket",
            or a file: a state dict (.pt), safetensors, or a JIT archive. Weights pass through
            fp16, the precision CLIP was released in, as they do in CoOp.
        device: where the model goes.
        keep_rng: building a CLIP draws its initial weights from torch's global generator before
            the real ones replace them. True puts the generator back. The trainers pass False:
            CoOp's context initialization and batch order come after these draws, and the same
            seed shall give the same run.

    Returns:
        clip.model.CLIP, all parameters fp32.

    Raises:
        ConfigError: unknown name. WeightsError: no such weights here and no download, or a file
            that does not hold a CLIP.
    """
    check_backbone(name_or_path)
    with _rng_kept() if keep_rng else contextlib.nullcontext():
        if name_or_path == POCKET:
            model = load_pocket()
        else:
            path = _find(name_or_path)
            state = _read_state(path)
            try:
                model = build_model(state)
            except (RuntimeError, KeyError, ZeroDivisionError) as error:
                raise WeightsError(
                    f"{path} does not fit CLIP's structure: {one_line(error)}"
                ) from error
    return model.float().eval().to(device)


@contextlib.contextmanager
def _rng_kept() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        yield


def _find(name_or_path: str) -> Path:
    if name_or_path not in clip.available_models():
        return Path(name_or_path).expanduser()
    url = clip._MODELS[name_or_path]
    cache = CACHE.expanduser()
    try:
        return Path(clip._download(url, str(cache)))
    except (OSError, RuntimeError) as error:
        target = cache / os.path.basename(url)
        raise WeightsError(
            f"no weights for {name_or_path} at {target}, and downloading them failed ({error}). "
            f"Download {url} elsewhere and put it there, or give its path as "
            "MODEL.BACKBONE.NAME, or use MODEL.BACKBONE.NAME pocket"
        ) from error


def _read_state(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(path)
        elif _is_jit(path):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of TorchScript's deprecation
                state = torch.jit.load(str(path), map_location="cpu").state_dict()
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # each format fails in its own way
        raise WeightsError(
            f"{path} could not be read as CLIP weights ({one_line(error)}); expected a state dict, "
            "a safetensors file or a JIT archive. If it was downloaded, download it again"
        ) from error
    state = dict(state.get("state_dict", state)) if isinstance(state, dict) else {}
    missing = [key for key in _NEEDED if key not in state]
    if missing:
        raise WeightsError(
            f"{path} holds no CLIP: {', '.join(missing)} missing. Expected the state dict of an "
            "OpenAI CLIP"
        )
    return state


def _is_jit(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any("/code/" in name for name in archive.namelist())
