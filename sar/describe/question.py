"""What a language model is asked for descriptions, and how many tokens that takes.

Base, new and novel classes are never in one request: nothing of a new class can get into the
description of a base class.
"""

import json
from collections.abc import Mapping, Sequence

from sar.asking.order import tokens
from sar.classes.identity import prompt_name

SYSTEM = "You say in plain words what things look like in pictures. You answer with JSON alone."
QUESTION = """\
These are classes of an image classification task:
{classes}

Write {number} different sentences about each of them. Each sentence names the class and says what
can be seen in a picture of it: shape, colours, material, parts, size, what is around it. Use the
name alone; say nothing that only holds in comparison with the other classes. At most 25 words a
sentence.{taken}

Answer with one JSON object of the form {{"descriptions": [{{"name": "class as above", "sentences":
["first sentence", "second sentence"]}}]}}."""
TAKEN = "\n\nThese are written already, write different ones: {sentences}."
TEMPLATE = "\n\n".join((SYSTEM, QUESTION, TAKEN.strip()))
"""The prompt as it is recorded in a file."""
_USUAL = 80  # characters of a sentence, for the estimate


def messages(
    classes: Sequence[str], number: int, taken: Mapping[str, Sequence[str]]
) -> list[dict[str, str]]:
    """The chat messages of a request for `number` sentences a class; `taken`: those there are."""
    known = {prompt_name(name): list(taken[name]) for name in classes if taken.get(name)}
    question = QUESTION.format(
        classes="\n".join(f"- {prompt_name(name)}" for name in classes),
        number=number,
        taken=TAKEN.format(sentences=json.dumps(known, ensure_ascii=False)) if known else "",
    )
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}]


def estimate(parts: Sequence[Sequence[str]], number: int) -> tuple[int, int]:
    """Input and output tokens of `number` sentences a class, could every answer be used."""
    sent = sum(tokens([m["content"] for m in messages(part, number, {})]) for part in parts)
    sentences = "x" * (_USUAL * number)
    return sent, sum(tokens([f'{{"name": "{n}"}}{sentences}' for n in part]) for part in parts)
