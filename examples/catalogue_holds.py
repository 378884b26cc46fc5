"""Whether a run of catalogue.sh found what the story says: `catalogue_holds.py summary.json`.

Exit status 1, and what does not hold, if it did not.
"""

import json
import sys
from pathlib import Path


def claims(entries: list[dict[str, object]]) -> dict[str, bool]:
    """What is claimed of the means in `sarclip results --summary`, and whether it holds."""
    mean = {
        (entry["table"], entry["label"], entry["column"]): float(str(entry["mean"]))
        for entry in entries
        if entry["kind"] == "measured" and entry["protocol"] == "evaluation"
    }
    after, before = "Evaluation", "Evaluation with unknown pictures"
    found: dict[str, bool] = {}
    for method in ("ZeroshotCLIP", "CoOp", "SAR_CoOp"):
        new, joint = (mean[after, method, column] for column in ("new", "joint"))
        gain = joint - mean[before, method, "joint"]
        told, lost = mean[before, method, "rejected"], 100 - mean[before, method, "kept"]
        auroc = mean[before, method, "auroc"]
        found |= {
            f"{method} names {new:.1f} % of the new line's pictures; chance is below 5 %": new > 25,
            f"{method}: the names alone add {gain:.1f} points over old and new together": gain > 10,
            f"{method} tells known from unknown pictures with AUROC {auroc:.1f}": auroc > 70,
            f"{method} calls {told:.1f} % of unknown pictures unknown, and {lost:.1f} % of known "
            "ones": told > 1.5 * lost,
        }
    return found


if __name__ == "__main__":
    found = claims(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    for claim, holds in found.items():
        print("holds:  " if holds else "DOES NOT HOLD:", claim)
    sys.exit(not all(found.values()))
