"""The baselines. Importing this package registers them."""

from . import cocoop, coop, kgcoop, zsclip

__all__ = ["cocoop", "coop", "kgcoop", "zsclip"]
