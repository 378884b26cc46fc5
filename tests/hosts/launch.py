"""Runs a checkout's train.py, as often as asked, and records what its trainer does.

Usage, inside the checkout: launch.py RUNS.json   RUNS.json holds a list of {"argv": arguments of
train.py, "record": file to write, "kill": [epoch, batch] or null}. A record is JSON; tensors are in
it as digests, so equal records mean equal bits. "kill" sends SIGKILL in front of that step.
"""

import hashlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch

from sar.host import hook, run


def digest(*tensors: torch.Tensor) -> str:
    """Of values, shapes and dtypes."""
    state = hashlib.sha256()
    for tensor in tensors:
        value = tensor.detach().cpu().contiguous()
        state.update(f"{value.dtype}{tuple(value.shape)}".encode())
        state.update(value.flatten().view(torch.uint8).numpy().tobytes())
    return state.hexdigest()[:16]


class Recorder:
    """Watches the one trainer of a run, without drawing random numbers."""

    def __init__(self, kill: list[int] | None) -> None:
        self.kill = kill
        self.record: dict[str, Any] = {
            "outputs": [], "batches": [], "rates": [], "summaries": [], "accuracies": []
        }  # fmt: skip

    def watch(self, trainer: Any) -> None:
        self.trainer, record = trainer, self.record
        record["shots"] = [[Path(d.impath).name, d.label] for d in trainer.dm.dataset.train_x]
        trainer.model.register_forward_hook(self.note_output)
        step, test = trainer.forward_backward, trainer.test

        def forward_backward(batch: Any) -> Any:
            if [trainer.epoch, trainer.batch_idx] == self.kill:
                os.kill(os.getpid(), signal.SIGKILL)
            names = [Path(path).name for path in batch["impath"]]
            record["batches"].append([names, digest(batch["img"])])
            record["rates"].append(trainer.get_current_lr())
            summary = step(batch)
            record["summaries"].append(summary)
            return summary

        def tested(*args: Any, **kwargs: Any) -> Any:
            accuracy = test(*args, **kwargs)
            record["accuracies"].append(accuracy)
            return accuracy

        trainer.forward_backward, trainer.test = forward_backward, tested

    def note_output(self, module: Any, args: Any, output: Any) -> None:
        self.record["outputs"].append(digest(*(output if isinstance(output, tuple) else [output])))

    def finish(self) -> dict[str, Any]:
        weights = {
            f"{name}.{key}": digest(value)
            for name, model in self.trainer._models.items()
            for key, value in model.state_dict().items()
        }
        return self.record | {"weights": weights, "random": digest(torch.get_rng_state())}


def main(runs: list[dict[str, Any]]) -> None:
    sys.argv = ["train.py"]
    sys.path[0] = ""
    hook.install(run.package_root())
    import dassl.engine

    build = dassl.engine.build_trainer
    console, loggers = sys.stdout, []
    for each in runs:
        recorder = Recorder(each["kill"])

        def build_trainer(cfg: Any, recorder: Recorder = recorder) -> Any:
            trainer = build(cfg)
            recorder.watch(trainer)
            return trainer

        dassl.engine.build_trainer = build_trainer  # where train.py will import it from
        run.run_script(["train.py", *each["argv"]])
        loggers.append(sys.stdout)  # Dassl's closes the console with it when it is dropped
        sys.stdout = console
        Path(each["record"]).write_text(json.dumps(recorder.finish()))


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
