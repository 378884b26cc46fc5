"""Runs a checkout's train.py, as often as asked, and records what its trainer does.

Usage, inside the checkout: launch.py RUNS.json   RUNS.json holds a list of {"argv": arguments of
train.py, "record": file to write, "kill": [epoch, batch] or null, "gradient": bool}. A record is
JSON; tensors are in it as digests, so equal records mean equal bits. "kill" sends SIGKILL in front
of that step; "gradient" ends the run at its first update, see gradient.py.
"""

import hashlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

import torch
from gradient import Measured, Probe, in_float32

from sar.host import hook, run


def digest(*tensors: torch.Tensor) -> str:
    """Of values, shapes and dtypes."""
    state = hashlib.sha256()
    for tensor in tensors:
        value = tensor.detach().cpu().contiguous()
        state.update(f"{value.dtype}{tuple(value.shape)}".encode())
        state.update(value.flatten().view(torch.uint8).numpy().tobytes())
    return state.hexdigest()[:16]


def several(value: Any) -> Any:
    """A tensor alone as a list."""
    return value if isinstance(value, (tuple, list)) else [value]


class Recorder:
    """Watches the one trainer of a run, without drawing random numbers."""

    def __init__(self, kill: list[int] | None) -> None:
        self.kill = kill
        self.record: dict[str, Any] = {
            "outputs": [], "batches": [], "rates": [], "summaries": [], "accuracies": []
        }  # fmt: skip

    def watch(self, trainer: Any) -> None:
        """To be called when `trainer` has been built."""
        self.trainer, record = trainer, self.record
        record["shots"] = [[Path(d.impath).name, d.label] for d in trainer.dm.dataset.train_x]
        trainer.model.register_forward_hook(self.note_output)
        step, evaluate = trainer.forward_backward, trainer.evaluator.evaluate

        def forward_backward(batch: Any) -> Any:
            if [trainer.epoch, trainer.batch_idx] == self.kill:
                os.kill(os.getpid(), signal.SIGKILL)
            names = [Path(path).name for path in batch["impath"]]
            record["batches"].append([names, digest(*several(batch["img"]))])
            record["rates"].append(trainer.get_current_lr())
            summary = step(batch)
            record["summaries"].append(summary)
            return summary

        def evaluated() -> Any:
            results = evaluate()
            record["accuracies"].append(results["accuracy"])
            return results

        trainer.forward_backward, trainer.evaluator.evaluate = forward_backward, evaluated

    def note_output(self, module: Any, args: Any, output: Any) -> None:
        self.record["outputs"].append(digest(*several(output)))

    def finish(self) -> dict[str, Any]:
        """The record of the run, which is over."""
        weights = {
            f"{name}.{key}": digest(value)
            for name, model in self.trainer._models.items()
            for key, value in model.state_dict().items()
        }
        return self.record | {"weights": weights, "random": digest(torch.get_rng_state())}


def train(argv: list[str], watcher: Recorder | Probe) -> None:
    """Runs train.py with `watcher` on its trainer, to its end or to what has been measured."""
    import dassl.engine

    build = dassl.engine.build_trainer

    def build_trainer(cfg: Any) -> Any:
        trainer = build(cfg)
        watcher.watch(trainer)
        return trainer

    def leave(status: int) -> NoReturn:
        raise SystemExit(status)

    console, os_exit = sys.stdout, os._exit
    sys.stdout = os.fdopen(os.dup(1), "w")  # Dassl's logger will close it
    dassl.engine.build_trainer = build_trainer  # where train.py will import it from
    os._exit = leave  # the Dassl of ATPrompt ends its process so
    try:
        run.run_script(["train.py", *argv])
    except SystemExit as end:
        if end.code:
            raise
    except Exception as error:
        if not isinstance(error.__context__ or error, Measured):  # DePT raises another
            raise
    finally:
        dassl.engine.build_trainer, os._exit = build, os_exit
        sys.stdout = console


def main(runs: list[dict[str, Any]]) -> None:
    """See the module's docstring."""
    sys.argv = ["train.py"]
    sys.path[0] = ""
    hook.install(run.package_root())
    for each in runs:
        if each["gradient"]:
            probe = Probe()
            with in_float32():
                train(each["argv"], probe)
            record = probe.record
        else:
            recorder = Recorder(each["kill"])
            train(each["argv"], recorder)
            record = recorder.finish()
        Path(each["record"]).write_text(json.dumps(record))


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
