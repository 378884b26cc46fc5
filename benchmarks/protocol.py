"""Base-to-new on demo data: `sarclip protocol`, without shared features, and one process per job.

The same jobs, CoOp and SAR_CoOp with several seeds, are run in these ways:

    ours        sarclip protocol base2new, everything as it is by default
    unshared    the same, but every training encodes its own pictures (SAR_TRAINING_FEATURES=0)
    as-usual    one process after the other, each with all cores; prompts of 77 positions, SAR's
                novel classes included; text encoded for every test batch; test images encoded by
                every job

All must end in the same accuracies (as usual up to one image: rounding differs). They start without
anything kept on disk. Seconds are those of the clock, for which nothing else should run on the
machine, and those of all processors together, which depend little on that.

Usage: python benchmarks/protocol.py [--datasets demo_food] [--seeds 1 2 3]
       [--ways ours unshared as-usual] [--options KEY VALUE ...]
"""

import argparse
import ctypes
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from unittest.mock import patch

from measuring import processor_seconds
from tabulate import tabulate

from sar.protocols.base2new import BaseToNew
from sar.results import collect

ROOT = Path(__file__).resolve().parents[1]
TRAINERS = ("CoOp", "SAR_CoOp")
WAYS = ("ours", "unshared", "as-usual")
JOB = "--as-usual"


def as_usual(argv: Sequence[str]) -> None:
    """One job in this process, computed as the existing toolboxes do."""
    from measuring import encode_77

    from sar import cli, views
    from sar.toolbox.clip import prompted

    with (
        patch.object(views, "encode_prompts", encode_77),
        patch.object(prompted, "encode_prompts", encode_77),
        patch.object(prompted.PromptedCLIP, "text_encoded_once", lambda self: nullcontext()),
    ):
        cli.main(argv)


def run_as_usual(plan: BaseToNew) -> None:
    environment = {**os.environ, "SAR_CACHE": "off", "PYTHONPATH": str(ROOT)}
    for job in plan.jobs():
        job.output.mkdir(parents=True)
        command = [sys.executable, __file__, JOB, *job.argv()]
        with (job.output / "console.txt").open("w") as console:
            subprocess.run(command, env=environment, stdout=console, stderr=console, check=True)


def run_ours(plan: BaseToNew, cache: Path, shared: bool) -> None:
    words = {"datasets": plan.datasets, "trainers": plan.trainers, "seeds": plan.seeds}
    what = [w for key, value in words.items() for w in (f"--{key}", ",".join(map(str, value)))]
    where = ["--root", plan.root, "--output", str(plan.output)]
    subprocess.run(
        [sys.executable, "-m", "sar", "protocol", "base2new", *what, *where, *plan.options],
        env={
            **os.environ,
            "SAR_CACHE": str(cache),
            "SAR_TRAINING_FEATURES": str(int(shared)),
            "PYTHONPATH": str(ROOT),
        },
        stdout=subprocess.DEVNULL,
        check=True,
    )


def adopt_orphans() -> None:
    """Have this process wait for those that their own parents leave behind (Linux)."""
    PR_SET_CHILD_SUBREAPER = 36
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "the time of processes cannot be measured here")


def main() -> None:
    if sys.argv[1:2] == [JOB]:
        as_usual(sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--datasets", nargs="+", default=["demo_food"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--options", nargs="*", default=[], metavar="KEY VALUE")
    args = parser.parse_args()
    adopt_orphans()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        seconds: dict[str, tuple[float, float]] = {}
        found: dict[str, dict[tuple[str, str, int], tuple[float, float]]] = {}
        for way in args.ways:
            plan = BaseToNew(
                datasets=args.datasets,
                seeds=args.seeds,
                trainers=TRAINERS,
                output=folder / way,
                root=str(folder / f"data of {way}"),
                options=args.options,
            )
            started, used = time.perf_counter(), processor_seconds()
            if way == "as-usual":
                run_as_usual(plan)
            else:
                run_ours(plan, folder / f"cache of {way}", shared=way == "ours")
            took = time.perf_counter() - started
            seconds[way] = took, processor_seconds() - used
            found[way] = {
                (r.key.dataset, r.key.trainer, r.key.seed): (r.values["base"], r.values["new"])
                for r in collect(plan.output).records
            }
            print(f"{way}: {took:.0f} s", file=sys.stderr)
    first = seconds[args.ways[0]]
    rows = [
        [way, *(f"{a:.0f} ({a / b:.2f}x)" for a, b in zip(both, first, strict=True))]
        for way, both in seconds.items()
    ]
    jobs = 2 * len(TRAINERS) * len(args.seeds) * len(args.datasets)
    headers = [f"way, {jobs} jobs", "seconds", "processor seconds"]
    print(tabulate(rows, headers, "github", disable_numparse=True))
    accuracies = [
        [*key, *(value for way in args.ways for value in found[way][key])]
        for key in sorted(found[args.ways[0]])
    ]
    headers = ["dataset", "trainer", "seed"]
    headers += [f"{side}, {way}" for way in args.ways for side in ("base", "new")]
    print("\n" + tabulate(accuracies, headers, floatfmt=".2f"))


if __name__ == "__main__":
    main()
