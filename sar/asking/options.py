"""The options of a command that asks a language model, and its run under a progress bar."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import click

from sar.asking.order import AnswerFile, Order
from sar.command_line.commands import PATH, POSITIVE
from sar.command_line.signals import interrupted
from sar.errors import ConfigError
from sar.storage.locks import alone

KEY_FROM = "The key is read from OPENAI_API_KEY, the endpoint also from OPENAI_BASE_URL."


@dataclass(frozen=True)
class Asking:
    """How to ask, as the options say."""

    model: str | None
    base_url: str | None
    output: Path | None
    seed: int
    portion: int
    attempts: int
    rounds: int
    retries: int
    timeout: int
    dry_run: bool

    def check(self) -> None:
        """ConfigError where ``--model`` is missing."""
        if not self.model:
            raise ConfigError("--model is missing: the name of the model as the endpoint knows it.")

    def run(
        self,
        kind: type[AnswerFile],
        dataset: str,
        groups: list[list[str]],
        count: int,
        folder: str,
    ) -> AnswerFile:
        """Asks for `count` of what `kind` holds, until it is there; the file.

        It is ``folder/<dataset>.json`` unless ``--output`` says otherwise. Raises SystemExit after
        Ctrl-C, BusyError while another process writes the file, and what `check`, `AnswerFile`,
        `Endpoint` and `ask` raise.
        """
        self.check()
        output = self.output or Path(folder) / f"{dataset}.json"
        settings = (self.seed, self.portion, self.attempts, self.rounds)
        with alone(output.parent / f".{output.name}.lock", output, "another --output"):
            return self._run(kind, Order(dataset, groups, count, output, *settings))

    def _run(self, kind: type[AnswerFile], order: Order) -> AnswerFile:
        from tqdm import tqdm

        from sar.asking.endpoint import Endpoint
        from sar.asking.loop import ask

        assert self.model
        endpoint = Endpoint(self.model, self.base_url, self.timeout, self.retries)
        file = kind(order, self.model)
        bar = tqdm(
            total=file.wanted,
            initial=file.kept,
            desc=order.dataset,
            unit=file.unit.removesuffix("s"),
            disable=None,
        )

        def tell(line: str, kept: int) -> None:
            bar.update(kept)
            bar.write(line)

        try:
            with bar:
                ask(file, endpoint, tell)
        except KeyboardInterrupt as error:
            remark = f": {file.summary()}; the same command goes on from there"
            raise interrupted(error, remark) from None
        return file


def asking_options(
    folder: str, portion: int, shown: str
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Gives a command the options of `Asking`, and an argument `asking` with what they say.

    Args:
        folder: of the file that is written by default.
        portion: how many of what is `shown` are in a request by default.
    """
    options = [
        click.option("--model", metavar="NAME", help="As the endpoint knows it."),
        click.option(
            "--base-url", metavar="URL", help="E.g. http://localhost:8000/v1. [default: OpenAI]"
        ),
        click.option(
            "--output",
            type=PATH,
            metavar="FILE",
            help=f"[default: {folder}/<dataset>.json]",
        ),
        click.option(
            "--seed", type=int, default=1, show_default=True, help="Sent to the endpoint."
        ),
        click.option(
            "--portion",
            type=POSITIVE,
            default=portion,
            show_default=True,
            help=f"{shown} in a request.",
        ),
        click.option(
            "--attempts",
            type=POSITIVE,
            default=3,
            show_default=True,
            help="At one usable answer.",
        ),
        click.option(
            "--rounds",
            type=POSITIVE,
            default=6,
            show_default=True,
            help=f"Most times through all {shown[0].lower()}{shown[1:]}.",
        ),
        click.option(
            "--retries",
            type=click.IntRange(min=0),
            default=6,
            show_default=True,
            help="After 429, 5xx, timeouts.",
        ),
        click.option(
            "--timeout",
            type=POSITIVE,
            default=120,
            show_default=True,
            help="Seconds for an answer.",
        ),
        click.option("--dry-run", is_flag=True, help="Print the prompt and the tokens expected."),
    ]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def with_asking(**values: Any) -> None:
            asking = Asking(**{field.name: values.pop(field.name) for field in fields(Asking)})
            command(asking=asking, **values)

        for option in reversed(options):
            with_asking = option(with_asking)
        return with_asking

    return decorate
