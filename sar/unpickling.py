"""Reading pickles without running any code that they may carry."""

import copyreg
import pickle
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Mapping
from typing import Any, ClassVar


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


class InertUnpickler(pickle.Unpickler):
    """Knows plain containers; every other name it meets becomes `Inert`."""

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
