"""Finds the toolbox whose trainers are extended and registers ``SAR_X`` with it.

A host is named by two packages: the one with its trainer modules and the one with its
``TRAINER_REGISTRY``. ``SAR_X`` is made only for base trainers ``X`` that the host has, as a
subclass of the host's own class.
"""

import pkgutil
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from sar.errors import HostError


@dataclass(frozen=True)
class Host:
    """Where a toolbox keeps what SAR extends."""

    trainers: str  # package of the trainer modules: coop, cocoop, maple, ...
    engine: str  # module that has TRAINER_REGISTRY


EMBEDDED = Host(trainers="sar.toolbox.trainers", engine="sar.toolbox.engine")
CHECKOUT = Host(trainers="trainers", engine="dassl.engine")


def register(host: Host = EMBEDDED) -> list[str]:
    """Registers ``SAR_X`` for every trainer X of `host` that a module in ``trainers/`` extends.

    Returns the names of all trainers registered with the host. Registering twice changes nothing.
    Raises `HostError` if the host itself cannot be found.
    """
    for package in (host.trainers, host.engine):
        if not _exists(package):
            raise HostError(
                f"The toolbox package {package!r} cannot be found. Expected a toolbox with "
                f"{host.trainers} and {host.engine} on Python's search path."
            )
    registry = import_module(host.engine).TRAINER_REGISTRY
    for extension in _extensions():
        module, _, name = extension.host_trainer.rpartition(".")
        if not _exists(f"{host.trainers}.{module}"):
            continue
        base = getattr(import_module(f"{host.trainers}.{module}"), name)
        _add(registry, extension, base)
    if host == EMBEDDED:
        _extend_own(registry)
    return list(registry.registered_names())


def _add(registry: Any, extension: type, base: type) -> None:
    if (name := f"SAR_{base.__name__}") not in registry.registered_names():
        body = {"__module__": extension.__module__, "__doc__": extension.__doc__}
        registry.register(type(name, (extension, base), body))


def _extend_own(registry: Any) -> None:
    """SAR_X for every trainer X of one's own that derives from one which SAR extends."""
    from sar.trainer import SARTrainerMixin

    trainers = [registry.get(name) for name in registry.registered_names()]
    extended = {
        t.__bases__[1]: t.__bases__[0]  # as `_add` makes them
        for t in trainers
        if issubclass(t, SARTrainerMixin) and len(t.__bases__) == 2
    }
    for trainer in trainers:
        nearest = next((base for base in trainer.__mro__ if base in extended), None)
        if nearest and not issubclass(trainer, SARTrainerMixin):
            _add(registry, extended[nearest], trainer)


def _extensions() -> list[Any]:
    """The subclasses of SARTrainerMixin that the modules in ``trainers/`` define."""
    from sar.trainer import SARTrainerMixin

    found = pkgutil.iter_modules(import_module("sar.trainers").__path__)
    modules = [import_module(f"sar.trainers.{module.name}") for module in found]
    return [
        value
        for module in modules
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, SARTrainerMixin)
        and value.__module__ == module.__name__
    ]


def _exists(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # a parent package is missing
        return False
