"""The classifier that a command works with, and the options that say which."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sar.command_line.commands import PATH
from sar.errors import ConfigError

if TYPE_CHECKING:
    from sar.classifier.predictor import Classifier

_OPTIONS = (
    click.option(
        "--classes",
        type=PATH,
        metavar="FILE",
        help="Tell the classes in this file apart, and no others (.txt, .csv, .json, "
        "classes.yaml).",
    ),
    click.option(
        "--add", multiple=True, metavar="NAME", help="Tell this class apart as well; repeatable."
    ),
    click.option(
        "--unknown",
        is_flag=True,
        help="Tell pictures that show none of the classes, by negative labels and a threshold that "
        "95 % of held-out training pictures reach.",
    ),
    click.option(
        "--calibrate",
        is_flag=True,
        help="Fit the temperature of probabilities on held-out pictures.",
    ),
    click.option(
        "--held-out",
        type=PATH,
        metavar="FOLDER|CSV",
        help="Pictures of trained classes that the training has not seen. [default: of its "
        "dataset]",
    ),
    click.option(
        "--novel",
        type=PATH,
        metavar="FILE",
        help="Negative labels for --unknown. [default: the novel names of the training]",
    ),
    click.option(
        "--clip", default="", metavar="NAME", help="Name or file of the CLIP, if it has moved."
    ),
)


@dataclass(frozen=True)
class Chosen:
    """A classifier, as the options say."""

    model: Path
    classes: Path | None
    add: tuple[str, ...]
    unknown: bool
    calibrate: bool
    held_out: Path | None
    novel: Path | None
    clip: str

    def load(self) -> Classifier:
        """The classifier, with its classes set and everything fitted; notes are printed.

        Raises:
            UsageError: options that say nothing without another one. ConfigError: there is no such
                model. And whatever `Classifier.load`, `set_classes` and `fit` raise.
        """
        if self.held_out and not (self.unknown or self.calibrate):
            raise click.UsageError(
                "--held-out names the pictures that --unknown and --calibrate are fitted on; give "
                "one of these, too"
            )
        if self.novel and not self.unknown:
            raise click.UsageError("--novel has the negative labels of --unknown; give that, too")
        from sar.classifier.fitting import fit
        from sar.classifier.labelling import names_in
        from sar.classifier.predictor import Classifier

        names, base = ([], []) if self.classes is None else names_in(self.classes)
        if self.model.exists():
            classifier = Classifier.load(self.model, clip=self.clip)
            if repeated := classifier.recipe.repeated:
                print(
                    "Note: some classes of the training have one name, by which CLIP cannot tell "
                    f"them from each other; the later ones are {', '.join(repeated)} here"
                )
        elif names:
            # As of a training: what comes on top by --add, or with the pictures, is new.
            classifier = Classifier.zero_shot(self.clip or str(self.model), names, base=base)
        else:
            raise ConfigError(
                f"there is no {self.model}; expected the output folder of a training, what sarclip "
                "export wrote, or the name of a CLIP and --classes FILE: zero-shot CLIP"
            )
        wanted = (*(names or classifier.classes), *self.add)
        if wanted != classifier.classes:
            classifier.set_classes(wanted)
        fit(classifier, self.calibrate, self.unknown, self.held_out, self.novel)
        if note := classifier.recipe.misfit:
            print(note)
        return classifier


def classifier_options(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the options of `Chosen`, and an argument `chosen` with what they say.

    The command has an argument `model` besides, which becomes part of it.
    """

    @functools.wraps(command)
    def with_chosen(**values: Any) -> None:
        chosen = Chosen(**{field.name: values.pop(field.name) for field in fields(Chosen)})
        command(chosen=chosen, **values)

    for option in reversed(_OPTIONS):
        with_chosen = option(with_chosen)
    return with_chosen
