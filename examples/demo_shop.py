"""The pictures of a company that does not exist, from a demo dataset.

    python examples/demo_shop.py DemoFood FOLDER

FOLDER gets what such a company has today, and what it will have when a new line of products comes:

    today/{train,val,test}/<class>/    the catalogue: the first half of the dataset's classes
    today/classes.yaml                 its names, and those of related things for SAR (novel)
    tomorrow/<class>/                  test pictures of the catalogue and of the new line
    tomorrow.yaml                      the names of both: all that is known of the new line
"""

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from sar.classes.names import split_base_new
from sar.classes.novel_names import novel_names
from sar.errors import ConfigError
from sar.storage.files import atomic_folder, user_folder
from sar.toolbox.data.datasets import demo

FOR_VALIDATION = 3
"""Pictures of a class that are not trained on: temperature and threshold are fitted on them."""


def write_shop(dataset: str, folder: Path, every: int = 1) -> None:
    """Write it into a new folder, which appears whole or not at all.

    Args:
        dataset: one of `demo.DATASETS`.
        every: only each so many-th class, for a smaller shop.

    Raises:
        ConfigError: another dataset.
    """
    if dataset not in demo.DATASETS:
        raise ConfigError(f"{dataset} is none of {', '.join(demo.DATASETS)}")
    names = demo.class_names(dataset)[::every]
    old, new = split_base_new(names)
    rendered = demo.demo_folder(dataset, user_folder() / "data") / "images"
    pool, test = (demo.render(dataset, part, rendered) for part in ("pool", "test"))
    with atomic_folder(folder) as shop:
        places = zip(_folders(pool)[::every], _folders(test)[::every], names, strict=True)
        for drawn, shown, name in places:
            shutil.copytree(shown, shop / "tomorrow" / name)
            if name in old:
                shutil.copytree(shown, shop / "today" / "test" / name)
                pictures = sorted(drawn.iterdir())
                _copy(pictures[:FOR_VALIDATION], shop / "today" / "val" / name)
                _copy(pictures[FOR_VALIDATION:], shop / "today" / "train" / name)
        today = {"base": old, "novel": novel_names("shipped", dataset, old)}
        (shop / "today" / "classes.yaml").write_text(yaml.safe_dump(today), encoding="utf-8")
        both = {"base": old, "new": new}
        (shop / "tomorrow.yaml").write_text(yaml.safe_dump(both), encoding="utf-8")


def _folders(place: Path) -> list[Path]:
    """One for each class, in the order of the labels."""
    return sorted(entry for entry in place.iterdir() if entry.is_dir())


def _copy(pictures: Sequence[Path], folder: Path) -> None:
    folder.mkdir(parents=True)
    for picture in pictures:
        shutil.copy(picture, folder)


if __name__ == "__main__":
    write_shop(sys.argv[1], Path(sys.argv[2]))
