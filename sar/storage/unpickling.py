"""Reading pickles without running any code that they may carry."""

import copyreg
import os
import pickle
import zipfile
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Mapping
from typing import Any, ClassVar


def check_size(archive: str | os.PathLike[str]) -> None:
    """Refuses a checkpoint whose parts are much larger than its file: torch compresses nothing.

    Raises:
        pickle.UnpicklingError: naming both sizes. No error for a file that is no zip archive.
    """
    if not zipfile.is_zipfile(archive):
        return
    with zipfile.ZipFile(archive) as file:
        parts = sum(entry.file_size for entry in file.infolist())
    if parts > 2 * (size := os.path.getsize(archive)) + 2**20:
        raise pickle.UnpicklingError(
            f"{parts / 2**20:,.0f} MB are packed into {size / 2**20:,.1f} MB, as torch never does"
        )


class Inert:
    """Stands in for an object of a class that a pickle may not bring along; keeps its state."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.state: Any = None

    def __new__(cls, *args: Any, **kwargs: Any) -> "Inert":
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        """Entries of a container's subclass are not kept."""

    def append(self, value: Any) -> None:
        """Entries of a list's subclass are not kept either."""


class InertUnpickler(pickle._Unpickler):
    """Knows plain containers; every other name it meets becomes `Inert`.

    It is the unpickler in Python: the one in C allocates as many objects as a short pickle claims.
    Bytearrays, for which this one would do so too, are refused.
    """

    dispatch: ClassVar = {
        code: load
        for code, load in pickle._Unpickler.dispatch.items()
        if code != pickle.BYTEARRAY8[0]
    }

    known: ClassVar[Mapping[tuple[str, str], Any]] = {
        ("builtins", "dict"): dict,
        ("__builtin__", "dict"): dict,
        ("collections", "OrderedDict"): OrderedDict,
        ("collections", "defaultdict"): defaultdict,
        ("collections", "Counter"): Counter,
        ("copyreg", "__newobj__"): copyreg.__newobj__,  # type: ignore[attr-defined]
    }
    """(module, name) -> what may be called. A subclass extends it, or `unknown`."""

    def find_class(self, module: str, name: str) -> Any:
        return self.known.get((module, name)) or self.unknown(module, name)

    def unknown(self, module: str, name: str) -> Any:
        """What stands for a name that is not in `known`; may raise `pickle.UnpicklingError`."""
        return Inert
