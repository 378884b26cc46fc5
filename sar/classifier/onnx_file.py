"""A classifier as one ONNX file: image encoder, class matrix and scale; names in its metadata.

One that tells unknown pictures has a second output, and its threshold in the metadata.
"""

from __future__ import annotations

import copy
import json
import warnings
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sar.classifier.confidence import known_share
from sar.classifier.predictor import Classifier, Pictures
from sar.command_line.extras import extra
from sar.errors import ConfigError, WeightsError

with extra("onnx"):
    import onnx
    import onnxruntime
    import onnxscript  # noqa: F401  (what torch's exporter needs)

INPUT, OUTPUT, KNOWN = "pictures", "logits", "known"
LIMIT = 1e-2
"""Greatest accepted difference of a logit, which goes from -100 to 100: a cosine's of 1e-4."""
KNOWN_LIMIT = 1e-3
"""Greatest accepted difference of a share of probability."""


class Parity(NamedTuple):
    """The greatest differences between what a file gives and the classifier itself."""

    logits: float
    known: float | None
    """Of the shares of probability; None: the classifier has no negative labels."""

    def __str__(self) -> str:
        said = f"onnxruntime gives the same logits, within {self.logits:.0e}"
        if self.known is None:
            return said
        share = "the same share of the classes beside negative labels"
        return f"{said}, and {share}, within {self.known:.0e}"


def onnx_bytes(classifier: Classifier, pictures: Pictures) -> tuple[bytes, Parity]:
    """The file's content, in fp32, and how near it is to the classifier.

    INPUT is (B, 3, H, W), as `classifier.transform` gives it and the metadata say; OUTPUT (B, C).
    With negative labels there is KNOWN (B,), the share of probability that is the classes'; a
    picture is unknown where it is less than the metadata's `threshold`.

    Args:
        pictures: on which onnxruntime must give the logits that torch gives; at least one.

    Raises:
        ConfigError: the prompt depends on the picture (CoCoOp), or no pictures.
        WeightsError: other logits or shares.
    """
    classifier.class_features()  # refuses prompts that depend on the picture
    images = torch.cat(list(classifier.batches(pictures)) or [torch.empty(0)])
    if not len(images):
        raise ConfigError("there are no pictures to check the ONNX file with; give some")
    classes = len(classifier.classes)
    # The class texts are encoded here.
    own = torch.cat([classifier.output_of_batch(some) for some in classifier.batches(images)])
    module = _Outputs(classifier.trainer, classes, bool(classifier.recipe.negatives)).eval()
    outputs = [OUTPUT, KNOWN] if module.negatives else [OUTPUT]
    example = (torch.cat([images[:1], images[:1]]),)
    batch = {0: torch.export.Dim("batch")}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of the exporter, about its own parts
        program: Any = torch.onnx.export(
            module,
            example,
            dynamo=True,
            input_names=[INPUT],
            output_names=outputs,
            dynamic_shapes=(batch,),
            verbose=False,
        )
        expected = module(images)
    content = _with_metadata(program.model_proto, classifier)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    found = [torch.from_numpy(some) for some in session.run(outputs, {INPUT: images.numpy()})]
    limits = (("logits", LIMIT), ("shares of probability", KNOWN_LIMIT))
    for (what, limit), some, same in zip(limits, found, expected, strict=False):
        if not (off := _apart(some, same)) <= limit:
            raise WeightsError(
                f"the ONNX file gives {what} that differ by {off:.1e} from torch's, expected at "
                f"most {limit:.0e}; nothing was written"
            )
    known = _apart(found[1], known_share(own, classes)) if module.negatives else None
    return content, Parity(_apart(found[0], own[:, :classes].float()), known)


def _apart(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max())


class _Outputs(nn.Module):
    """A trainer's inference on a copy of its model, in fp32 on the CPU; class texts are kept."""

    def __init__(self, trainer: Any, classes: int, negatives: bool) -> None:
        super().__init__()
        self.model = copy.deepcopy(trainer.model).float().cpu()
        self.model.dtype = torch.float32
        for name, value in vars(self.model).items():
            if isinstance(value, Tensor):  # the class features
                setattr(self.model, name, value.detach().float().cpu())
        self._trainer = copy.copy(trainer)
        self._trainer.model = self.model
        self.classes, self.negatives = classes, negatives

    def forward(self, pictures: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W) -> logits (B, C), and with negative labels their share (B,) of all."""
        output: Tensor = self._trainer.model_inference(pictures)
        logits = output[:, : self.classes]
        if not self.negatives:
            return (logits,)
        return logits, output.softmax(dim=1)[:, : self.classes].sum(dim=1)


def _with_metadata(model: Any, classifier: Classifier) -> bytes:
    cfg = classifier.recipe.cfg
    said: dict[str, Any] = {
        "names": list(classifier.classes),
        "method": classifier.method,
        "clip": cfg.MODEL.BACKBONE.NAME,
        "size": list(cfg.INPUT.SIZE),
        "interpolation": cfg.INPUT.INTERPOLATION,
        "mean": list(cfg.INPUT.PIXEL_MEAN),
        "std": list(cfg.INPUT.PIXEL_STD),
        "temperature": classifier.recipe.temperature,
    }
    if classifier.recipe.negatives:
        said["threshold"] = classifier.recipe.threshold
        said["negatives"] = list(classifier.recipe.negatives)
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
