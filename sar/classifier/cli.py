"""`sarclip predict`, `evaluate`, `export` and `app`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sar.classifier.chosen import Chosen, classifier_options
from sar.command_line.commands import PATH, POSITIVE
from sar.errors import ConfigError
from sar.settings.extensions import extensible
from sar.storage.files import write_file

_model = click.argument("model", type=PATH)
_top = click.option(
    "--top", type=POSITIVE, default=5, show_default=True, help="Classes per picture."
)


@click.command()
@_model
@click.argument("pictures", type=PATH, nargs=-1, required=True, metavar="PICTURE|FOLDER...")
@_top
@click.option("--csv", "table", type=PATH, metavar="FILE", help="Write a table here.")
@click.option("--json", "records", type=PATH, metavar="FILE", help="Write records here.")
@click.option(
    "--sort-into", type=PATH, metavar="DIR", help="Copy pictures into a folder for each class."
)
@classifier_options
@extensible
def predict(
    chosen: Chosen,
    pictures: tuple[Path, ...],
    top: int,
    table: Path | None,
    records: Path | None,
    sort_into: Path | None,
) -> None:
    """Label pictures with a trained prompt.

    MODEL is the output folder of a training, what `sarclip export` wrote, or the name of a CLIP,
    which is used zero-shot for --classes. Classes are added by their names, without training. Exit
    status 1: some pictures could not be read; they are listed, and the others are labelled.
    """
    from sar.classifier.labelling import label

    label(chosen.load(), pictures, top, table, records, sort_into)


@click.command()
@_model
@click.argument("pictures", type=PATH, metavar="FOLDER|CSV")
@click.option(
    "--output",
    type=PATH,
    default=Path("evaluation"),
    show_default=True,
    metavar="DIR",
    help="For scores.json, classes.csv, confusion.png and mistakes.html.",
)
@classifier_options
@extensible
def evaluate(chosen: Chosen, pictures: Path, output: Path) -> None:
    """Measure a trained prompt on pictures whose classes are known.

    FOLDER has a folder of pictures for each class; CSV is a table path,label. MODEL is as in
    `sarclip predict`. Classes that it was not trained on, or zero-shot those beside --classes, are
    new; accuracies are those of base classes, of new ones, and of all in one label space. With
    --unknown, classes that it does not have are what it should not know. The same command again
    replaces what it wrote; another one is refused in its folder.
    """
    from sar.classifier.measuring import evaluate, own_output

    names = ("classes", "add", "unknown", "calibrate", "held_out", "novel")
    given = {f"--{name.replace('_', '-')}": getattr(chosen, name) for name in names}
    given |= {"model": chosen.model, "pictures": pictures}
    asked = {what: _as_written(value) for what, value in given.items()}
    with own_output(output, asked):
        evaluate(chosen.load(), pictures, output, chosen.unknown, chosen.calibrate, asked)


def _as_written(value: Any) -> Any:
    """What an option was given, the same wherever the command is started from."""
    if isinstance(value, Path):
        return str(value.absolute() if value.exists() else value)
    return (list(value) if isinstance(value, tuple) else value) or None


@click.command()
@click.argument("model", type=PATH, metavar="RUN")
@click.option(
    "--to",
    "place",
    type=PATH,
    required=True,
    metavar="FOLDER|FILE",
    help="A new folder to write; a file for --onnx and --format open_clip.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["folder", "onnx", "open_clip"]),
    default="folder",
    show_default=True,
    help="What to write: a folder that stands alone, image encoder and classes as ONNX, or the "
    "zero-shot weight matrix of open_clip and transformers (safetensors).",
)
@click.option("--onnx", is_flag=True, help="The same as --format onnx.")
@click.option(
    "--pictures",
    type=PATH,
    multiple=True,
    metavar="PICTURE|FOLDER",
    help="On which the ONNX file must give the same logits; repeatable.",
)
@classifier_options
@extensible
def export(chosen: Chosen, place: Path, form: str, onnx: bool, pictures: tuple[Path, ...]) -> None:
    """Write a trained prompt into a folder that stands alone, or a file for other programs.

    RUN is the output folder of a training. FOLDER gets the parameters (safetensors), a description
    (JSON) and a model card; `sarclip predict` and `Classifier.load` read it.
    """
    form = "onnx" if onnx else form
    if form == "onnx" and not pictures:
        raise click.UsageError("--onnx wants --pictures, on which the file is checked")
    if form == "onnx":
        from sar.classifier.onnx_file import onnx_bytes
    if form == "open_clip":
        from sar.classifier.zero_shot_weights import zero_shot_weights
    if place.exists():
        raise ConfigError(f"{place} is there already; choose another place to export to")
    classifier = chosen.load()
    if form == "folder":
        classifier.export(place)
    elif form == "open_clip":
        write_file(place, zero_shot_weights(classifier))
    else:
        content, parity = onnx_bytes(classifier, pictures)
        write_file(place, content)
        print(parity)
    also = f" and their {found}" if (found := classifier.recipe.fitted) else ""
    print(f"Exported {classifier.method} with {len(classifier.classes)} classes{also} to {place}")


@click.command()
@_model
@_top
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen at; 0.0.0.0 lets everybody in who reaches this machine.",
)
@click.option("--port", type=click.IntRange(0, 65535), default=7860, show_default=True)
@classifier_options
@extensible
def app(chosen: Chosen, top: int, host: str, port: int) -> None:
    """Open a page that labels pictures with a trained prompt, and lets its classes be edited.

    MODEL is the output folder of a training, or what `sarclip export` wrote. The page is served by
    this machine until Ctrl-C; it loads nothing from elsewhere, and sends nothing there.
    """
    from sar.classifier.page import serve

    serve(chosen.load(), host, port, top)
