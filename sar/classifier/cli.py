"""`sarclip predict`, `evaluate`, `export` and `app`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sar.command_line.commands import PATH, POSITIVE
from sar.errors import ConfigError
from sar.settings.extensions import extensible
from sar.storage.files import write_file

if TYPE_CHECKING:
    from sar.classifier.predictor import Classifier

_model = click.argument("model", type=PATH)
_clip = click.option(
    "--clip", default="", metavar="NAME", help="Name or file of the CLIP, if it has moved."
)
_classes = click.option(
    "--classes",
    type=PATH,
    metavar="FILE",
    help="Tell the classes in this file apart, and no others (.txt, .csv, .json, classes.yaml).",
)
_add = click.option(
    "--add", multiple=True, metavar="NAME", help="Tell this class apart as well; repeatable."
)


_FITTED = (
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
)


def _fitted(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the options of `fit`."""
    for option in reversed(_FITTED):
        command = option(command)
    return command


@click.command()
@_model
@click.argument("pictures", type=PATH, nargs=-1, required=True, metavar="PICTURE|FOLDER...")
@_classes
@_add
@click.option("--top", type=POSITIVE, default=5, show_default=True, help="Classes per picture.")
@click.option("--csv", "table", type=PATH, metavar="FILE", help="Write a table here.")
@click.option("--json", "records", type=PATH, metavar="FILE", help="Write records here.")
@click.option(
    "--sort-into", type=PATH, metavar="DIR", help="Copy pictures into a folder for each class."
)
@_fitted
@_clip
@extensible
def predict(
    model: Path,
    pictures: tuple[Path, ...],
    classes: Path | None,
    add: tuple[str, ...],
    top: int,
    table: Path | None,
    records: Path | None,
    sort_into: Path | None,
    clip: str,
    **fitted: Any,
) -> None:
    """Label pictures with a trained prompt.

    MODEL is the output folder of a training, what `sarclip export` wrote, or the name of a CLIP,
    which is used zero-shot for --classes. Classes are added by their names, without training. Exit
    status 1: some pictures could not be read; they are listed, and the others are labelled.
    """
    from sar.classifier.labelling import label

    classifier = _load(model, clip, classes, add, **fitted)
    label(classifier, pictures, top, table, records, sort_into)


@click.command()
@_model
@click.argument("pictures", type=PATH, metavar="FOLDER|CSV")
@_classes
@_add
@click.option(
    "--output",
    type=PATH,
    default=Path("evaluation"),
    show_default=True,
    metavar="DIR",
    help="For scores.json, classes.csv, confusion.png and mistakes.html.",
)
@_fitted
@_clip
@extensible
def evaluate(
    model: Path,
    pictures: Path,
    classes: Path | None,
    add: tuple[str, ...],
    output: Path,
    clip: str,
    **fitted: Any,
) -> None:
    """Measure a trained prompt on pictures whose classes are known.

    FOLDER has a folder of pictures for each class; CSV is a table path,label. MODEL is as in
    `sarclip predict`. Classes that it was not trained on, or zero-shot those beside --classes, are
    new; accuracies are those of base classes, of new ones, and of all in one label space. With
    --unknown, classes that it does not have are what it should not know. The same command again
    replaces what it wrote; another one is refused in its folder.
    """
    from sar.classifier.measuring import evaluate, own_output

    options = {"classes": classes, "add": add, **fitted}
    given = {f"--{name.replace('_', '-')}": value for name, value in options.items()}
    given |= {"model": model, "pictures": pictures}
    asked = {what: _as_written(value) for what, value in given.items()}
    with own_output(output, asked):
        classifier = _load(model, clip, classes, add, **fitted)
        evaluate(classifier, pictures, output, fitted["unknown"], fitted["calibrate"], asked)


def _as_written(value: Any) -> Any:
    """What an option was given, the same wherever the command is started from."""
    if isinstance(value, Path):
        return str(value.absolute() if value.exists() else value)
    return (list(value) if isinstance(value, tuple) else value) or None


@click.command()
@click.argument("run", type=PATH)
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
@_classes
@_add
@_fitted
@_clip
@extensible
def export(
    run: Path,
    place: Path,
    form: str,
    onnx: bool,
    pictures: tuple[Path, ...],
    classes: Path | None,
    add: tuple[str, ...],
    clip: str,
    **fitted: Any,
) -> None:
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
    classifier = _load(run, clip, classes, add, **fitted)
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
@_classes
@_add
@click.option("--top", type=POSITIVE, default=5, show_default=True, help="Classes per picture.")
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen at; 0.0.0.0 lets everybody in who reaches this machine.",
)
@click.option("--port", type=click.IntRange(0, 65535), default=7860, show_default=True)
@_fitted
@_clip
@extensible
def app(
    model: Path,
    classes: Path | None,
    add: tuple[str, ...],
    top: int,
    host: str,
    port: int,
    clip: str,
    **fitted: Any,
) -> None:
    """Open a page that labels pictures with a trained prompt, and lets its classes be edited.

    MODEL is the output folder of a training, or what `sarclip export` wrote. The page is served by
    this machine until Ctrl-C; it loads nothing from elsewhere, and sends nothing there.
    """
    from sar.classifier.page import serve

    serve(_load(model, clip, classes, add, **fitted), host, port, top)


def _load(
    model: Path,
    clip: str,
    classes: Path | None,
    add: Sequence[str],
    unknown: bool,
    calibrate: bool,
    held_out: Path | None,
    novel: Path | None,
) -> Classifier:
    if held_out and not (unknown or calibrate):
        raise click.UsageError(
            "--held-out names the pictures that --unknown and --calibrate are fitted on; give one "
            "of these, too"
        )
    if novel and not unknown:
        raise click.UsageError("--novel has the negative labels of --unknown; give that, too")
    from sar.classifier.fitting import fit
    from sar.classifier.labelling import names_in
    from sar.classifier.predictor import Classifier

    names, base = ([], []) if classes is None else names_in(classes)
    if model.exists():
        classifier = Classifier.load(model, clip=clip)
        if repeated := classifier.recipe.repeated:
            print(
                "Note: some classes of the training have one name, by which CLIP cannot tell them "
                f"from each other; the later ones are {', '.join(repeated)} here"
            )
    elif names:
        # As of a training: what comes on top by --add, or with the pictures, is new.
        classifier = Classifier.zero_shot(clip or str(model), names, base=base)
    else:
        raise ConfigError(
            f"there is no {model}; expected the output folder of a training, what sarclip export "
            "wrote, or the name of a CLIP and --classes FILE: zero-shot CLIP"
        )
    wanted = (*(names or classifier.classes), *add)
    if wanted != classifier.classes:
        classifier.set_classes(wanted)
    fit(classifier, calibrate, unknown, held_out, novel)
    if note := classifier.recipe.misfit:
        print(note)
    return classifier
