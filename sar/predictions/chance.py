"""Whether an accuracy shows that a CLIP knows what it was shown."""

from __future__ import annotations

import math

LEAST_GAIN = 0.1
"""Share of the way from chance to 100 %; less than that and than twice chance is near chance."""
ERRORS = 1.0
"""Number of standard errors of chance within which an accuracy may be chance."""


def near_chance(accuracy: float, classes: int, pictures: int) -> bool:
    """Whether an accuracy in percent is hardly above that of guessing one of `classes`."""
    if classes < 2 or pictures < 1:
        return False
    chance = 1 / classes
    error = math.sqrt(chance * (1 - chance) / pictures)
    little = min(2 * chance, chance + LEAST_GAIN * (1 - chance))
    return accuracy / 100 < max(little, chance + ERRORS * error)


def does_not_know(what: str, accuracy: float, classes: int) -> str:
    """The sentence that says so, with what to do about it."""
    found = f"zero-shot {accuracy:.1f} %, chance {100 / classes:.1f} %"
    return f"this CLIP does not know {what}: {found}; use a larger CLIP (MODEL.BACKBONE.NAME)"
