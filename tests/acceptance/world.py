"""What the acceptance runs on, copies of the checkouts and a random CLIP, and its processes."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from gradient import GRADIENT
from records import EMBEDDED, NOVEL, ORIGINAL, TEMPLATE, Host

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "support"))

from toolbox_mini import write_images  # noqa: E402

EPOCHS = 3
COMMON = (
    *("INPUT.SIZE", "(32, 32)", "DATALOADER.NUM_WORKERS", "0", "DATASET.NUM_SHOTS", "4"),
    *("OPTIM.MAX_EPOCH", str(EPOCHS), "OPTIM.LR", "0.02", "TRAIN.CHECKPOINT_FREQ", "1"),
    *("TRAIN.PRINT_FREQ", "1", "TRAINER.SAR.TEMPLATE", TEMPLATE),
)


class RunFailed(Exception):
    """A process of the acceptance did not end as it should; the end of its output."""


@dataclass
class World:
    """Copies of the checkouts in `hosts`, and a random CLIP; all below `root`."""

    hosts: Path
    root: Path
    copies: dict[str, Path] = field(default_factory=dict)

    def __post_init__(self) -> None:
        from sar.toolbox.clip import CLIP, set_precision

        (self.root / "novel.txt").write_text("\n".join(NOVEL))
        torch.manual_seed(0)
        # Few and narrow layers as far as the checkouts allow: they hard-code these widths.
        clip = CLIP(512, 32, 2, 768, 16, 77, 49408, 512, 8, 2)
        set_precision(clip, "fp16")
        torch.save(clip.state_dict(), self.root / "clip.pt")
        # A teacher with the prompts that it was made with.
        torch.save({"state_dict": {}, "epoch": 1, "val_result": 0.0}, self.root / "teacher.pt")

    def missing(self, host: Host) -> str:
        """Why a method cannot be tried here: what is not there; "" if nothing is missing."""
        wanted = [f"{host.checkout}/train.py", *(f"{dassl}/dassl" for dassl in host.dassl if dassl)]
        lacking = [name for name in wanted if not (self.hosts / name).exists()]
        return f"{self.hosts} has no {' and no '.join(lacking)}" if lacking else ""

    def copy(self, host: Host) -> Path:
        """A clone of a method's repository; parts that the original lacks are left out in it."""
        name = host.repository
        if name not in self.copies:
            source, target = self.hosts / name, self.root / "checkouts" / name
            call("git", "clone", "-q", "--no-checkout", str(source), str(target))
            patterns = Path(".git", "info", "sparse-checkout")
            if (source / patterns).exists():
                shutil.copy(source / patterns, target / patterns)
                call("git", "config", "core.sparseCheckout", "true", cwd=target)
            call("git", "checkout", "-q", cwd=target)
            self.copies[name] = target
        return self.copies[name]


