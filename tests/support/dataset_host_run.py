"""Builds CoOp's own datasets on Dassl and writes what they hold; a script for the parity test.

Usage: dataset_host_run.py HOSTS REQUESTS RECORD   HOSTS holds CoOp and Dassl.pytorch; REQUESTS is a
JSON list of [root, dataset, seed, shots, subsample], each built in turn.
"""

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from host_process import open_checkout


def record(dataset: Any) -> dict[str, Any]:
    """What a trainer sees of a dataset."""
    return {
        "classnames": list(dataset.classnames),
        "lab2cname": {str(label): name for label, name in sorted(dataset.lab2cname.items())},
        **{
            part: [[d.impath, d.label, d.domain, d.classname] for d in getattr(dataset, part) or ()]
            for part in ("train_x", "val", "test")
        },
    }


def main(hosts: str, requests: str, target: str) -> None:
    open_checkout(hosts, "CoOp")
    from dassl.config import get_cfg_default
    from dassl.data.datasets import DATASET_REGISTRY
    from dassl.utils import set_random_seed

    for file in Path(hosts, "CoOp", "datasets").glob("[a-z]*.py"):
        import_module(f"datasets.{file.stem}")
    records = []
    for root, name, seed, shots, subsample in json.loads(Path(requests).read_text()):
        cfg = get_cfg_default()
        cfg.DATASET.SUBSAMPLE_CLASSES = subsample
        cfg.DATASET.ROOT, cfg.DATASET.NUM_SHOTS, cfg.SEED = root, shots, seed
        set_random_seed(seed)
        records.append(record(DATASET_REGISTRY.get(name)(cfg)))
    Path(target).write_text(json.dumps(records))


if __name__ == "__main__":
    main(*sys.argv[1:])
