"""A classifier as the weight matrix that zero-shot code of open_clip and transformers multiplies.

``logit_scale * normalize(model.encode_image(pictures)) @ zeroshot_weights``

What was fitted goes with it: probabilities are the softmax of these logits / `temperature`, and
negative labels have a matrix of their own. A picture is unknown where the zero-shot weights have
less than `threshold` of the softmax, at temperature 1, over both.
"""

from __future__ import annotations

import json
from typing import Any

from safetensors.torch import save

from sar.classifier.predictor import Classifier
from sar.errors import ConfigError

KEY, NEGATIVE = "zeroshot_weights", "negative_weights"


def zero_shot_weights(classifier: Classifier) -> bytes:
    """A safetensors file: KEY (D, C) fp32, its columns normalized; names and scale as metadata.

    One that tells unknown pictures has NEGATIVE (D, M), too, and their names and its threshold.

    Raises ConfigError where image features are not the plain CLIP's, or texts depend on them.
    """
    if classifier.prompts_images:
        raise ConfigError(
            f"{classifier.method} has prompts in the image encoder, too: without them the class "
            "matrix means nothing to another program. Export --format onnx, or train CoOp or KgCoOp"
        )
    cfg = classifier.recipe.cfg
    tensors = {KEY: classifier.class_features().T.contiguous()}
    said: dict[str, Any] = {
        "names": list(classifier.classes),
        "logit_scale": classifier.logit_scale,
        "clip": cfg.MODEL.BACKBONE.NAME,
        "mean": list(cfg.INPUT.PIXEL_MEAN),
        "std": list(cfg.INPUT.PIXEL_STD),
        "temperature": classifier.recipe.temperature,
    }
    if classifier.recipe.negatives:
        tensors[NEGATIVE] = classifier.negative_features().T.contiguous()
        said["threshold"] = classifier.recipe.threshold
        said["negatives"] = list(classifier.recipe.negatives)
    metadata = {key: json.dumps(value, ensure_ascii=False) for key, value in said.items()}
    return save(tensors, metadata)