class Trial:
    """One method on one toolbox: commands of its train.py, processes, and what they left."""

    def __init__(self, world: World, host: Host, dassl: str) -> None:
        self.world, self.host, self.dassl = world, host, dassl
        self.folder = world.root / "trials" / host.trainer / (Path(dassl).name or "embedded")
        write_images(self.folder / "data")  # each draws its own shots
        self.checkout = world.copy(host)
        self.place = world.root / "checkouts" / host.checkout
        for path, source in host.files.items():
            (self.place / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(world.root / source, self.place / path)

    @property
    def toolbox(self) -> str:
        """What the table calls the toolbox."""
        return {ORIGINAL: "original", EMBEDDED: "embedded"}.get(self.dassl, "its own")

    @property
    def sar(self) -> str:
        """SAR_X."""
        return f"SAR_{self.host.trainer}"

    def trained(self, name: str) -> Path:
        """Folder of a training run."""
        return self._output(name, "train_base")

    def _output(self, name: str, part: str) -> Path:
        trainer = self.host.trainer if name.startswith("plain") else self.sar
        return self.folder / name / part / "oxford_pets" / "shots_4" / trainer / "small" / "seed1"

    def command(self, trainer: str, name: str, *more: str, weight: float = 5.0) -> list[str]:
        """Arguments of train.py for a training run; its output folder is `trained(name)`."""
        return self._arguments(trainer, self.trained(name), "base", (), more, weight)

    def evaluation(self, trainer: str, trained: Path, name: str, data: Path) -> list[str]:
        """Arguments of train.py that test `trained`'s weights on the new classes in `data`."""
        flags = ("--model-dir", str(trained), "--load-epoch", str(EPOCHS), "--eval-only")
        argv = self._arguments(trainer, self._output(name, "test_new"), "new", flags, (), 5.0)
        return ["--root", str(data), *argv[2:]]

    def _arguments(
        self,
        trainer: str,
        output: Path,
        classes: str,
        flags: Sequence[str],
        more: Sequence[str],
        weight: float,
    ) -> list[str]:
        return [
            *("--root", str(self.folder / "data"), "--seed", "1", "--trainer", trainer),
            *("--dataset-config-file", "configs/datasets/oxford_pets.yaml"),
            *("--config-file", self.host.config, "--output-dir", str(output), *flags, *COMMON),
            *("DATALOADER.TRAIN_X.BATCH_SIZE", "4", "DATASET.SUBSAMPLE_CLASSES", classes),
            *("MODEL.BACKBONE.NAME", str(self.world.root / "clip.pt"), *self.host.options),
            *("TRAINER.SAR.NOVEL", str(self.world.root / "novel.txt")),
            *("TRAINER.SAR.WEIGHT", str(weight), "TRAINER.SAR.SAMPLE_SIZE", "8", *more),
        ]

    def launch(
        self,
        runs: dict[str, list[str]],
        kill: tuple[int, int] | None = None,
        status: int = 0,
    ) -> dict[str, Any]:
        """Runs train.py once for each of `runs` (by name) in one process; their records.

        `kill`: in front of that step, (epoch, batch), SIGKILL ends the last of them.
        """
        todo = [
            {
                "argv": argv,
                "record": str(self.folder / f"{name}.json"),
                "kill": kill if name == list(runs)[-1] else None,
                "gradient": name == GRADIENT,
            }
            for name, argv in runs.items()
        ]
        plan = self.folder / f"{'-'.join(runs)}.plan"
        plan.write_text(json.dumps(todo))
        self.python(str(Path(__file__).with_name("launch.py")), str(plan), status=status)
        return {
            name: json.loads(each.read_text())
            for name in runs
            if (each := self.folder / f"{name}.json").exists()
        }

    def python(self, *arguments: str, status: int = 0) -> str:
        """Python inside the checkout, with the toolbox of this trial; its output."""
        paths = [str(ROOT)]
        if self.dassl:
            paths.append(str(self.world.hosts / self.dassl))
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(paths),
            "PYTHONPYCACHEPREFIX": str(self.world.root / "pycache"),
            "PYTHONHASHSEED": "0",  # LASP's list of all classes is in the order of a set
            "OMP_NUM_THREADS": "1",
        }
        return call(*(sys.executable, *arguments), cwd=self.place, env=environment, status=status)

    def weights(self, name: str) -> dict[str, torch.Tensor]:
        """What the last checkpoint of a training run holds."""
        from sar.toolbox.utils import load_checkpoint

        file = self.trained(name) / self.host.model / f"model.pth.tar-{EPOCHS}"
        state: dict[str, torch.Tensor] = load_checkpoint(file)["state_dict"]
        return state

    def log(self, name: str) -> str:
        """log.txt of a training run."""
        return (self.trained(name) / "log.txt").read_text()

    def logged_scalars(self, name: str) -> set[str]:
        """Tags of a training run's TensorBoard files."""
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(self.trained(name) / "tensorboard"))
        return set(events.Reload().Tags()["scalars"])

    def parsed(self, name: str) -> dict[str, float]:
        """Accuracy on base and new classes of a run and its test, by tools/parse_results.py."""
        script = str(ROOT / "tools" / "parse_results.py")
        text = self.python(script, str(self.folder / name), "--format", "json")
        (found,) = json.loads(text)
        return {part: float(found[part]) for part in ("base", "new")}

    def parsed_by_checkout(self, name: str) -> float | None:
        """Accuracy of a test on new classes that the checkout's own parser finds, if it has one."""
        if not (self.place / "parse_test_res.py").exists():
            return None
        folder = str(self._output(name, "test_new").parent)
        text = self.python("-m", "sar", "run", "parse_test_res.py", folder, "--test-log")
        return float(re.findall(r"\* .*accuracy: (\S+)% \+- ", text)[-1])

    def refusal(self, argv: Sequence[str]) -> str:
        """The last line that `sarclip run train.py` says when it ends with exit status 1."""
        return self.python("-m", "sar", "run", "train.py", *argv, status=1).splitlines()[-1]

    def status(self) -> str:
        """What git says of the repository: nothing, if nothing was changed or added.

        Apart from what the host's own instructions say to put there.
        """
        given = [str(self.place / path) for path in self.host.files]
        return call(
            *("git", "status", "--porcelain", "--untracked-files=all", "--", "."),
            *(f":(exclude){path}" for path in given),
            cwd=self.checkout,
        )


def call(*command: str, status: int = 0, **kwargs: Any) -> str:
    """Output and errors of a command; raises `RunFailed` at another exit status than `status`."""
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **kwargs
    )
    if done.returncode != status:
        found = f"expected exit status {status}, found {done.returncode}"
        raise RunFailed(f"{found}: {' '.join(command)}\n{done.stdout[-4000:]}")
    return done.stdout
