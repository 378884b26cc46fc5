"""Novel names for a dataset, request by request, kept in a file from the first answer on.

Request i shows portion i modulo the number of portions of the base classes and has the seed
``seed + i`` (and `NEXT_ATTEMPT` more each time it is repeated, since one seed may give one answer
again and again); how many requests a file records therefore says where to go on.
"""

from __future__ import annotations

import datetime
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sar.classes.identity import prompt_name, spellings
from sar.classes.novel_names import is_list_of_names
from sar.errors import ConfigError, DataError, EndpointError
from sar.files import write_file
from sar.novel.endpoint import Endpoint, TruncatedAnswer, UnusableAnswer
from sar.novel.question import TEMPLATE, messages, number_to_ask, portions, quota

_GO_ON = "the same command goes on from there"
LONGEST = 60  # characters; longer answers are descriptions rather than names
NEXT_ATTEMPT = 10_000
# A file is continued only where these are what they were.
_UNCHANGED = ("dataset", "prompt", "base_classes", "model", "seed", "portion")


@dataclass(frozen=True)
class Order:
    """How many novel names are wanted for which base classes, and how to ask for them."""

    dataset: str
    base: list[str]
    count: int
    """Novel names wanted."""
    output: Path
    seed: int = 1
    portion: int = 50
    """Base classes shown in one request."""
    attempts: int = 3
    """Most attempts at a usable answer to one request."""
    rounds: int = 6
    """Most rounds through all portions."""


class NovelFile:
    """The file of an order: the schema of ``sar/classes/novel/*.json``, and what is done so far."""

    def __init__(self, order: Order, model: str) -> None:
        """Opens the file, or prepares a new one.

        Raises:
            DataError: it cannot be read or written.
            ConfigError: it was made by something else, or with other settings.
        """
        self.path = order.output
        self.content: dict[str, Any] = {
            "dataset": order.dataset,
            "made_by": f"the language model {model}, asked by sarclip novel generate",
            "date": datetime.date.today().isoformat(),
            "model": model,
            "seed": order.seed,
            "portion": order.portion,
            "prompt": TEMPLATE,
            "wanted": order.count,
            "complete": False,
            "base_classes": order.base,
            "names": [],
            "requests": [],
        }
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self.path.exists():
                self._continue(json.loads(self.path.read_text("utf-8")))
        except (OSError, ValueError) as error:
            raise DataError(
                f"{self.path} cannot be used: {error}. Repair or move it, or give another --output."
            ) from error
        self._seen = {key for name in (*order.base, *self.names) for key in spellings(name)}

    def _continue(self, found: Any) -> None:
        is_ours = isinstance(found, dict) and isinstance(found.get("requests"), list)
        if not is_ours or not is_list_of_names(found.get("names")):
            raise ConfigError(
                f"{self.path} was not made by this command and is not overwritten. Give another "
                "--output."
            )
        if other := [key for key in _UNCHANGED if found.get(key) != self.content[key]]:
            raise ConfigError(
                f"{self.path} was made with another {', '.join(other)}. Continue it with the same "
                "settings, or give another --output."
            )
        self.content |= {key: found[key] for key in ("date", "names", "requests")}

    @property
    def names(self) -> list[str]:
        """The names kept so far."""
        names: list[str] = self.content["names"]
        return names

    @property
    def requests(self) -> list[dict[str, Any]]:
        """One record for each request that was answered or given up."""
        requests: list[dict[str, Any]] = self.content["requests"]
        return requests

    @property
    def missing(self) -> int:
        """How many names are still wanted."""
        return max(0, int(self.content["wanted"]) - len(self.names))

    def keep(self, names: list[str], most: int) -> int:
        """Adds those that are new, up to `most` of them; their number."""
        before = len(self.names)
        for name in map(prompt_name, names):
            keys = spellings(name)
            if not keys or keys & self._seen or len(name) > LONGEST or not name.isprintable():
                continue
            if len(self.names) - before < most:
                self._seen |= keys
                self.names.append(name)
        return len(self.names) - before

    def save(self) -> None:
        """Writes the file, completely or not at all."""
        self.content["complete"] = not self.missing
        try:
            write_file(self.path, json.dumps(self.content, indent=1, ensure_ascii=False) + "\n")
        except OSError as error:
            raise DataError(f"{self.path} cannot be written: {error}. Make room there.") from error

    def summary(self) -> str:
        """How many names are there, in a few words."""
        return f"{len(self.names)} of {self.content['wanted']} names are in {self.path}"


def generate(
    order: Order, file: NovelFile, endpoint: Endpoint, tell: Callable[[str, int], None]
) -> None:
    """Asks until the file holds as many names as are wanted.

    `tell` is called after each request with a line about it and the number of names it brought.

    Raises:
        EndpointError: no answer, or too few names after `order.rounds` rounds or one without a new
            name. What was got is in the file.
    """
    parts = portions(order.base, order.portion)
    first = len(file.requests)
    fruitless = 0
    while file.missing and len(file.requests) < first + order.rounds * len(parts):
        index = len(file.requests)
        wanted = quota(file.missing, index, len(parts))
        try:
            record = _request(order, file, endpoint, parts[index % len(parts)], index, wanted)
        except EndpointError as error:
            if not file.requests:
                raise
            raise EndpointError(f"{error}. {file.summary()}; {_GO_ON}.") from None
        file.requests.append(record)
        file.save()
        tell(f"request {index + 1}: {_line(record)}", record["kept"])
        fruitless = 0 if record["kept"] else fruitless + 1
        if fruitless == len(parts):
            break
    file.save()
    if file.missing:
        made = len(file.requests) - first
        # In full they are in the file; there may be a hundred of them.
        kinds = Counter(
            problem.partition(":")[0]
            for record in file.requests[first:]
            for problem in record["problems"]
        )
        problems = ", ".join(f"{kind} ({times}x)" for kind, times in kinds.most_common())
        raise EndpointError(
            f"{file.summary()} after {made} more requests{'; ' * bool(problems)}{problems}. It is "
            f"marked incomplete; {_GO_ON}."
        )


def _request(
    order: Order, file: NovelFile, endpoint: Endpoint, classes: list[str], index: int, wanted: int
) -> dict[str, Any]:
    number = number_to_ask(wanted)
    problems: list[str] = []
    record: dict[str, Any] = {"classes": [classes[0], classes[-1]]}
    for attempt in range(order.attempts):
        seed = order.seed + index + NEXT_ATTEMPT * attempt
        record |= {"seed": seed, "asked": number, "answered": 0, "kept": 0, "problems": problems}
        try:
            answer = endpoint.ask(messages(classes, number, file.names), seed)
        except UnusableAnswer as error:
            problems.append(str(error))
            if isinstance(error, TruncatedAnswer):
                number = max(1, number // 2)
            continue
        record |= {
            "answered": len(answer.names),
            "kept": file.keep(answer.names, wanted),
            "structured": answer.structured,
            "input_tokens": answer.input_tokens,
            "output_tokens": answer.output_tokens,
        }
        break
    return record


def _line(record: dict[str, Any]) -> str:
    text = f"{record['kept']} of {record['answered']} names kept"
    return f"{text} (asked again: {'; '.join(record['problems'])})" if record["problems"] else text
