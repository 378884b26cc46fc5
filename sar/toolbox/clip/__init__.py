"""CLIP: tokenizer, weights and numerical precision.

The model and tokenizer are those of the clip-anytorch package (OpenAI's CLIP).
"""

from .loading import backbone_names, check_backbone, load_clip
from .openai import CLIP, SimpleTokenizer, clip
from .precision import PRECISIONS, autocast, check_precision, set_precision

available_models = clip.available_models
tokenize = clip.tokenize

__all__ = [
    "CLIP",
    "PRECISIONS",
    "SimpleTokenizer",
    "autocast",
    "available_models",
    "backbone_names",
    "check_backbone",
    "check_precision",
    "clip",
    "load_clip",
    "set_precision",
    "tokenize",
]
