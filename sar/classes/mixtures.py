"""Names of classes that do not exist: mixtures of two base classes.

They need no language model, and cannot leak a new class, since nothing but base names is in them.
How a text encoder reads them: `sar.mixing`.
"""

import random
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from sar.classes.identity import prompt_name
from sar.errors import ConfigError

_NAME = re.compile(r"<([^<>|]+)\|([^<>|]+)\|(0\.\d\d)>")
_SHARES = range(30, 71)  # hundredths; nearer to one of the two it would be that class again


class Mixture(NamedTuple):
    """A share of one name, and the rest of the other."""

    one: str
    other: str
    share: float

    @property
    def name(self) -> str:
        """How it is written where names are: ``<red fox|pig|0.43>``."""
        return f"<{self.one}|{self.other}|{self.share:.2f}>"


def mixtures(base_names: Sequence[str], count: int, seed: int = 0) -> list[str]:
    """The names of `count` different mixtures of two of `base_names`, drawn with `seed`.

    Raises ConfigError if there are fewer.
    """
    distinct = dict.fromkeys(map(prompt_name, base_names))
    names = [name for name in distinct if not set("<>|") & set(name)]
    most = len(names) * (len(names) - 1) * len(_SHARES) // 4  # half of all, so that they are found
    if count > most:
        raise ConfigError(
            f"TRAINER.SAR.NOVEL is 'mix:{count}', but {len(names)} base classes give {most} "
            f"mixtures of two. Ask for at most {most}."
        )
    draw, found = random.Random(seed), dict[tuple[str, str, int], str]()
    while len(found) < count:
        one, other = draw.sample(names, 2)
        share = draw.choice(_SHARES)
        same = min((one, other, share), (other, one, 100 - share))  # whichever is named first
        found.setdefault(same, Mixture(one, other, share / 100).name)
    return list(found.values())


def parted(text: str) -> Iterator[str | Mixture]:
    """A text as plain pieces and the mixtures named in it."""
    end = 0
    for match in _NAME.finditer(text):
        yield text[end : match.start()]
        yield Mixture(match[1], match[2], float(match[3]))
        end = match.end()
    yield text[end:]
