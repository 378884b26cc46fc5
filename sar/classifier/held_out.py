"""Pictures of the trained classes that the training has not seen, and names that are none of them.

Temperature and threshold are fitted on these, never on a test set.
"""

from __future__ import annotations

import contextlib
import io
import random
from collections import defaultdict
from functools import cached_property
from pathlib import Path

from sar.classes.novel_names import load_novel
from sar.classifier.recipe import Recipe
from sar.classifier.scores import Known
from sar.errors import ConfigError, DataError
from sar.toolbox.data.datasets import DatasetBase, Datum, build_dataset

MOST_PER_CLASS = 20


class HeldOut:
    """The pictures that a recipe's training left over; its dataset is listed when first needed."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe

    def pictures(self) -> Known:
        """At most MOST_PER_CLASS of each class: validation, and training pictures that are no shot.

        Raises:
            DataError: the training's pictures are not there, or it has seen all of them.
        """
        seen = {item.impath for item in self._drawn.train_x}
        left: dict[str, list[Datum]] = defaultdict(list)
        for item in (*(self._everything.val or ()), *self._everything.train_x):
            if item.impath not in seen:
                left[item.classname].append(item)
        if not left:
            raise DataError(
                "the training has seen all of its pictures, and there is no validation; give "
                "pictures of the same classes that it has not seen: --held-out FOLDER"
            )
        choose = random.Random(0)
        return [
            (Path(item.impath), item.classname)
            for items in left.values()
            for item in choose.sample(items, min(len(items), MOST_PER_CLASS))
        ]

    def negative_names(self) -> list[str]:
        """The novel names that the training had, or would have had with SAR.

        Raises:
            DataError: there are none; what to give in their place.
        """
        cfg = self._recipe.cfg
        source = cfg.TRAINER.SAR.NOVEL
        if source == "shipped":
            with contextlib.suppress(DataError):
                source = getattr(self._everything, "novel_list", "") or source
        try:
            base = self._recipe.spoken(self._recipe.base)
            names = load_novel(source, cfg.DATASET.NAME, base, max(cfg.SEED, 0)).names
        except (DataError, ConfigError) as error:
            raise DataError(
                f"there are no negative names ({error}); give some: --novel FILE"
            ) from error
        if not names:
            raise DataError("the training had no novel names; give negative ones: --novel FILE")
        return names

    @property
    def _drawn(self) -> DatasetBase:
        """What the training saw."""
        shots = self._recipe.cfg.DATASET.NUM_SHOTS
        return self._everything if shots < 1 else _dataset(self._recipe, shots)

    @cached_property
    def _everything(self) -> DatasetBase:
        return _dataset(self._recipe, -1)


def _dataset(recipe: Recipe, shots: int) -> DatasetBase:
    if not recipe.base or not recipe.cfg.DATASET.NAME:
        raise DataError("nothing was trained, so nothing was held out: give --held-out FOLDER")
    cfg = recipe.cfg.clone()
    cfg.defrost()
    cfg.DATASET.NUM_SHOTS = shots
    state = random.getstate()
    random.seed(cfg.SEED if cfg.SEED >= 0 else None)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            return build_dataset(cfg)
    except DataError as error:
        raise DataError(
            f"the pictures of the training are not there ({error}); give pictures of the trained "
            "classes that it has not seen: --held-out FOLDER"
        ) from error
    finally:
        random.setstate(state)
