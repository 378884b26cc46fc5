"""Small helpers: seeding, files, images, a description of the machine."""

import json
import os
import platform
import random
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch

from sar.storage.files import make_folder, write_file
from sar.storage.texts import read_json as read_json_file


def set_random_seed(seed: int) -> None:
    """Seed Python, NumPy and torch (all devices)."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 (transforms of other toolboxes draw from it)
    torch.manual_seed(seed)


def mkdir_if_missing(dirname: str | os.PathLike[str]) -> None:
    make_folder(dirname)


def check_isfile(path: str | os.PathLike[str]) -> bool:
    """Whether `path` is a file; warns if it is not."""
    found = os.path.isfile(path)
    if not found:
        warnings.warn(f"no file at {path}", stacklevel=2)
    return found


def listdir_nohidden(path: str | os.PathLike[str], sort: bool = False) -> list[str]:
    """Names in a folder that do not begin with a dot."""
    names = [name for name in os.listdir(path) if not name.startswith(".")]
    return sorted(names) if sort else names


def read_json(path: str | os.PathLike[str]) -> Any:
    """Raises DataError if the file is missing or not JSON."""
    return read_json_file(path, "expected JSON")


def write_json(obj: Any, path: str | os.PathLike[str]) -> None:
    mkdir_if_missing(Path(path).parent)
    write_file(path, json.dumps(obj, indent=4))


def collect_env_info() -> str:
    """Versions and devices, one a line."""
    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    lines = {
        "Python": platform.python_version(),
        "Platform": platform.platform(),
        "PyTorch": torch.__version__,
        "CUDA": torch.version.cuda or "not built in",
        "GPUs": ", ".join(devices) or "none",
        "CPU threads": str(torch.get_num_threads()),
        "NumPy": np.__version__,
        "Pillow": PIL.__version__,
    }
    return "\n".join(f"{name}: {value}" for name, value in lines.items())


def tolist_if_not(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def count_num_param(model: torch.nn.Module) -> int:
    """Number of scalars in the model's parameters."""
    return sum(parameter.numel() for parameter in model.parameters())
