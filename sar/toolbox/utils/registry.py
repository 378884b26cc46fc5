"""Name -> class tables for trainers, datasets and evaluators."""

from collections.abc import Iterable
from typing import Any

from sar.errors import ConfigError, nearest


class Registry:
    """Classes by name.

    Usable as a decorator (`@REGISTRY.register()`) or by call (`REGISTRY.register(cls)`).
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._objects: dict[str, Any] = {}

    def register(self, obj: Any = None, force: bool = False) -> Any:
        """Add `obj` under its `__name__`; KeyError if the name is taken and not `force`."""
        if obj is None:

            def decorate(target: Any) -> Any:
                self.register(target, force)
                return target

            return decorate
        name = obj.__name__
        if name in self._objects and not force:
            raise KeyError(f"{name} is already in the {self._name} registry")
        self._objects[name] = obj
        return None

    def get(self, name: str) -> Any:
        """The class registered as `name`; ConfigError naming what exists otherwise."""
        check_availability(name, self._objects, self._name.lower())
        return self._objects[name]

    def registered(self) -> list[Any]:
        """The classes themselves, in the order of their registration."""
        return list(self._objects.values())

    def registered_names(self) -> list[str]:
        return list(self._objects)


def check_availability(requested: str, available: Iterable[str], what: str = "name") -> None:
    """ConfigError that lists what exists, unless `requested` is in `available`."""
    available = sorted(available)
    if requested not in available:
        guess = nearest(requested, available)
        hint = f" (did you mean {guess}?)" if guess else ""
        raise ConfigError(
            f"unknown {what} {requested!r}{hint}; available: {', '.join(available) or 'none'}"
        )
