"""The baselines. Importing this package registers them."""

from . import cocoop, coop, kgcoop, maple, promptsrc, zsclip

__all__ = ["cocoop", "coop", "kgcoop", "maple", "promptsrc", "zsclip"]
