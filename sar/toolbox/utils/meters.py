"""Running averages of what a training step reports."""

from collections import defaultdict
from collections.abc import Mapping

from torch import Tensor


class AverageMeter:
    """The last value (`val`) and the mean (`avg`) of all values since `reset`."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.val = self.avg = self.sum = 0.0
        self.count = 0

    def update(self, value: float | Tensor, n: int = 1) -> None:
        self.val = float(value)
        self.sum += self.val * n
        self.count += n
        self.avg = self.sum / self.count


class MetricMeter:
    """One AverageMeter per name; prints as `loss 1.2000 (1.3000) acc 50.0000 (48.1000)`."""

    def __init__(self, delimiter: str = " ") -> None:
        self.meters: defaultdict[str, AverageMeter] = defaultdict(AverageMeter)
        self.delimiter = delimiter

    def update(self, values: Mapping[str, float | Tensor] | None) -> None:
        for name, value in (values or {}).items():
            self.meters[name].update(value)

    def __str__(self) -> str:
        return self.delimiter.join(
            f"{name} {meter.val:.4f} ({meter.avg:.4f})" for name, meter in self.meters.items()
        )
