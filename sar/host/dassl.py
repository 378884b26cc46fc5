"""Makes ``import dassl`` work for a checkout: the original Dassl, or the embedded toolbox.

The original Dassl always wins; what breaks it on current PyTorch and NumPy is repaired in memory
while it is imported (`sar.host.bridges`). Where there is none, the embedded toolbox answers under
its name (`sar.host.standin`). Nothing is imported before the checkout asks for it, and no file is
changed.
"""

import importlib
import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from sar.host import bridges, standin


def provide() -> str:
    """Makes ``dassl`` importable in this process and says whose it is. Repeating changes nothing.

    To be called after the checkout is on ``sys.path`` and before its modules are imported; what is
    already imported of Dassl and of the checkout's ``clip`` is repaired on the spot. Cheap: torch
    is not imported here.

    Returns:
        "Dassl 0.6.3 in <folder>", or "the embedded toolbox".

    Raises:
        HostError: Dassl is there, but lacks a package that nothing can stand in for.
    """
    folder = locate()
    if not _installed():
        if folder is not None:
            bridges.check_requirements(folder)
        sys.meta_path.insert(0, _Finder(embedded=folder is None))
        for name in bridges.REPAIRS:
            if name in sys.modules:
                bridges.repair(name)
    if folder is None:
        return "the embedded toolbox"
    return f"Dassl {importlib.import_module('dassl').__version__} in {folder}"


def after_import(name: str, action: Callable[[ModuleType], None]) -> None:
    """Applies `action` to the module `name` when it is imported, or now if it already is.

    `provide` must have been called. The embedded toolbox's modules go by their own names.
    """
    bridges.REPAIRS.setdefault(name, []).append(action)
    if name in sys.modules:
        action(sys.modules[name])


def locate() -> Path | None:
    """The folder of the original ``dassl`` package; None if there is none. Imports nothing."""
    if any(finder.embedded for finder in _installed()):
        return None
    spec = find_spec("dassl")
    # A folder that merely happens to have the name has no __init__.py, hence no origin.
    return Path(spec.origin).parent if spec and spec.origin else None


def _installed() -> list["_Finder"]:
    return [finder for finder in sys.meta_path if isinstance(finder, _Finder)]


class _Finder(MetaPathFinder):
    """Answers for ``dassl`` if `embedded`; repairs the modules that `sar.host.bridges` names."""

    def __init__(self, embedded: bool) -> None:
        self.embedded = embedded
        self._asking: set[str] = set()

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if self.embedded and name.partition(".")[0] == "dassl":
            return standin.spec_for(name)
        wanted = name in bridges.REPAIRS or name in bridges.OPTIONAL
        if not wanted or name in self._asking:
            return None
        self._asking.add(name)  # other finders may in turn ask all finders
        try:
            spec = _ask_others(self, name, path, target)
        finally:
            self._asking.discard(name)
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            with bridges.optional_packages(name):
                execute(module)
            bridges.repair(name)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def _ask_others(
    asking: MetaPathFinder, name: str, path: Sequence[str] | None, target: ModuleType | None
) -> ModuleSpec | None:
    for finder in sys.meta_path:
        if finder is not asking and (spec := finder.find_spec(name, path, target)):
            return spec
    return None
