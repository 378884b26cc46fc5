"""What `sarclip evaluate` left below an output folder."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sar.errors import DataError
from sar.storage.texts import read_json

SCORES_FILE = "scores.json"


@dataclass(frozen=True)
class Evaluation:
    """One model, measured on pictures whose classes are known."""

    folder: Path
    pictures: str
    """Where they lie."""
    classes: int
    """Told apart by the model."""
    method: str
    clip: str
    trained_on: str
    """A dataset; empty for zero-shot CLIP, whose shots are 0."""
    shots: int
    seed: int
    values: dict[str, float]
    """In percent. `joint`: of all pictures, those whose class was named. `base`, `new`, `h`, `auc`
    (OpenworldAUC), `ece` (of all, among all classes) and `ece_before` a temperature was fitted,
    where they were measured; with pictures of classes that the model does not have also `auroc`,
    `fpr95`, `kept` and `rejected`."""
    calibration: dict[str, dict[str, float]] = field(default_factory=dict)
    """`joint`, `base`, `new`, and each with `_before` a temperature was fitted -> `ece` and
    `adaptive_ece`, in percent, where they were measured."""

    @property
    def has_unknown(self) -> bool:
        """Whether pictures of classes that the model does not have were among them."""
        return "auroc" in self.values


def read_evaluation(file: Path) -> Evaluation:
    """Raises DataError for a file that sarclip evaluate did not write, or not in this form."""
    said = read_json(file, "expected what sarclip evaluate wrote")
    try:
        return Evaluation(
            folder=file.parent,
            classes=len(said["names"]),
            values=_values(said),
            calibration={
                str(kind): {error: float(errors[error]) for error in ("ece", "adaptive_ece")}
                for kind, errors in said["calibration"].items()
            },
            pictures=str(said["pictures"]),
            method=str(said["method"]),
            clip=str(said["clip"]),
            trained_on=str(said["trained_on"]),
            shots=int(said["shots"]),
            seed=int(said["seed"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{file} is no evaluation ({error!r}); evaluate again") from error


def _values(said: Any) -> dict[str, float]:
    unknown, accuracy = said["unknown"], said["accuracy"]
    joint = accuracy["joint"]
    pictures = joint["total"] + (unknown["unknown"] if unknown else 0)
    # A model that has base classes alone knows no others, and all that it can know is base.
    base, new = accuracy.get("base", joint if unknown else None), accuracy.get("new")
    found = {
        "joint": 100.0 * joint["correct"] / pictures,
        "base": base and base["percent"],
        "new": new and new["percent"],
        "h": said["harmonic_mean"],
        "auc": said["openworld_auc"],
        "ece_before": said["calibration"].get("joint_before", {}).get("ece"),
        "ece": said["calibration"].get("joint", {}).get("ece"),
        **{key: unknown and unknown[key] for key in ("auroc", "fpr95", "kept", "rejected")},
    }
    return {name: float(value) for name, value in found.items() if value is not None}
