"""Tensors that several runs need, kept on disk by what they were computed from.

A key names everything that decides the content, the program included, so an entry is never out of
date. Entries live in ``$SAR_CACHE`` (default: ``$XDG_CACHE_HOME/sarclip`` or ``~/.cache/sarclip``);
``SAR_CACHE=off`` keeps nothing. The folder may be deleted at any time. Above ``$SAR_CACHE_LIMIT``
GB (default: 20) the entries that were used longest ago are removed.
"""

import contextlib
import functools
import hashlib
import os
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import safetensors
import torch
from safetensors.torch import save
from torch import Tensor

from sar.errors import ConfigError
from sar.storage.files import expanded, user_folder, write_file
from sar.storage.locks import one_at_a_time

LIMIT = 20.0  # GB
_CHECKSUM = "sha256"


def cache_folder() -> Path | None:
    """Where entries are kept; None where nothing is."""
    chosen = os.environ.get("SAR_CACHE", "")
    if chosen == "off":
        return None
    return expanded(chosen) if chosen else user_folder()


def cache_limit() -> float:
    """The bytes that all entries may take. ConfigError unless the variable is a number of GB."""
    chosen = os.environ.get("SAR_CACHE_LIMIT", "") or LIMIT
    try:
        limit = float(chosen)
    except ValueError:
        limit = -1
    if not limit >= 0:
        raise ConfigError(f"SAR_CACHE_LIMIT is {chosen!r}; expected a number of GB, 0 or more")
    return limit * 1e9


def key_of(*parts: str | Mapping[str, Tensor]) -> str:
    """A key (64 hex digits) for texts and named tensors of any type and device."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, str):
            content = part.encode()
            digest.update(f"text {len(content)}:".encode())
            digest.update(content)
            continue
        digest.update(f"tensors {len(part)}:".encode())
        for name in sorted(part):
            tensor = part[name].detach()
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}:".encode())
            digest.update(_bytes(tensor))
    return digest.hexdigest()


def arithmetic(device: torch.device) -> str:
    """What decides the last bits of a computation by torch besides its input: part of a key."""
    cpu = f"{torch.backends.cpu.get_cpu_capability()} {torch.get_num_threads()}"
    kind = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device.type} {cpu}"
    return f"{torch.__version__} {torch.get_float32_matmul_precision()} {kind}"


def code_of(files: Iterable[Path]) -> str:
    """A hash (64 hex digits) of the content of files, in their order."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


@functools.cache
def _program() -> str:
    """A hash of this package's files; takes a few milliseconds, once in a process."""
    return code_of(sorted(Path(__file__).parents[1].rglob("*.py")))


def kept(kind: str, key: str, compute: Callable[[], Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The CPU tensors that `compute` gives, computed once for all runs of this program and key.

    kind: what they are, in a word; names the subfolder. Runs at the same time wait for the first
    one, unless it hangs. A damaged entry is computed again, with a warning; so is one that cannot
    be read. A folder that cannot be written to costs a warning and nothing else.
    """
    folder = cache_folder()
    if folder is None:
        return _plain(compute())
    path = folder / kind / f"{key_of(_program(), key)}.safetensors"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        warnings.warn(f"Nothing is kept in {path.parent}: {error}", stacklevel=2)
        return _plain(compute())
    if (found := _read(path)) is not None:  # entries appear whole, so that no lock is needed
        return found
    limit = cache_limit()
    with one_at_a_time(path.with_suffix(".lock"), f"computing {kind}"):
        if (found := _read(path)) is None:
            found = _plain(compute())
            try:
                _write(path, found)
                _make_room(folder, path, limit)
            except OSError as error:
                warnings.warn(f"{path} could not be kept: {error}", stacklevel=2)
    return found


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _bytes(tensor: Tensor) -> memoryview:
    flat = tensor.cpu().contiguous().flatten()
    return flat.view(torch.uint8).numpy().data


def _checksum(path: Path, tensors: Mapping[str, Tensor]) -> str:
    return key_of(path.stem, tensors)  # with the key: a whole file under another name is wrong too


def _read(path: Path) -> dict[str, Tensor] | None:
    if not path.is_file():
        return None
    with contextlib.suppress(OSError):  # a folder of others can be read only
        os.utime(path)
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if (file.metadata() or {}).get(_CHECKSUM) != _checksum(path, found):
                raise ValueError("its content is not what was written")
    except Exception as error:  # a damaged file fails in many ways
        warnings.warn(f"{path} is damaged ({error}) and is computed again", stacklevel=3)
        return None
    return found


def _make_room(folder: Path, newest: Path, limit: float) -> None:
    """Removes the entries that were used longest ago until the others fit into `limit` bytes."""
    entries = []
    for path in folder.glob("*/*.safetensors"):
        with contextlib.suppress(FileNotFoundError):  # another process makes room, too
            found = path.stat()
            entries.append((found.st_mtime_ns, path, found.st_size))
    excess = sum(size for _, _, size in entries) - limit
    for _, path, size in sorted(entries):
        if excess <= 0:
            return
        if path != newest:
            path.unlink(missing_ok=True)
            path.with_suffix(".lock").unlink(missing_ok=True)
            excess -= size


def _write(path: Path, tensors: Mapping[str, Tensor]) -> None:
    content = save(dict(tensors), metadata={_CHECKSUM: _checksum(path, tensors)})
    write_file(path, content)
