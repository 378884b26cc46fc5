"""CLIP: tokenizer, weights and numerical precision.

The model and tokenizer are those of the clip-anytorch package (OpenAI's CLIP).
"""

from .backbone import Backbone, from_file
from .catalogue import (
    backbone_names,
    check_backbone,
    find_backbone,
    keeping_clips,
    load_clip,
    register_backbone,
)
from .openai import CLIP, clip, tokenizer
from .precision import PRECISIONS, autocast, check_precision, set_precision

available_models = clip.available_models
tokenize = clip.tokenize

__all__ = [
    "CLIP",
    "PRECISIONS",
    "Backbone",
    "autocast",
    "available_models",
    "backbone_names",
    "check_backbone",
    "check_precision",
    "clip",
    "find_backbone",
    "from_file",
    "keeping_clips",
    "load_clip",
    "register_backbone",
    "set_precision",
    "tokenize",
    "tokenizer",
]
