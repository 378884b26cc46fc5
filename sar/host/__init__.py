"""Registers ``SAR_X`` with a toolbox for every trainer X there that learns prompts.

``SAR_X`` is a subclass of the toolbox's own class. How its prompts are seen with other class names
is decided when its model is built, by the structure of the prompt learner (`sar.views`).
"""

import pkgutil
import sys
from importlib import import_module
from typing import Any

from sar.errors import HostError

EMBEDDED = "sar.toolbox"
CHECKOUT = "dassl"


def register(toolbox: str = EMBEDDED) -> list[str]:
    """Registers ``SAR_X`` for every trainer X that is registered with `toolbox` by now.

    That is every one of the embedded toolbox's, and those that a checkout's script has imported:
    nothing of a checkout is imported here. Returns the names of all trainers; registering twice
    changes nothing. Raises `HostError` if the toolbox cannot be found.
    """
    try:
        registry = import_module(f"{toolbox}.engine").TRAINER_REGISTRY
    except ModuleNotFoundError as error:
        raise HostError(
            f"The toolbox {toolbox!r} cannot be found: there is no {error.name}. Expected it on "
            "Python's search path."
        ) from error
    if toolbox == EMBEDDED:
        import_module("sar.toolbox.trainers")
    from sar.trainer import SARTrainerMixin

    adapters = import_module("sar.trainers").__path__
    for module in pkgutil.iter_modules(adapters):  # so that they are known to `PromptView.of`
        import_module(f"sar.trainers.{module.name}")
    for name in list(registry.registered_names()):
        base = registry.get(name)
        known = f"SAR_{name}" in registry.registered_names()
        if not known and not issubclass(base, SARTrainerMixin) and learns_prompts(base):
            body = {"__module__": SARTrainerMixin.__module__, "__doc__": SARTrainerMixin.__doc__}
            registry.register(type(f"SAR_{name}", (SARTrainerMixin, base), body))
    return list(registry.registered_names())


def learns_prompts(trainer: type) -> bool:
    """Whether a trainer's modules load CLIP and tokenize, as those of all prompt learners do."""
    modules: list[Any] = [sys.modules.get(cls.__module__) for cls in trainer.__mro__]
    needed = ("load_clip_to_cpu", "_tokenizer")
    return all(any(hasattr(module, name) for module in modules) for name in needed)
