"""The protocols, and `protocol.json` in an output folder: what was asked for."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from sar.errors import ConfigError, DataError, one_line
from sar.storage.files import make_folder, write_file
from sar.storage.locks import one_at_a_time
from sar.storage.texts import read_json

BASE2NEW = "base2new"
CROSS_DATASET = "cross-dataset"
DOMAIN_GENERALIZATION = "domain-generalization"
FEW_SHOT = "few-shot"
ABLATION = "ablation"

PROTOCOL_FILE = "protocol.json"
_REMOVE = "remove it, the next start of the protocol writes it"


@dataclass(frozen=True)
class ProtocolRecord:
    """Everything that a protocol was asked for in one output folder, over all its starts there."""

    protocol: str
    """Its name: one of the above, or that of a protocol of one's own."""
    datasets: list[str]
    """Datasets that are trained on and tested; with a source: targets that are only tested."""
    trainers: list[str]
    seeds: list[int]
    shots: list[int]
    source: str = ""
    """In cross-dataset and domain generalization: the dataset that is trained on."""
    variants: dict[str, list[str]] = field(default_factory=dict)
    """In an ablation: folder -> the KEY VALUE options that differ from the defaults."""
    studies: dict[str, dict[str, str]] = field(default_factory=dict)
    """In an ablation: study -> name of a setting -> its folder, in printing order."""

    imports: list[str] = field(default_factory=list)
    """Python files of one's own that were imported."""

    def merged(self, earlier: ProtocolRecord) -> ProtocolRecord:
        """This record and an earlier one together; the earlier entries come first."""
        return replace(
            self,
            datasets=_union(earlier.datasets, self.datasets),
            trainers=_union(earlier.trainers, self.trainers),
            seeds=sorted({*earlier.seeds, *self.seeds}),
            shots=sorted({*earlier.shots, *self.shots}),
            variants={**earlier.variants, **self.variants},
            studies={
                study: {**earlier.studies.get(study, {}), **self.studies.get(study, {})}
                for study in _union([*earlier.studies], [*self.studies])
            },
            imports=_union(earlier.imports, self.imports),
        )


def _union(first: list[str], second: list[str]) -> list[str]:
    return list(dict.fromkeys((*first, *second)))


def read_protocol(root: Path) -> ProtocolRecord | None:
    """The protocol of an output folder; None if none was recorded.

    Raises:
        DataError: the file is damaged.
    """
    file = root / PROTOCOL_FILE
    if not file.exists():
        return None
    content = read_json(file, _REMOVE)
    try:
        hints = get_type_hints(ProtocolRecord)
        wrong = [key for key in content if not _fits(content[key], hints.get(key))]
        if wrong:
            raise TypeError(f"not what is expected under {', '.join(map(str, wrong))}")
        return ProtocolRecord(**content)
    except TypeError as error:
        raise DataError(f"cannot read {file}: {one_line(error)}; {_REMOVE}") from error


def _fits(value: object, hint: Any) -> bool:
    """Whether a value read from JSON is of an annotated type."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is list:
        return isinstance(value, list) and all(_fits(item, arguments[0]) for item in value)
    if origin is dict:
        return isinstance(value, dict) and all(_fits(v, arguments[1]) for v in value.values())
    return type(value) is hint


def record_protocol(root: Path, protocol: ProtocolRecord) -> ProtocolRecord:
    """Add `protocol` to what `root` holds; launchers that start together all count.

    Raises:
        ConfigError: the folder belongs to another protocol or another source.
    """
    make_folder(root, "choose another --output")
    with one_at_a_time(root / ".protocol.lock", f"writing {PROTOCOL_FILE}", always=True):
        if earlier := read_protocol(root):
            for what in ("protocol", "source"):
                found, wanted = getattr(earlier, what), getattr(protocol, what)
                if found != wanted:
                    raise ConfigError(
                        f"{root} holds results with {what} {found or 'none'}, not "
                        f"{wanted or 'none'}; choose another --output"
                    )
            protocol = protocol.merged(earlier)
        write_file(root / PROTOCOL_FILE, json.dumps(asdict(protocol), indent=1) + "\n")
    return protocol
