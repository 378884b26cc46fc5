"""What the value of a configuration key may be: kinds of rules, declared beside the keys.

A file with an `extend_cfg` may have such a table for its own keys, too, by the name of VALUES.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from yacs.config import CfgNode

from sar.errors import ConfigError
from sar.settings.trees import dotted


@dataclass(frozen=True)
class Number:
    """A finite number within bounds."""

    least: float = -math.inf
    most: float = math.inf
    above: bool = False
    """Whether `least` itself is too small."""
    below: bool = False
    """Whether `most` itself is too large."""
    whole: bool = False

    def allows(self, value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, int if self.whole else int | float):
            return False
        if isinstance(value, float) and not math.isfinite(value):
            return False
        return (value > self.least if self.above else value >= self.least) and (
            value < self.most if self.below else value <= self.most
        )

    def __str__(self) -> str:
        kind = "a whole number" if self.whole else "a finite number"
        least = f"{'above' if self.above else 'from'} {self.least:g}"
        most = f"{'below' if self.below else 'to'} {self.most:.10g}"
        bounds = [least] * (self.least > -math.inf) + [most] * (self.most < math.inf)
        return " ".join([kind, *bounds])


@dataclass(frozen=True)
class Several:
    """A list of so many values."""

    of: Number
    lengths: tuple[int, ...] = ()
    """Empty: one or more."""
    rising: bool = False

    def allows(self, value: Any) -> bool:
        if not isinstance(value, list | tuple) or not all(self.of.allows(one) for one in value):
            return False
        if len(value) not in self.lengths if self.lengths else not value:
            return False
        return not self.rising or list(value) == sorted(value)

    def __str__(self) -> str:
        count = " or ".join(map(str, self.lengths)) or "one or more"
        return f"a list of {count}, each {self.of}{', rising' if self.rising else ''}"


Rule = Number | Several


def check_values(cfg: CfgNode, rules: dict[str, Rule]) -> None:
    """ConfigError for the first key whose value its rule does not allow.

    Numbers without a rule must be finite, and lists without one hold texts.
    """
    for key, value in dotted(cfg).items():
        rule = rules.get(key) or (Number() if isinstance(value, float) else None)
        if rule and not rule.allows(value):
            raise ConfigError(f"{key} is {value!r}; expected {rule}")
        if rule is None and isinstance(value, list | tuple):
            odd = [one for one in value if not isinstance(one, str)]
            if odd:
                raise ConfigError(f"{key} has {odd[0]!r}; expected a list of texts")
