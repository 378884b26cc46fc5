"""Packages that only some commands need: the project's extras, as pyproject.toml declares them."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from sar.errors import MissingPackageError

EXTRAS = {
    "novel": ("openai", "pydantic"),
    "hub": ("huggingface_hub",),
    "slurm": ("submitit",),
    "report": ("matplotlib", "jinja2"),
    "heic": ("pillow_heif",),
    "openclip": ("open_clip", "transformers"),
    "lm": ("transformers",),
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "app": ("gradio", "matplotlib"),
}
"""Extra -> the modules that it brings."""


def install(name: str) -> str:
    """The command that installs an extra."""
    return f"pip install 'sarclip[{name}]'"


def missing() -> list[str]:
    """The extras that are not here, or not whole."""
    return [name for name, modules in EXTRAS.items() if not all(map(find_spec, modules))]


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Within, an import that fails for want of the extra says how to install it.

    Raises:
        MissingPackageError: a module of the extra cannot be found.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in EXTRAS[name]:
            raise
        message = f"{error.name} is not installed, which this command needs: {install(name)}"
        raise MissingPackageError(message) from error
