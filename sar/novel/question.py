"""What a language model is asked for novel names, and how many tokens that takes.

The prompt shows base classes and nothing else: from the name of the dataset a model could recall
the true new classes.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

from sar.asking.order import tokens
from sar.classes.identity import prompt_name

SYSTEM = "You extend lists of classes for image classification. You answer with JSON alone."
QUESTION = """\
These are classes of one image classification task:
{classes}

Name {number} other classes that could belong to the same task: of the same domain, as general or
as specific as these, named in the same style, and each of them visible in a picture. Do not name
one of the classes above in another spelling, number or word order, or by a synonym.{taken}

Answer with one JSON object of the form {{"names": ["first name", "second name"]}}."""
TAKEN = "\n\nThese are named already, name different ones: {names}."
TEMPLATE = "\n\n".join((SYSTEM, QUESTION, TAKEN.strip()))
"""The prompt as it is recorded in a file."""

SURPLUS = 1.25  # asked for each name that is still needed, since some answers repeat classes
MOST = 100  # names in one answer; longer ones tend to be cut off or to repeat themselves


def quota(missing: int, index: int, n_portions: int) -> int:
    """How many of the `missing` names request `index` is to bring, the same for every portion."""
    return math.ceil(missing / (n_portions - index % n_portions))


def number_to_ask(wanted: int) -> int:
    """How many names a request that is to bring `wanted` asks for."""
    return min(MOST, math.ceil(SURPLUS * wanted))


def messages(classes: Sequence[str], number: int, taken: Sequence[str]) -> list[dict[str, str]]:
    """The chat messages of a request for `number` names beside `classes` and `taken`."""
    question = QUESTION.format(
        classes="\n".join(f"- {prompt_name(name)}" for name in classes),
        number=number,
        taken=TAKEN.format(names=json.dumps(list(taken), ensure_ascii=False)) if taken else "",
    )
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}]


@dataclass(frozen=True)
class Estimate:
    """The expected cost of an order, were every answer usable."""

    requests: int
    input_tokens: int
    output_tokens: int


def estimate(parts: Sequence[Sequence[str]], count: int) -> Estimate:
    """Tokens for `count` names, were new names as long as the base classes'."""
    names = [name for part in parts for name in part]
    length = sum(map(len, names)) / len(names)
    taken: list[str] = []
    sent = received = requests = 0
    while len(taken) < count:
        wanted = quota(count - len(taken), requests, len(parts))
        number = number_to_ask(wanted)
        texts = messages(parts[requests % len(parts)], number, taken)
        sent += tokens([message["content"] for message in texts])
        received += tokens(['"", ' + "x" * round(length)] * number)
        taken += ["x" * round(length)] * min(wanted, int(number / SURPLUS))
        requests += 1
    return Estimate(requests, sent, received)
