"""What is ordered from a language model, and the file that keeps the answers from the first on.

Request i has the seed ``seed + i`` (more each time it is repeated, since one seed may give one
answer again and again); how many requests a file records says where to go on.
"""

from __future__ import annotations

import datetime
import itertools
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from sar.errors import ConfigError, DataError
from sar.storage.files import write_file
from sar.storage.texts import read_json

if TYPE_CHECKING:
    from sar.asking.endpoint import Form

# A file is continued only where these are what they were.
_UNCHANGED = ("dataset", "prompt", "model", "seed", "portion")
CHARACTERS_PER_TOKEN = 4  # of English text, a rule of thumb
_ANOTHER = "Give another --output."
OVERHEAD = 10  # tokens of a request besides its texts


@dataclass(frozen=True)
class Order:
    """What is wanted for which classes, and how to ask for it."""

    dataset: str
    groups: list[list[str]]
    """Classes; those of two groups are never in one request."""
    count: int
    """How many are wanted, of whatever is ordered."""
    output: Path
    seed: int = 1
    portion: int = 50
    """Classes shown in one request."""
    attempts: int = 3
    """Most attempts at a usable answer to one request."""
    rounds: int = 6
    """Most rounds through all portions."""

    @property
    def classes(self) -> list[str]:
        """Those of all groups."""
        return [name for group in self.groups for name in group]

    @property
    def parts(self) -> list[list[str]]:
        """The portions of all groups."""
        return [part for group in self.groups for part in portions(group, self.portion)]


class Question(ABC):
    """One request."""

    classes: list[str]
    """Those shown."""
    asked: int
    """How many things are asked for."""

    @abstractmethod
    def messages(self) -> list[dict[str, str]]:
        """The chat messages."""

    @abstractmethod
    def smaller(self) -> Question:
        """One with a shorter answer, if there is any: the answer to this one was cut off."""

    @abstractmethod
    def keep(self, items: list[Any]) -> tuple[int, int]:
        """Puts what an answer lists into the file; how much was answered and kept."""


class AnswerFile(ABC):
    """A JSON file with an order, the requests made and what was kept of their answers."""

    command: ClassVar[str]
    prompt: ClassVar[str]
    """The texts sent, with {} where something is filled in."""
    unit: ClassVar[str]
    """What is counted, in the plural."""
    shown: ClassVar[str]
    """Key of the classes."""
    answers: ClassVar[str]
    """Key of what is kept."""
    form: ClassVar[type[Form]]
    """What an answer looks like."""

    def __init__(self, order: Order, model: str) -> None:
        """Opens the file, or prepares a new one.

        Raises:
            DataError: it cannot be read or written.
            ConfigError: it was made by something else, or with other settings.
        """
        self.order = order
        self.path = order.output
        self.content: dict[str, Any] = {
            "dataset": order.dataset,
            "made_by": f"the language model {model}, asked by {self.command}",
            "date": datetime.date.today().isoformat(),
            "model": model,
            "seed": order.seed,
            "portion": order.portion,
            "prompt": self.prompt,
            "wanted": order.count,
            "complete": False,
            self.shown: order.classes,
            self.answers: self.nothing(),
            "requests": [],
        }
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"{self.path} cannot be written: {error}. {_ANOTHER}") from error
        if self.path.exists():
            self._continue(read_json(self.path, f"repair or move it, or {_ANOTHER.lower()}"))

    def _continue(self, found: Any) -> None:
        is_ours = isinstance(found, dict) and isinstance(found.get("requests"), list)
        if not is_ours or not self.can_be(found.get(self.answers)):
            raise ConfigError(
                f"{self.path} was not made by this command and is not overwritten. {_ANOTHER}"
            )
        unchanged = (*_UNCHANGED, self.shown)
        if other := sorted(key for key in unchanged if found.get(key) != self.content[key]):
            raise ConfigError(
                f"{self.path} was made with another {', '.join(other)}. Continue it with the same "
                "settings, or give another --output."
            )
        self.content |= {key: found[key] for key in ("date", self.answers, "requests")}

    @abstractmethod
    def nothing(self) -> Any:
        """What is kept before the first answer."""

    @abstractmethod
    def can_be(self, kept: Any) -> bool:
        """Whether what a file has under `answers` was kept by this command."""

    @property
    @abstractmethod
    def kept(self) -> int:
        """How much is there of what is wanted."""

    @property
    @abstractmethod
    def wanted(self) -> int:
        """How much is wanted in all."""

    @abstractmethod
    def question(self) -> Question:
        """What to ask next, as long as something is missing."""

    @property
    def missing(self) -> int:
        """How much is still to come."""
        return max(0, self.wanted - self.kept)

    @property
    def requests(self) -> list[dict[str, Any]]:
        """One record for each request that was answered or given up."""
        requests: list[dict[str, Any]] = self.content["requests"]
        return requests

    def save(self) -> None:
        """Writes the file, completely or not at all."""
        self.content["complete"] = not self.missing
        try:
            write_file(self.path, json.dumps(self.content, indent=1, ensure_ascii=False) + "\n")
        except OSError as error:
            raise DataError(f"{self.path} cannot be written: {error}. Make room there.") from error

    def summary(self) -> str:
        """How much is there, in a few words."""
        return f"{self.kept} of {self.wanted} {self.unit} are in {self.path}"


def portions(classes: Sequence[str], size: int) -> list[list[str]]:
    """`classes` in order, cut into as few and as equal parts of at most `size` as possible."""
    count = math.ceil(len(classes) / size)
    cuts = [i * len(classes) // max(1, count) for i in range(count + 1)]
    return [list(classes[a:b]) for a, b in itertools.pairwise(cuts)]


def tokens(texts: Sequence[str]) -> int:
    """About how many tokens a request or an answer with these texts takes."""
    return math.ceil(sum(map(len, texts)) / CHARACTERS_PER_TOKEN) + OVERHEAD
