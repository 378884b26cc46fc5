"""A trained prompt as a product: pictures in, classes out; classes come and go without training."""

from .predictor import Classifier, Guess

__all__ = ["Classifier", "Guess"]
