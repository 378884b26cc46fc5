"""The baselines. Importing this package registers them."""

from . import coop, maple, promptsrc, zsclip

__all__ = ["coop", "maple", "promptsrc", "zsclip"]
