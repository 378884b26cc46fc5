"""A classifier as one ONNX file: image encoder, class matrix and scale; names in its metadata."""

from __future__ import annotations

import copy
import json
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from sar.classifier.predictor import Classifier, Pictures
from sar.errors import ConfigError, WeightsError
from sar.extras import extra

with extra("onnx"):
    import onnx
    import onnxruntime
    import onnxscript  # noqa: F401  (what torch's exporter needs)

INPUT, OUTPUT = "pictures", "logits"
LIMIT = 1e-2
"""Greatest accepted difference of a logit, which goes from -100 to 100: a cosine's of 1e-4."""


def onnx_bytes(classifier: Classifier, pictures: Pictures) -> tuple[bytes, float]:
    """The file's content, in fp32, and its greatest difference to the classifier's own logits.

    INPUT is (B, 3, H, W), as `classifier.transform` gives it and the metadata say; OUTPUT (B, C).

    Args:
        pictures: on which onnxruntime must give the logits that torch gives; at least one.

    Raises:
        ConfigError: the prompt depends on the picture (CoCoOp), or no pictures.
        WeightsError: other logits.
    """
    classifier.class_features()  # refuses prompts that depend on the picture
    images = torch.cat(list(classifier.batches(pictures)) or [torch.empty(0)])
    if not len(images):
        raise ConfigError("there are no pictures to check the ONNX file with; give some")
    own = classifier.logits(images)  # the class texts are encoded here
    module = _Logits(classifier.trainer, len(classifier.classes)).eval()
    example = (torch.cat([images[:1], images[:1]]),)
    batch = {0: torch.export.Dim("batch")}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of the exporter, about its own parts
        program: Any = torch.onnx.export(
            module,
            example,
            dynamo=True,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=(batch,),
            verbose=False,
        )
        expected = module(images)
    content = _with_metadata(program.model_proto, classifier)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    found = torch.from_numpy(session.run([OUTPUT], {INPUT: images.numpy()})[0])
    if not (off := float((found - expected).abs().max())) <= LIMIT:
        raise WeightsError(
            f"the ONNX file gives logits that differ by {off:.1e} from torch's, expected at most "
            f"{LIMIT:.0e}; nothing was written"
        )
    return content, float((found - own.float()).abs().max())


class _Logits(nn.Module):
    """A trainer's inference on a copy of its model, in fp32 on the CPU; class texts are kept."""

    def __init__(self, trainer: Any, classes: int) -> None:
        super().__init__()
        self.model = copy.deepcopy(trainer.model).float().cpu()
        self.model.dtype = torch.float32
        for name, value in vars(self.model).items():
            if isinstance(value, Tensor):  # the class features
                setattr(self.model, name, value.detach().float().cpu())
        self._trainer = copy.copy(trainer)
        self._trainer.model = self.model
        self.classes = classes

    def forward(self, pictures: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, C)."""
        logits: Tensor = self._trainer.model_inference(pictures)
        return logits[:, : self.classes]


def _with_metadata(model: Any, classifier: Classifier) -> bytes:
    cfg = classifier.recipe.cfg
    said = {
        "names": list(classifier.classes),
        "method": classifier.method,
        "clip": cfg.MODEL.BACKBONE.NAME,
        "size": list(cfg.INPUT.SIZE),
        "interpolation": cfg.INPUT.INTERPOLATION,
        "mean": list(cfg.INPUT.PIXEL_MEAN),
        "std": list(cfg.INPUT.PIXEL_STD),
        "temperature": classifier.recipe.temperature,
    }
    for key, value in said.items():
        model.metadata_props.add(key=key, value=json.dumps(value, ensure_ascii=False))
    if not model.graph.input[0].type.tensor_type.shape.dim[0].dim_param:
        raise WeightsError(
            f"torch's exporter has fixed the number of pictures of {classifier.method} at that of "
            "its example; nothing was written"
        )
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content
