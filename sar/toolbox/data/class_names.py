"""How CLIP reads class names: which of them are the same to it, and which are no names at all."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from sar.classes.identity import prompt_name, shown
from sar.errors import DataError
from sar.toolbox.clip import tokenizer

_SHOWN = 3


def alike(names: Mapping[int, str]) -> list[list[int]]:
    """Groups of labels whose names are the same to CLIP, because their tokens are.

    Raises DataError for a name without tokens: an empty one, a blank, an underscore.
    """
    labels: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for label, name in names.items():
        tokens = tuple(tokenizer.encode(prompt_name(name)))
        if not tokens:
            raise DataError(
                f"the class name of label {label} is {name!r}, which is empty to CLIP: "
                '"a photo of a ."; give the class a name'
            )
        labels[tokens].append(label)
    return [group for group in labels.values() if len(group) > 1]


def one_to_clip(names: Mapping[int, str]) -> str:
    """Which class names CLIP cannot tell from each other; empty if it can."""
    groups = alike(names)
    if not groups:
        return ""
    pairs = [
        " and ".join(f"{shown(names[label])} (label {label})" for label in group)
        for group in groups[:_SHOWN]
    ]
    more = f" and {len(groups) - _SHOWN} more such groups" if len(groups) > _SHOWN else ""
    return f"{'; '.join(pairs)}{more} are one class to CLIP, whose images cannot be told apart"


def only_numbers(names: Sequence[str]) -> bool:
    """Whether the names are numbers, which CLIP reads as such: labels in the place of names."""
    return len(names) > 1 and all(name.strip().isdecimal() for name in names)
