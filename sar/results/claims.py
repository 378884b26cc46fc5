"""What a log says of itself, held against the folder that it lies in.

A result counts for the model that its folder names. A log that names another trainer, dataset,
seed, number of shots, backbone or model is that of another run, however it came there.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sar.results.folders import Place, RunKey, is_untrained, locate, model_of, split_averaged
from sar.results.starts import Start, number, path_in
from sar.settings.dataset_records import by_name

if TYPE_CHECKING:
    from sar.results.log import Run

_TESTS = ("test_base", "test_new", "evaluation")
_BACKBONE = re.compile(r"rn\d+(?:x\d+)?|vit_[a-z]+\d+")
_SHARE = re.compile(r"'TEST\.LEARNED_SHARE', '([^']+)'")
_SHOWN = 60  # characters of what a log says


def contradiction(start: Start, place: Place, trainings: Mapping[RunKey, Run]) -> str:
    """Why a start is not the run that its folder names; empty if nothing speaks against it.

    Args:
        trainings: those that a test at this place may belong to, as far as they are known.
    """
    for what, said, expected in _names(start, place):
        if said and said != expected:
            return f"the log is that of {what} {said[:_SHOWN]}, its folder that of {expected}"
    tests = place.part in _TESTS or model_of(place.key) != place.key
    if tests and not is_untrained(place.key.trainer):
        return _model(start, place, trainings)
    return ""


def _names(start: Start, place: Place) -> Iterator[tuple[str, str, str]]:
    """What is compared, what the log says (if it does), and what the folder says."""
    said, key = start.said, place.key
    trainer, share = split_averaged(key.trainer)
    yield "trainer", said.get("Loading trainer") or said.get("trainer", ""), trainer
    if "opts" in said:
        found = _SHARE.search(said["opts"])
        yield "share of learned text features", found[1] if found else "1", share or "1"
    if not _same_dataset(start, key.dataset):
        name = said.get("TITLE") or said.get("Loading dataset") or _stem(start)
        yield "dataset", name, key.dataset
    if not is_untrained(key.trainer):
        loose = ("-1",) if place.part in _TESTS else ()  # tests draw nothing
        # Upstream, `--seed 0` leaves SEED at -1.
        seeds = [value for name in ("SEED", "seed") if (value := said.get(name, ""))]
        seed = next((value for value in seeds if number(value) is not None), "".join(seeds[:1]))
        yield "seed", "" if seed in loose else seed, str(key.seed)
        shots = said.get("NUM_SHOTS", "")
        yield "shots", "" if shots in loose else shots, str(key.shots)
    named = _BACKBONE.match(key.cfg.rpartition("/")[2].lower())
    loaded = [_BACKBONE.match(re.sub(r"\W", "_", name.lower())) for name in start.backbones]
    if named and all(loaded) and named[0] not in [match and match[0] for match in loaded]:
        yield "backbone", ", ".join(start.backbones), named[0]


def _same_dataset(start: Start, dataset: str) -> bool:
    """Whether nothing that the log says speaks against a folder's dataset."""
    if title := start.said.get("TITLE"):  # of one's own pictures
        return title == dataset
    name, stem = start.said.get("Loading dataset", ""), _stem(start)
    if "'DATASET.NAME'" in start.said.get("opts", ""):
        stem = ""
    if (not name and not stem) or _letters(dataset) in (_letters(name), _letters(stem)):
        return True
    record = by_name(name) if name else None
    return record is not None and record.config == dataset


def _stem(start: Start) -> str:
    return Path(start.said.get("dataset_config_file", "")).stem


def _letters(text: str) -> str:
    return re.sub(r"[\W_]", "", text.lower())


def _model(start: Start, place: Place, trainings: Mapping[RunKey, Run]) -> str:
    """Why a test is not one of the model that its folder names."""
    model, key = start.model_directory, place.key
    none = start.no_model or ("model_dir" in start.said and not model)
    if none and start.loaded_epoch is None:
        return "no model was loaded: an untrained prompt was tested"
    loaded = locate(model, said={"trainer": key.trainer}) if model else None
    elsewhere = place.part == "evaluation"
    if loaded:
        if loaded.key.trainer != split_averaged(key.trainer)[0]:
            return f"the model that was tested is that of trainer {loaded.key.trainer} ({model})"
        for what in ("cfg", "shots", "seed", *(["dataset"] * (not elsewhere))):
            if (found := getattr(loaded.key, what)) != getattr(key, what):
                return f"the model that was tested is that of {what} {found} ({model})"
        if key.variant and loaded.output.name != key.variant:
            return f"the model that was tested is that of {loaded.output.name} ({model})"
    source = loaded.key.dataset if loaded and elsewhere else key.dataset
    training = trainings.get(replace(model_of(key), dataset=source))
    if training is None:
        return ""
    if not is_model_of(start.said, place.directory, training.said, training.directory):
        return f"the model that was tested is {model}, not that of {training.directory}"
    epoch, epochs = start.loaded_epoch, training.epochs
    best = start.said.get("load_epoch") == "None"  # of any epoch
    if epoch and epochs and epoch != epochs and not best:
        return f"tested the checkpoint of epoch {epoch}, but the training had {epochs} epochs"
    return ""


def is_model_of(
    test: Mapping[str, str], folder: Path, training: Mapping[str, str], trained: Path
) -> bool:
    """Whether a test tested what a training made.

    Both may have been moved since: what counts is where the model was, as seen from the test, or
    that the training says it wrote there.

    Args:
        test, training: what their logs say. folder, trained: where these lie now.
    """
    model, output = path_in(test, "model_dir"), path_in(test, "output_dir")
    if model is None:
        return True
    written = path_in(training, "output_dir")
    if written and os.path.normpath(written) == os.path.normpath(model):
        return True
    if output is None or output.is_absolute() != model.is_absolute():
        return locate(model) is not None
    now = os.path.normpath(folder / os.path.relpath(model, output))
    return now == str(trained) or os.path.realpath(now) == os.path.realpath(trained)
