"""Hand-crafted prompt templates: one for each dataset, a generic one, ensembles, own files.

The datasets' own are in their records (`sar.settings.dataset_records`), as published with CoOp
(Zhou et al., IJCV 2022).
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sar.classes.descriptions import SHIPPED
from sar.errors import ConfigError, DataError
from sar.settings.dataset_records import by_name
from sar.storage.texts import read_text

GENERIC = "a photo of a {}."
IMAGENET = "imagenet"
DESCRIPTIONS = "descriptions"
SOURCES = (
    f'text with one {{}} for the class name, "{IMAGENET}", an existing .txt or .json file of such '
    f'texts, "{DESCRIPTIONS}", "{DESCRIPTIONS}:FILE", or ""'
)


def template_for(dataset_name: str) -> str:
    """The hand-crafted template of a dataset, with one ``{}`` for the class name.

    `dataset_name` is the registered name (``cfg.DATASET.NAME``, e.g. ``"OxfordPets"``); any name
    that has no template of its own gets ``"a photo of a {}."``.
    """
    record = by_name(dataset_name)
    return record.template if record and record.template else GENERIC


def imagenet_templates() -> list[str]:
    """The templates of PromptSRC's text teacher, each with one ``{}`` for the class name."""
    text = Path(__file__).with_name("imagenet_templates.txt").read_text(encoding="utf-8")
    return _lines(text)


def templates_from(source: str, dataset_name: str = "") -> list[str]:
    """The templates that `source` names, at least one; several are an ensemble.

    Args:
        source: ``""`` (the dataset's own), a template (text with one ``{}`` for the class name),
            ``"imagenet"`` (the ensemble of `imagenet_templates`), or a file with templates:
            ``.txt`` (one a line, ``#`` starts a comment line) or ``.json`` (a list).
        dataset_name: the registered name of the dataset.

    Raises:
        ConfigError: `source` is none of these.
        DataError: the file cannot be read, has no templates, or one that is none.
    """
    if not source:
        return [template_for(dataset_name)]
    if source == IMAGENET:
        return imagenet_templates()
    if _is_template(source):
        return [source]
    readers: dict[str, Callable[[str], Any]] = {".txt": _lines, ".json": json.loads}
    path = Path(source)
    if path.suffix.lower() not in readers or not path.is_file():
        raise ConfigError(f"TRAINER.SAR.TEMPLATE is {source!r}; expected {SOURCES}.")
    try:
        templates: list[str] = readers[path.suffix.lower()](
            read_text(path, "expected a UTF-8 text file")
        )
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"The template file {path} cannot be read: {error}. Expected a UTF-8 text file with "
            "one template a line, or a JSON list of templates."
        ) from error
    if not isinstance(templates, list) or not templates:
        raise DataError(f"The template file {path} has no templates; expected at least one.")
    for text in templates:
        if not _is_template(text):
            raise DataError(
                f"The template file {path} has {text!r}; expected texts with one {{}} each for "
                "the class name."
            )
    return templates


def descriptions_in(source: str) -> str | None:
    """Where descriptions should come from, if a source asks for them instead of templates.

    As in `sar.classes.descriptions`: ``"shipped"`` for ``"descriptions"``, FILE for
    ``"descriptions:FILE"``.
    """
    kind, _, file = source.partition(":")
    return (file or SHIPPED) if kind == DESCRIPTIONS else None


def _is_template(text: object) -> bool:
    return (
        isinstance(text, str)
        and text.count("{}") == 1
        and not set("{}") & set(text.replace("{}", ""))
    )


def _lines(text: str) -> list[str]:
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]
