"""The command line of a checkout's train.py: two easy mistakes are caught."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from sar.errors import ConfigError

# A configuration key as Dassl and the checkouts have them.
_KEY = re.compile(
    r"(DATALOADER|DATASET|INPUT|MODEL|OPTIM|TEST|TRAIN|TRAINER)(\.[A-Z0-9_]+)+"
    r"|SEED|USE_CUDA|VERBOSE|OUTPUT_DIR|RESUME"
)
_CONFIG = ("--config-file", "--dataset-config-file")


def check_order(argv: Sequence[str]) -> None:
    """Raises `ConfigError` if an option stands behind the first KEY VALUE pair.

    train.py would take it for a key or a value, and complain about something else.
    """
    keys = [i for i, word in enumerate(argv) if _KEY.fullmatch(word)]
    late = [word for word in argv[keys[0] :] if word.startswith("--")] if keys else []
    if late:
        raise ConfigError(
            f"{', '.join(late)} stands behind {argv[keys[0]]}. train.py reads everything behind "
            "the first KEY VALUE pair as such pairs: put the options that begin with -- in front"
        )


def find_config_files(argv: Sequence[str]) -> list[str]:
    """`argv` with configuration files of SAR_X replaced by those of X where only those exist.

    ``configs/trainers/SAR_CoOp/x.yaml`` is read as ``configs/trainers/CoOp/x.yaml``; where the
    checkout lacks that one, too, the one shipped with this project is taken, with the keys and
    values that such files leave to the CLIP. Says which it is.
    Raises `ConfigError` for a trainer's configuration that exists nowhere.
    """
    found = list(argv)
    for i, option, file in _config_files(argv):
        if Path(file).is_file():
            continue
        other, shipped = _stand_in(file)
        if other != file:
            print(f"SAR: {file} is not in this checkout; {option} is {other}")
            found[i] = f"{option}={other}" if "=" in argv[i] else other
            if shipped:
                # In front of the given pairs, which win.
                at = next((k for k, word in enumerate(found) if _KEY.fullmatch(word)), len(found))
                found[at:at] = _input_of(other)
    return found


def _input_of(file: str) -> list[str]:
    """INPUT's keys and values for the CLIP that a configuration file names."""
    import yaml

    from sar.toolbox.clip import find_backbone

    tree = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    clip = find_backbone(tree["MODEL"]["BACKBONE"]["NAME"])
    values = {
        "SIZE": (clip.resolution, clip.resolution),
        "PIXEL_MEAN": list(clip.mean),
        "PIXEL_STD": list(clip.std),
    }
    return [word for key, value in values.items() for word in (f"INPUT.{key}", str(value))]


def _config_files(argv: Sequence[str]) -> Iterator[tuple[int, str, str]]:
    """(index of the word that holds it, option, file) of every configuration file in `argv`."""
    for i, word in enumerate(argv):
        option, equals, file = word.partition("=")
        if option in _CONFIG:
            if equals:
                yield i, option, file
            elif i + 1 < len(argv):
                yield i + 1, option, argv[i + 1]


def _stand_in(file: str) -> tuple[str, bool]:
    """The file to read in place of a missing one, and whether it is shipped with this project."""
    path = Path(file)
    at = max((i for i, part in enumerate(path.parts[:-2]) if part == "trainers"), default=-1) + 1
    if not at:
        return file, False
    owner = path.parts[at].removeprefix("SAR_")
    plain = Path(*path.parts[:at], owner, *path.parts[at + 1 :])
    if plain.is_file():
        return str(plain), False
    from sar.toolbox.config import find_config

    try:
        return str(find_config(str(Path("configs", *plain.parts[at - 1 :])))), True
    except ConfigError as error:
        here = sorted(path.name for path in plain.parent.glob("*.yaml"))
        raise ConfigError(
            f"There is no {file}. In this checkout, {plain.parent} has: "
            f"{', '.join(here) or 'nothing'}. Shipped with this project: {error}"
        ) from None
