"""What is found under an output folder: accuracies of models, and runs that do not count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from sar.results.evaluations import Evaluation
from sar.results.folders import Place, RunKey, is_untrained
from sar.results.protocol import ProtocolRecord


@dataclass(frozen=True)
class Record:
    """The accuracies of one trained model (one seed), in percent."""

    key: RunKey
    values: dict[str, float]
    """Base-to-new and ablation: `base`, `new`, `h`; of a folder without any test on new classes
    `base` alone, of one that has nothing else `new`. Over all classes: `accuracy`."""
    protocol: str
    source: str = ""
    """What the model was trained on, where it is tested on other datasets; the key's dataset is
    what it was tested on."""
    folders: dict[str, Path] = field(default_factory=dict)
    """Column -> folder of the test that gave it."""

    def as_dict(self) -> dict[str, str | int | float]:
        """Flat, for JSON and CSV: protocol, dataset, trainer, cfg, shots, seed, source and variant
        where there are any, then the accuracies."""
        key = {k: v for k, v in vars(self.key).items() if k != "variant"}
        extra = {"source": self.source, "variant": self.key.variant}
        return {
            "protocol": self.protocol,
            **key,
            **{k: v for k, v in extra.items() if v},
            **{k: round(v, 4) for k, v in self.values.items()},
        }


@dataclass(frozen=True)
class Problem:
    """A run that is not counted, and why."""

    directory: Path
    reason: str


@dataclass
class Results:
    """Everything found under one folder."""

    root: Path
    records: list[Record] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """Oddities of runs that do count."""
    protocols: dict[Path, ProtocolRecord] = field(default_factory=dict)
    """Output folder of a protocol -> what was asked for there."""
    places: list[Place] = field(default_factory=list)
    """Every run in a known kind of folder that passed the filter, counted or not."""
    evaluations: list[Evaluation] = field(default_factory=list)
    """What `sarclip evaluate` wrote there."""
    against: Sequence[str] = ()
    """Methods that tables give all others' differences to."""
    counted: dict[tuple[str, str, RunKey], Path] = field(default_factory=dict)
    """Protocol, source and key of every record -> a folder of its run."""
    read: dict[tuple[RunKey, str, int], Place] = field(default_factory=dict)
    """Key without its seed, part and content of the logs of every score -> its run."""

    def add(self, record: Record, directory: Path, *others: Path) -> None:
        """Count a record, unless another output folder has one of the same model.

        Args:
            directory, others: the folders of its runs; if it does not count, all are listed.
        """
        name = (record.protocol, record.source, record.key)
        if (first := self.counted.setdefault(name, directory)) == directory:
            self.records.append(record)
        else:
            for found in (directory, *others):
                self.second(found, first)

    def second(self, directory: Path, first: Path) -> None:
        """List a run of a model that has another one already."""
        self.problems.append(Problem(directory, f"a second run like {first}"))

    def copied(self, place: Place, content: int) -> Path | None:
        """The run of another seed that has the same logs, if one was read before.

        Args:
            content: of its logs, see `sar.results.log.Run`. Where nothing was trained seeds have no
                effect, and the logs may be the same.
        """
        name = (replace(place.key, seed=0), place.part, content)
        first = self.read.setdefault(name, place)
        same = first.key.seed == place.key.seed or is_untrained(place.key.trainer)
        return None if same else first.directory

    @property
    def studies(self) -> dict[str, dict[str, str]]:
        """The studies of all ablations: study -> name of a setting -> its folder."""
        return {k: v for plan in self.protocols.values() for k, v in plan.studies.items()}
