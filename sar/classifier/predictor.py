"""A classifier for pictures: a trained prompt, or zero-shot CLIP, with classes that can change."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

from sar.classes.identity import prompt_name, without
from sar.classes.templates import GENERIC
from sar.classifier import exported
from sar.classifier.card import model_card
from sar.classifier.confidence import KEEP, fit_temperature, known_share, threshold
from sar.classifier.pictures import Batch, Picture, find_pictures, read_batches
from sar.classifier.recipe import TEMPERATURE, THRESHOLD, Recipe, read_run, zero_shot
from sar.errors import ConfigError, DataError, WeightsError
from sar.storage.files import atomic_folder, write_file, writing
from sar.toolbox.clip import Backbone, keeping_clips
from sar.toolbox.data.class_names import alike, one_to_clip
from sar.toolbox.data.transforms import build_transform
from sar.toolbox.engine.origin import CLASS_SPECIFIC

Pictures: TypeAlias = "Picture | Sequence[Picture] | Tensor"


class Guess(NamedTuple):
    """A class that a picture may show, and its probability from 0 to 1."""

    name: str
    probability: float


UNKNOWN = "unknown"
"""The name of a guess that a picture shows none of the classes."""


class Classifier:
    """Labels pictures. `load` and `zero_shot` make one.

    Logits are bit for bit those of `sarclip train --eval-only` on the same batches.
    """

    def __init__(
        self, recipe: Recipe, trainer: Any = None, clips: dict[str, Backbone] | None = None
    ) -> None:
        """`trainer`: what `recipe.build()` gives, if it is there already, made from `clips`."""
        _check_names(recipe.classes)
        self.recipe = recipe
        self.transform = build_transform(recipe.cfg, is_train=False)
        self._clips = {} if clips is None else clips
        """The CLIP as it was read, for when classes change."""
        self._set_trainer(trainer or self._build(recipe))

    @classmethod
    def load(
        cls, folder: str | os.PathLike[str], epoch: int | None = None, clip: str = ""
    ) -> Classifier:
        """The classifier in the output folder of a training, or in a folder of `export`.

        Args:
            epoch: of a training's checkpoint; by default the one that the training itself tested.
            clip: name or file of the CLIP that it was trained on, if that has moved.

        Raises:
            WeightsError: no trained prompt there, a damaged one, or another CLIP.
            DataError: the description of an exported one is damaged.
            ConfigError: the method is not known here (a method of one's own: import its file).
        """
        place, clips = Path(folder), dict[str, Backbone]()
        with keeping_clips(clips):
            if any((place / name).exists() for name in (exported.CONFIG, exported.WEIGHTS)):
                return cls(*exported.read(place, clip), clips)
            return cls(*read_run(place, epoch, clip), clips)

    @classmethod
    def from_pretrained(cls, name: str, clip: str = "", **options: Any) -> Classifier:
        """The classifier that `push_to_hub` wrote as `name`; see `sar.classifier.sharing.pull`."""
        from sar.classifier.sharing import pull

        found: Classifier = pull(cls.load, name, clip, **options)
        return found

    def push_to_hub(self, name: str, **options: Any) -> str:
        """Export it to the Hugging Face hub; see `sar.classifier.sharing.push`."""
        from sar.classifier.sharing import push

        return push(self, name, **options)

    @classmethod
    def zero_shot(
        cls, clip: str, names: Sequence[str], template: str = GENERIC, base: Sequence[str] = ()
    ) -> Classifier:
        """CLIP without training, by a hand-crafted prompt.

        Args:
            clip: a name or file that ``MODEL.BACKBONE.NAME`` takes, such as "ViT-B/16".
            template: the prompt, with one {} for the class name.
            base: those of the names that count as `base_classes`.

        Raises:
            ConfigError: an unknown CLIP, a class named twice, or a template without {}.
        """
        return cls(zero_shot(clip, names, template, base))

    def untrained(self) -> Classifier:
        """Zero-shot CLIP for the same classes, by the hand-crafted prompt; no file is read."""
        own = self.recipe
        by_hand = zero_shot(own.cfg.MODEL.BACKBONE.NAME, own.classes, own.template)
        return Classifier(replace(by_hand, repeated=own.repeated), clips=self._clips)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names that it tells apart, in the order of the logits."""
        return self.recipe.classes

    @property
    def base_classes(self) -> tuple[str, ...]:
        """Those of `classes` that it was trained on, or that `zero_shot` was told."""
        return tuple(name for name in self.classes if name in self.recipe.base)

    @property
    def new_classes(self) -> tuple[str, ...]:
        """Those of `classes` that are no base classes."""
        return tuple(name for name in self.classes if name not in self.recipe.base)

    @property
    def method(self) -> str:
        """The trainer's name, such as SAR_CoOp."""
        return str(self.recipe.cfg.TRAINER.NAME)

    @property
    def device(self) -> torch.device:
        """Where it computes: on the GPU if there is one, and the training did not rule it out."""
        device: torch.device = self._trainer.device
        return device

    @property
    def prompts_images(self) -> bool:
        """Whether its image features are not those of the CLIP alone (MaPLe, PromptSRC)."""
        return not getattr(self._trainer, "text_only", True)

    @property
    def logit_scale(self) -> float:
        """By which cosines are multiplied."""
        return float(self._trainer.model.logit_scale.detach().exp())

    @property
    def trainer(self) -> Any:
        """What computes the logits, in evaluation mode; the first ones encode the class texts."""
        return self._trainer

    @property
    def batch_size(self) -> int:
        """Pictures at a time; by default as in the tests of the run."""
        return int(self.recipe.cfg.DATALOADER.TEST.BATCH_SIZE)

    def predict(self, pictures: Pictures, top: int = 5) -> list[list[Guess]]:
        """For each picture its `top` likeliest classes, the likeliest first.

        Args:
            pictures: see `logits`.
        """
        return self.guesses(self._output(pictures), top)

    def guesses(self, output: Tensor, top: int = 5) -> list[list[Guess]]:
        """The `top` likeliest classes by an output of `output_of_batch`, or by logits (N, C).

        If a picture seems to show none of them, its first guess is `UNKNOWN`.
        """
        most = min(top, len(self.classes))
        # Stable: of classes that are one to CLIP the first is named first.
        best = self.probabilities(output).sort(dim=1, descending=True, stable=True)
        values, indices = (found[:, :most].tolist() for found in best)
        guesses = [
            [Guess(self.classes[i], value) for i, value in zip(*row, strict=True)]
            for row in zip(indices, values, strict=True)
        ]
        if output.shape[1] > len(self.classes):
            known = known_share(output, len(self.classes)).tolist()
            guesses = [
                [Guess(UNKNOWN, 1 - share), *found][:most] if self.rejects(share) else found
                for share, found in zip(known, guesses, strict=True)
            ]
        return guesses

    def probabilities(self, output: Tensor) -> Tensor:
        """(N, C) fp32 of an output or logits, at the temperature that was fitted, if one was."""
        logits = output[:, : len(self.classes)].float()
        return (logits / self.recipe.temperature).softmax(dim=1)

    def rejects(self, share: float) -> bool:
        """Whether a picture with this share of probability for the classes shows none of them."""
        return share < self.recipe.threshold

    def logits(self, pictures: Pictures, batch_size: int = 0) -> Tensor:
        """Logits (N, C) on the CPU, in the precision of the training.

        Args:
            pictures: a path, a folder (all pictures below it), an opened PIL image, a sequence of
                these, or a batch (N, 3, H, W) that has passed through `transform`.
            batch_size: pictures at a time; 0: `batch_size`.

        Raises:
            DataError: a picture is missing or cannot be read.
        """
        return self._output(pictures, batch_size)[:, : len(self.classes)].contiguous()

    def _output(self, pictures: Pictures, batch_size: int = 0) -> Tensor:
        """Logits (N, C + M), as `output_of_batch`; arguments and errors of `logits`."""
        found = [self.output_of_batch(images) for images in self.batches(pictures, batch_size)]
        return torch.cat(found) if found else torch.empty(0, len(self.recipe.encoded))

    def read(self, pictures: Sequence[Any]) -> Iterator[Batch]:
        """The pictures of `find_pictures`, in batches ready for `output_of_batch`."""
        return read_batches(pictures, self.transform, self.batch_size)

    @torch.no_grad()
    def output_of_batch(self, images: Tensor) -> Tensor:
        """Transformed images (B, 3, H, W) -> logits (B, C + M) on the CPU.

        M is the number of negative labels, 0 if there are none.
        """
        output: Tensor = self._trainer.model_inference(images.to(self.device))
        return output.cpu()

    def class_features(self, pictures: Pictures | None = None) -> Tensor:
        """Normalized text features of the classes, fp32 on the CPU: (C, D).

        A prompt that depends on the picture (CoCoOp) has them for `pictures`: (N, C, D).

        Raises:
            ConfigError: the prompt depends on the picture, and there is none.
        """
        return self._text_features(pictures)[..., : len(self.classes), :]

    def negative_features(self) -> Tensor:
        """The same for M negative labels: (M, D). Raises ConfigError as `class_features` does."""
        return self._text_features()[..., len(self.classes) :, :]

    @torch.no_grad()
    def _text_features(self, pictures: Pictures | None = None) -> Tensor:
        height, width = self.recipe.cfg.INPUT.SIZE
        blank = torch.zeros(1, 3, height, width)
        given = [blank] if pictures is None else self.batches(pictures)
        features = torch.cat([self._texts_of(images) for images in given])
        if features.dim() == 3 and pictures is None:
            raise ConfigError(
                f"the class features of {self.method} depend on the picture; give class_features "
                "the pictures that they are meant for"
            )
        return features

    def _texts_of(self, images: Tensor) -> Tensor:
        """Normalized text features (C, D) of the classes, or (B, C, D) if they differ by image."""
        model = self._trainer.model
        if hasattr(model, "text_features"):
            features: Tensor = model.text_features
            return features.float().cpu()
        learned: Tensor = model.class_features(images.to(self.device))
        return learned.cpu()

    def add_classes(self, names: Sequence[str]) -> None:
        """Tell these classes apart as well, by their names alone; nothing is trained.

        Raises:
            ConfigError: a name is there already or too long, or each class has a context of its
                own (CSC).
        """
        self.set_classes([*self.classes, *names])

    def remove_classes(self, names: Sequence[str]) -> None:
        """Leave these classes out. Raises ConfigError for one that is not there."""
        known = {prompt_name(name): name for name in self.classes}
        if unknown := [name for name in names if prompt_name(name) not in known]:
            raise ConfigError(
                f"there is no class {unknown[0]!r}; the classes are {', '.join(self.classes)}"
            )
        left_out = {known[prompt_name(name)] for name in names}
        self.set_classes([name for name in self.classes if name not in left_out])

    def set_classes(self, names: Sequence[str]) -> None:
        """Tell exactly these classes apart, in this order. Errors as of `add_classes`."""
        _check_names(names)
        known = {prompt_name(name): name for name in (*self.recipe.base, *self.classes)}
        _check_distinct(names, [name for name in names if prompt_name(name) in known])
        self._change([known.get(prompt_name(name), name) for name in names], self.recipe.negatives)

    def calibrate(self, pictures: Pictures, labels: Tensor) -> float:
        """Fit the temperature of the probabilities on pictures that the training has not seen.

        Args:
            labels: (N,) their classes, as numbers in `classes`.

        Returns:
            The temperature; 1 leaves probabilities as they are, more makes them less sure.
        """
        temperature = fit_temperature(self.logits(pictures), labels)
        self.recipe = replace(
            self.recipe, temperature=temperature, fitted_with=self._fitted_with(TEMPERATURE)
        )
        return temperature

    def know_unknown(
        self, pictures: Pictures, negatives: Sequence[str], keep: float = KEEP
    ) -> float:
        """From now on, recognize pictures that show none of the classes (`UNKNOWN`).

        Args:
            pictures: of the classes, which the training has not seen.
            negatives: names that stand for everything else; those of classes do not count.
            keep: share of the pictures that are to be told as known.

        Returns:
            The threshold: the least share of probability for the classes beside the negatives.

        Raises:
            ConfigError: no negatives, or each class has a context of its own (CSC).
        """
        if not (names := without(negatives, self.classes)):
            raise ConfigError("there are no negative labels; give names of other classes")
        self._change(self.classes, names)
        least = threshold(known_share(self._output(pictures), len(self.classes)), keep)
        self.recipe = replace(
            self.recipe, threshold=least, fitted_with=self._fitted_with(THRESHOLD)
        )
        return least

    def _fitted_with(self, what: str) -> dict[str, tuple[str, ...]]:
        return {**self.recipe.fitted_with, what: self.classes}

    def _change(self, classes: Sequence[str], negatives: Sequence[str]) -> None:
        specific = bool(self._trainer.weights_form(self.recipe.cfg).get(CLASS_SPECIFIC))
        recipe = self.recipe.with_classes(classes, specific, without(negatives, classes))
        self._set_trainer(self._build(recipe))
        self.recipe = recipe

    def _build(self, recipe: Recipe) -> Any:
        with keeping_clips(self._clips):
            return recipe.build()

    def export(self, folder: str | os.PathLike[str]) -> None:
        """Write it, with its classes as they are now, into a new folder that `load` reads.

        Before the folder appears, what was written is read back, and must give the same logits.

        Raises:
            ConfigError: the folder is there already. StorageError: it cannot be written.
            WeightsError: what was read back is not the same.
        """
        place = Path(folder)
        if place.exists():
            raise ConfigError(f"{place} is there already; choose another folder to export to")
        noise = torch.randn(2, 3, *self.recipe.cfg.INPUT.SIZE, generator=torch.Generator())
        texts = self._texts_of(noise)
        features = None if texts.dim() == 3 else texts[: len(self.classes)]
        with writing(place), atomic_folder(place) as building:
            exported.write(building, self.recipe, self._trainer, features)
            write_file(building / exported.CARD, model_card(self.recipe))
            with keeping_clips(self._clips):
                clip = self.recipe.cfg.MODEL.BACKBONE.NAME
                again = Classifier(*exported.read(building, clip), self._clips)
            if not torch.equal(again.logits(noise), self.logits(noise)):
                raise WeightsError(
                    f"what was exported gives other logits than {self!r}; nothing was written"
                )

    def _set_trainer(self, trainer: Any) -> None:
        self._trainer = trainer
        self._texts = ExitStack()
        if hasattr(trainer.model, "text_encoded_once"):  # with the next picture, and not again
            self._texts.enter_context(trainer.model.text_encoded_once())

    def batches(self, pictures: Pictures, batch_size: int = 0) -> Iterator[Tensor]:
        """The pictures of `logits`, (B, 3, H, W), transformed; arguments and errors as there."""
        size = batch_size or self.batch_size
        if isinstance(pictures, Tensor):
            wanted = (3, *self.recipe.cfg.INPUT.SIZE)
            if len(pictures) and pictures.shape[1:] != wanted:
                raise DataError(
                    f"the batch of pictures is {tuple(pictures.shape)}, expected (N, "
                    f"{', '.join(map(str, wanted))}), as `transform` gives it"
                )
            yield from pictures.split(size) if len(pictures) else ()
            return
        for batch in read_batches(find_pictures(pictures), self.transform, size):
            if batch.problems:
                raise batch.problems[0]
            yield batch.images

    def __repr__(self) -> str:
        where = f"{self.method} on {self.recipe.cfg.MODEL.BACKBONE.NAME}"
        return f"<Classifier: {where}, {len(self.classes)} classes>"


def _check_names(names: Sequence[str]) -> None:
    if isinstance(names, str):
        raise ConfigError(f"the classes are {names!r}; expected a list of names")
    plain = [prompt_name(name) for name in names]
    if not plain or not all(plain):
        raise ConfigError("a classifier needs at least one class, and names that say something")
    for number, name in enumerate(plain):
        if name in plain[:number]:
            raise ConfigError(f"the class {name!r} is there twice; name each class once")


def _check_distinct(names: Sequence[str], there: Sequence[str]) -> None:
    """ConfigError if CLIP reads a name that is not `there` yet as it reads another one."""
    before, now = (sum(map(len, alike(dict(enumerate(some))))) for some in (there, names))
    if now > before:
        raise ConfigError(f"{one_to_clip(dict(enumerate(names)))}; leave one of them out")
