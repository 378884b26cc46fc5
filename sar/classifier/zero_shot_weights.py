"""A classifier as the weight matrix that zero-shot code of open_clip and transformers multiplies.

``logit_scale * normalize(model.encode_image(pictures)) @ zeroshot_weights``
"""

from __future__ import annotations

import json

from safetensors.torch import save

from sar.classifier.predictor import Classifier
from sar.errors import ConfigError

KEY = "zeroshot_weights"


def zero_shot_weights(classifier: Classifier) -> bytes:
    """A safetensors file: KEY (D, C) fp32, its columns normalized; names and scale as metadata.

    Raises ConfigError where image features are not the plain CLIP's, or texts depend on them.
    """
    if classifier.prompts_images:
        raise ConfigError(
            f"{classifier.method} has prompts in the image encoder, too: without them the class "
            "matrix means nothing to another program. Export --format onnx, or train CoOp or KgCoOp"
        )
    cfg = classifier.recipe.cfg
    weights = classifier.class_features().T.contiguous()
    said = {
        "names": list(classifier.classes),
        "logit_scale": classifier.logit_scale,
        "clip": cfg.MODEL.BACKBONE.NAME,
        "mean": list(cfg.INPUT.PIXEL_MEAN),
        "std": list(cfg.INPUT.PIXEL_STD),
    }
    metadata = {key: json.dumps(value, ensure_ascii=False) for key, value in said.items()}
    return save({KEY: weights}, metadata)
