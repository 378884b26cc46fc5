"""Request after request until an order is met, or nothing more comes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from sar.asking.endpoint import Endpoint, TruncatedAnswer, UnusableAnswer
from sar.asking.order import AnswerFile
from sar.errors import EndpointError

_GO_ON = "the same command goes on from there"
NEXT_ATTEMPT = 10_000  # between the seeds of attempts at one request


def ask(file: AnswerFile, endpoint: Endpoint, tell: Callable[[str, int], None]) -> None:
    """Asks until the file holds as much as is wanted.

    `tell` is called after each request with a line about it and how much it brought.

    Raises:
        EndpointError: no answer, or too little after `Order.rounds` rounds or one that brought
            nothing. What was got is in the file.
    """
    parts = len(file.order.parts)
    first = len(file.requests)
    fruitless = 0
    while file.missing and len(file.requests) < first + file.order.rounds * parts:
        try:
            record = _request(file, endpoint)
        except EndpointError as error:
            if not file.requests:
                raise
            raise EndpointError(f"{error}. {file.summary()}; {_GO_ON}.") from None
        file.requests.append(record)
        file.save()
        tell(f"request {len(file.requests)}: {_line(record, file.unit)}", record["kept"])
        fruitless = 0 if record["kept"] else fruitless + 1
        if fruitless == parts:
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


def _request(file: AnswerFile, endpoint: Endpoint) -> dict[str, Any]:
    question, index = file.question(), len(file.requests)
    problems: list[str] = []
    record: dict[str, Any] = {}
    for attempt in range(file.order.attempts):
        seed = file.order.seed + index + NEXT_ATTEMPT * attempt
        record = {"classes": [question.classes[0], question.classes[-1]], "seed": seed}
        record |= {"asked": question.asked, "answered": 0, "kept": 0, "problems": problems}
        try:
            answer = endpoint.ask(question.messages(), seed, file.form)
        except UnusableAnswer as error:
            problems.append(str(error))
            if isinstance(error, TruncatedAnswer):
                question = question.smaller()
            continue
        answered, kept = question.keep(answer.items)
        record |= {
            "answered": answered,
            "kept": kept,
            "structured": answer.structured,
            "input_tokens": answer.input_tokens,
            "output_tokens": answer.output_tokens,
        }
        break
    return record


def _line(record: dict[str, Any], unit: str) -> str:
    text = f"{record['kept']} of {record['answered']} {unit} kept"
    return f"{text} (asked again: {'; '.join(record['problems'])})" if record["problems"] else text
