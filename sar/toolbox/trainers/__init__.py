"""The baselines. Importing this package registers them."""

from . import coop, zsclip

__all__ = ["coop", "zsclip"]
