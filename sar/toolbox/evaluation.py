"""Classification results and how they are printed."""

from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from yacs.config import CfgNode

from sar.errors import DataError, NotFiniteError
from sar.predictions.ece import calibration_errors
from sar.storage.files import atomic_write
from sar.toolbox import distributed
from sar.toolbox.utils.registry import Registry

EVALUATOR_REGISTRY = Registry("EVALUATOR")


def build_evaluator(cfg: CfgNode, **kwargs: Any) -> "EvaluatorBase":
    return EVALUATOR_REGISTRY.get(cfg.TEST.EVALUATOR)(cfg, **kwargs)


class EvaluatorBase:
    """Collects predictions batch by batch (`process`), then sums up (`evaluate`)."""

    def __init__(self, cfg: CfgNode) -> None:
        self.cfg = cfg

    def reset(self) -> None:
        raise NotImplementedError

    def process(self, mo: Tensor, gt: Tensor) -> None:
        raise NotImplementedError

    def evaluate(self) -> "OrderedDict[str, float]":
        raise NotImplementedError


@EVALUATOR_REGISTRY.register()
class Classification(EvaluatorBase):
    """Accuracy, error, macro-averaged F1 over the classes that occur, calibration errors; percent.

    TEST.PER_CLASS_RESULT adds a line per class and `perclass_accuracy`, their mean;
    TEST.COMPUTE_CMAT writes the confusion matrix, rows (true classes) summing to 1, to
    OUTPUT_DIR/cmat.pt as an fp32 tensor over the classes that occur.
    """

    def __init__(self, cfg: CfgNode, lab2cname: dict[int, str] | None = None) -> None:
        super().__init__(cfg)
        self._lab2cname = lab2cname or {}
        self.reset()

    def reset(self) -> None:
        self._true: list[Tensor] = []
        self._predicted: list[Tensor] = []
        self._confidence: list[Tensor] = []

    def process(self, mo: Tensor, gt: Tensor) -> None:
        """Add a batch: `mo` (B, C) scores, `gt` (B,) labels.

        Raises NotFiniteError for scores of which none can be the greatest.
        """
        if odd := int((~torch.isfinite(mo.amax(dim=1))).sum()):
            raise NotFiniteError(
                f"the scores of {odd} of {len(mo)} images are NaN or infinite, so that nothing is "
                "predicted. Are the weights of CLIP and of the prompts whole? In fp16, numbers "
                "beyond 65,504 are infinite: try PREC amp or fp32"
            )
        self._predicted.append(mo.argmax(dim=1).cpu())
        self._confidence.append(mo.float().softmax(dim=1).amax(dim=1).cpu())
        self._true.append(gt.cpu())

    def evaluate(self) -> "OrderedDict[str, float]":
        """Print the result block and return its values, accuracy first."""
        parts = [distributed.gather(x) for x in (self._true, self._predicted, self._confidence)]
        if not parts[0]:
            raise DataError("nothing was evaluated: the test set is empty")
        true, predicted, confidence = map(torch.cat, parts)
        size = int(torch.maximum(true.max(), predicted.max())) + 1
        counts = torch.bincount(true * size + predicted, minlength=size * size)
        counts = counts.reshape(size, size).double()  # rows: true, columns: predicted
        correct, total = int(counts.diagonal().sum()), len(true)
        accuracy = 100.0 * correct / total
        seen = counts.sum(dim=1) > 0
        f1 = 2 * counts.diagonal() / (counts.sum(dim=0) + counts.sum(dim=1)).clamp(min=1)
        results = OrderedDict(
            accuracy=accuracy, error_rate=100.0 - accuracy, macro_f1=100.0 * f1[seen].mean().item()
        )
        print(
            "=> result\n"
            f"* total: {total:,}\n"
            f"* correct: {correct:,}\n"
            f"* accuracy: {accuracy:.2f}%\n"
            f"* error: {results['error_rate']:.2f}%\n"
            f"* macro_f1: {results['macro_f1']:.2f}%"
        )
        errors = calibration_errors(confidence.numpy(), (true == predicted).numpy())
        results["ece"], results["adaptive_ece"] = errors
        print(f"Calibration: {errors}")  # no line of the block, whose lines others read
        if self.cfg.TEST.PER_CLASS_RESULT:
            results["perclass_accuracy"] = self._print_classes(counts, seen)
        if self.cfg.TEST.COMPUTE_CMAT:
            occurs = seen | (counts.sum(dim=0) > 0)
            matrix = counts[occurs][:, occurs]
            matrix = matrix / matrix.sum(dim=1, keepdim=True).clamp(min=1)
            path = Path(self.cfg.OUTPUT_DIR, "cmat.pt")
            with atomic_write(path) as file:
                torch.save(matrix.float(), file)
            print(f"Confusion matrix is saved to {path}")
        return results

    def _print_classes(self, counts: Tensor, seen: Tensor) -> float:
        print("=> per-class result")
        rates = []
        for label in seen.nonzero().flatten().tolist():
            total, correct = int(counts[label].sum()), int(counts[label, label])
            rates.append(100.0 * correct / total)
            print(
                f"* class: {label} ({self._lab2cname.get(label, '?')})\ttotal: {total:,}\t"
                f"correct: {correct:,}\tacc: {rates[-1]:.2f}%"
            )
        mean = sum(rates) / len(rates)
        print(f"* average: {mean:.2f}%")
        return mean
