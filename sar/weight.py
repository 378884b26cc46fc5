"""The factor of L_SAR beside the host's loss: a fixed number, or one that follows from a bound.

The bound says what is enough: L_SAR <= eps, with eps a share (TRAINER.SAR.BOUND) of the mean
divergence that single hand-crafted templates, the `imagenet` ones, have from the teacher. How far
wordings are apart anyway is the unit in which a distance from the teacher is much or little, for
any method, divergence and temperature. With share 1, prompts that keep the relations as well as
another wording does may serve the task alone. The factor is the bound's multiplier, found by dual
ascent with multiplicative steps (mirror ascent), so that it stays positive and its first value
matters little:

    lambda <- lambda * exp(rate * min(L_SAR / eps - 1, 1))        after every update

`rate` is such that a whole training can change lambda by a factor of e^20.
"""

import math
from dataclasses import dataclass

from sar.errors import ConfigError

FIXED, AUTO = RULES = ("fixed", "auto")
STATE = "sar_weight"
"""The name of lambda in the state of a run."""
_WHOLE = 20.0
_FASTEST = 0.1  # of the shortest trainings


@dataclass
class Weight:
    """lambda, here never changed."""

    value: float

    def update(self, loss: float) -> None:
        """After an update of the parameters for which L_SAR was `loss`."""


@dataclass
class DualWeight(Weight):
    """lambda by dual ascent on L_SAR <= bound.

    steps: those of the whole training. Raises ConfigError for a bound that no training can keep.
    """

    bound: float
    steps: int

    def __post_init__(self) -> None:
        if not 0 < self.bound < math.inf:
            raise ConfigError(
                f"TRAINER.SAR.WEIGHT_RULE {AUTO} keeps L_SAR below the divergence of single "
                f"templates from the teacher, which is {self.bound} here. Set it to {FIXED}."
            )
        self.rate = min(_FASTEST, _WHOLE / max(self.steps, 1))

    def update(self, loss: float) -> None:
        violation = min(loss / self.bound - 1, 1.0)  # -1 at least, as no loss is negative
        self.value *= math.exp(self.rate * violation)
