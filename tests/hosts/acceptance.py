"""The SAR plug-in inside untouched checkouts: every method, on the original Dassl and without it.

Usage: acceptance.py HOSTS [METHOD ...] [--write]   HOSTS is the folder with the checkouts (CoOp,
multimodal-prompt-learning, PromptSRC, KgCoOp, Dassl.pytorch). Prints the table of docs/hosts.md;
--write puts it there.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "support"))

from toolbox_mini import write_images  # noqa: E402

DOCUMENT = ROOT / "docs" / "hosts.md"
BEGIN, END = "<!-- table -->", "<!-- end of table -->"
ORIGINAL, EMBEDDED = "original", "embedded"
NOVEL = ("siamese", "ragdoll", "dachshund", "maine coon", "shih tzu", "saint bernard")
EPOCHS = 3
COMMON = (
    *(
        "INPUT.SIZE",
        "(32, 32)",
        "DATALOADER.NUM_WORKERS",
        "0",
        "DATALOADER.TRAIN_X.BATCH_SIZE",
        "4",
    ),
    *("OPTIM.MAX_EPOCH", str(EPOCHS), "OPTIM.LR", "0.02", "TRAIN.CHECKPOINT_FREQ", "1"),
    *("TRAIN.PRINT_FREQ", "1", "DATASET.NUM_SHOTS", "4"),
)


@dataclass(frozen=True)
class Method:
    """A trainer, its checkout, and what its own configuration needs to run on two small layers."""

    name: str
    checkout: str
    config: str
    model: str  # the name it saves its weights under
    options: tuple[str, ...] = ()
    folder: str = ""  # of train.py inside the checkout
    resumes: bool = True
    parses_training: bool = False  # the others' parsers wait for a line that Dassl 0.6.3 renamed


METHODS = {
    method.name: method
    for method in (
        Method(
            *("CoOp", "CoOp", "vit_b16_ctxv1", "prompt_learner"),
            parses_training=True,
        ),
        Method(
            *("CoCoOp", "CoOp", "vit_b16_c4_ep10_batch1_ctxv1", "prompt_learner"),
            parses_training=True,
        ),
        Method(
            *("KgCoOp", "KgCoOp", "vit_b16_ep100_ctxv1", "prompt_learner"),
            ("TRAINER.COOP.N_CTX", "4", "TRAINER.COOP.W", "8.0"),
            folder="KgCoOp",
        ),
        Method(
            *("MaPLe", "multimodal-prompt-learning", "vit_b16_c2_ep5_batch4_2ctx"),
            "MultiModalPromptLearner",
            ("TRAINER.MAPLE.PROMPT_DEPTH", "2"),
        ),
        Method(
            *("PromptSRC", "PromptSRC", "vit_b16_c2_ep20_batch4_4+4ctx", "VLPromptLearner"),
            (
                *("TRAINER.PROMPTSRC.PROMPT_DEPTH_VISION", "2"),
                *("TRAINER.PROMPTSRC.PROMPT_DEPTH_TEXT", "2", "TRAINER.PROMPTSRC.GPA_MEAN", "2"),
            ),
            resumes=False,
        ),
    )
}


@dataclass
class World:
    """Clones of the checkouts, two copies of the images, a random CLIP; all below `root`."""

    hosts: Path
    root: Path
    clones: dict[str, Path] = field(default_factory=dict)

    def __post_init__(self) -> None:
        from sar.toolbox.clip import CLIP, set_precision

        for toolbox in (ORIGINAL, EMBEDDED):  # each draws its own shots
            write_images(self.root / toolbox / "data")
        (self.root / "novel.txt").write_text("\n".join(NOVEL))
        torch.manual_seed(0)
        # Few and narrow layers as far as the checkouts allow: they hard-code these widths.
        clip = CLIP(512, 32, 2, 768, 16, 77, 49408, 512, 8, 2)
        set_precision(clip, "fp16")
        torch.save(clip.state_dict(), self.root / "clip.pt")

    def clone(self, checkout: str) -> Path:
        if checkout not in self.clones:
            self.clones[checkout] = self.root / "checkouts" / checkout
            _call("git", "clone", "-q", str(self.hosts / checkout), str(self.clones[checkout]))
        return self.clones[checkout]


class Trial:
    """One method on one toolbox; results are computed when first asked for."""

    def __init__(self, world: World, method: Method, toolbox: str) -> None:
        self.world, self.method, self.toolbox = world, method, toolbox
        self.folder = world.root / toolbox / method.name
        self.folder.mkdir(parents=True)
        self.checkout = world.clone(method.checkout)
        self._after: dict[str, Any] = {}

    def command(self, trainer: str, output: str, *flags: str, weight: float = 5.0) -> list[str]:
        """Arguments of train.py; the output folder is `output`/seed1."""
        method, classes = self.method, "new" if "--eval-only" in flags else "base"
        sar = ("TRAINER.SAR.WEIGHT", str(weight), "TRAINER.SAR.SAMPLE_SIZE", "8")
        return [
            *("--root", str(self.world.root / self.toolbox / "data"), "--seed", "1"),
            *("--trainer", trainer, "--dataset-config-file", "configs/datasets/oxford_pets.yaml"),
            *("--config-file", f"configs/trainers/{method.name}/{method.config}.yaml"),
            *("--output-dir", str(self.folder / output / "seed1"), *flags, *COMMON),
            *("MODEL.BACKBONE.NAME", str(self.world.root / "clip.pt"), *method.options),
            *("DATASET.SUBSAMPLE_CLASSES", classes),
            *("TRAINER.SAR.NOVEL", str(self.world.root / "novel.txt"), *sar),
        ]

    def evaluation(self, trainer: str, trained: Path, output: str) -> list[str]:
        flags = ("--model-dir", str(trained), "--load-epoch", str(EPOCHS), "--eval-only")
        return self.command(trainer, output, *flags)

    def launch(
        self, runs: dict[str, list[str]], kill: tuple[int, int] | None = None, status: int = 0
    ) -> dict[str, Any]:
        """Runs train.py once for each of `runs` (by name) in one process; their records."""
        todo = [
            {"argv": argv, "record": str(self.folder / f"{name}.json"), "kill": kill}
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
        if self.toolbox == ORIGINAL:
            paths.append(str(self.world.hosts / "Dassl.pytorch"))
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(paths),
            "PYTHONPYCACHEPREFIX": str(self.world.root / "pycache"),
            "OMP_NUM_THREADS": "1",
        }
        return _call(
            *(sys.executable, *arguments),
            cwd=self.checkout / self.method.folder,
            env=environment,
            status=status,
        )

    def trained(self, output: str) -> Path:
        return self.folder / output / "seed1"

    def weights(self, output: str) -> dict[str, torch.Tensor]:
        """What the last checkpoint of a run holds."""
        from sar.toolbox.utils import load_checkpoint

        file = self.trained(output) / self.method.model / f"model.pth.tar-{EPOCHS}"
        state: dict[str, torch.Tensor] = load_checkpoint(file)["state_dict"]
        return state

    @cached_property
    def training(self) -> dict[str, Any]:
        """Records of X, SAR_X with weight 0 and SAR_X, trained on base, and of tests on new."""
        x = self.method.name
        sar = f"SAR_{x}"
        return self.launch(
            {
                "plain": self.command(x, "plain"),
                "zero": self.command(sar, "zero", weight=0.0),
                "aligned": self.command(sar, "aligned"),
                "plain-by-plain": self.evaluation(x, self.trained("plain"), "plain-by-plain"),
                "plain-by-sar": self.evaluation(sar, self.trained("plain"), "plain-by-sar"),
                "aligned-by-sar": self.evaluation(sar, self.trained("aligned"), "aligned-by-sar"),
                "aligned-by-plain": self.evaluation(x, self.trained("aligned"), "aligned-by-plain"),
            }
        )

    @cached_property
    def killed(self) -> list[str]:
        """The command of a SAR_X that was killed by SIGKILL in its last epoch."""
        argv = self.command(f"SAR_{self.method.name}", "killed")
        self.launch({"killed": argv}, kill=(EPOCHS - 1, 1), status=-signal.SIGKILL)
        return argv

    def after(self, twin: "Trial") -> dict[str, Any]:
        """Records of the killed SAR_X, resumed, and of X on the other toolbox's files.

        The latter tests the weights that X saved there, on new classes of the few-shot selection
        that was drawn there.
        """
        if not self._after:
            foreign = self.evaluation(self.method.name, twin.trained("plain"), "foreign")
            foreign[1] = str(self.world.root / twin.toolbox / "data")
            assert twin.training
            resumed = {"resumed": self.killed} if self.method.resumes else {}
            self._after = self.launch({**resumed, "foreign": foreign})
        return self._after

    def log(self, output: str) -> str:
        return (self.trained(output) / "log.txt").read_text()

    def logged_scalars(self, output: str) -> list[str]:
        """Tags of a run's TensorBoard files."""
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(self.trained(output) / "tensorboard"))
        tags: list[str] = events.Reload().Tags()["scalars"]
        return tags

    def parse(self, output: str, *flags: str) -> str:
        """The accuracy that the checkout's own parse_test_res.py finds, as it prints it."""
        folder = str(self.folder / output)
        text = self.python("-m", "sar", "run", "parse_test_res.py", folder, *flags)
        found = re.findall(r"\* accuracy: (\S+)% \+- ", text)
        return str(found[-1])

    def status(self) -> str:
        """What git says of the checkout: nothing, if nothing was changed or added."""
        return _call("git", "status", "--porcelain", cwd=self.checkout)


@dataclass(frozen=True)
class Check:
    """A column of the table: what is claimed, and whether it holds for a trial and its twin."""

    title: str
    claim: str
    holds: Callable[[Trial, Trial], bool]
    when: Callable[[Trial], bool] = lambda trial: True


def weight_zero(trial: Trial, twin: Trial) -> bool:
    plain, zero = trial.training["plain"], trial.training["zero"]
    return len(plain["outputs"]) > EPOCHS and plain == zero


def alignment(trial: Trial, twin: Trial) -> bool:
    plain, aligned = trial.weights("plain"), trial.weights("aligned")
    return (
        any(not torch.equal(value, aligned[name]) for name, value in plain.items())
        and all(summary["loss_sar"] > 0 for summary in trial.training["aligned"]["summaries"])
        and bool(re.search(r"loss_sar \d", trial.log("aligned")))
        and "loss_sar" not in trial.log("zero")
        and "train/loss_sar" in trial.logged_scalars("aligned")
    )


def same_on_both(trial: Trial, twin: Trial) -> bool:
    return bool(trial.training == twin.training)


def exchanged(trial: Trial, twin: Trial) -> bool:
    tests = trial.training
    return bool(
        tests["plain-by-plain"] == tests["plain-by-sar"]
        and tests["aligned-by-sar"] == tests["aligned-by-plain"]
        and tests["plain-by-plain"] != tests["aligned-by-sar"]
        and trial.after(twin)["foreign"] == twin.training["plain-by-plain"]
    )


def resumed(trial: Trial, twin: Trial) -> bool:
    """The embedded toolbox saves the random state, Dassl does not: its batches are others."""
    straight = trial.training["aligned"]
    again = trial.after(twin)["resumed"]
    steps = len(straight["batches"]) // EPOCHS
    if again["rates"] != straight["rates"][-steps:]:
        return False
    if trial.toolbox == ORIGINAL:
        return "loss_sar" in again["summaries"][0]
    return bool(again["weights"] == straight["weights"] and again["random"] == straight["random"])


def parsed(trial: Trial, twin: Trial) -> bool:
    found = {"aligned-by-sar": trial.parse("aligned-by-sar", "--test-log")}
    if trial.method.parses_training:
        found["aligned"] = trial.parse("aligned")
    return all(
        abs(float(accuracy) - trial.training[output]["accuracies"][-1]) < 0.06  # one decimal
        for output, accuracy in found.items()
    )


CHECKS = (
    Check(
        "Weight 0",
        "SAR_X with weight 0 equals X: every forward output in training and test, every reported "
        "value, the final weights and the final random state, bit for bit",
        weight_zero,
    ),
    Check(
        "Weight 5",
        "SAR_X with weight 5 ends in other weights than X; `loss_sar` is in the log and in "
        "TensorBoard",
        alignment,
    ),
    Check(
        "Same as the other toolbox",
        "the same few-shot selection (drawn anew by each), batches, rates, outputs, weights and "
        "accuracies on the original Dassl and the embedded toolbox, for X and SAR_X, bit for bit",
        same_on_both,
    ),
    Check(
        "Checkpoints",
        "X tests SAR_X's weights and SAR_X those of X with the outputs that their owner gives, on "
        "new classes; X's weights and few-shot selection from the other toolbox likewise",
        exchanged,
    ),
    Check(
        "Resume",
        "SAR_X, killed (SIGKILL) in its last epoch and started again, goes on with the learning "
        "rates of an uninterrupted run; on the embedded toolbox it ends in the same weights and "
        "random state, bit for bit",
        resumed,
        when=lambda trial: trial.method.resumes,
    ),
    Check(
        "Parse",
        "the checkout's own `parse_test_res.py` finds the accuracy of the test on new classes",
        parsed,
    ),
    Check(
        "Clean",
        "`git status` of the checkout, after all of this, is empty",
        lambda trial, twin: not trial.status(),
    ),
)


def pair(world: World, method: Method) -> dict[str, Trial]:
    """The method on both toolboxes."""
    return {toolbox: Trial(world, method, toolbox) for toolbox in (ORIGINAL, EMBEDDED)}


def table(world: World, methods: Sequence[str]) -> str:
    """Runs everything; a Markdown table with a row per method and toolbox, and its legend."""
    rows = []
    for name in methods:
        trials = pair(world, METHODS[name])
        for toolbox, other in ((ORIGINAL, EMBEDDED), (EMBEDDED, ORIGINAL)):
            trial = trials[toolbox]
            cells = [
                ("yes" if check.holds(trial, trials[other]) else "**no**")
                if check.when(trial)
                else "-"
                for check in CHECKS
            ]
            rows.append([name, METHODS[name].checkout, toolbox, *cells])
            print(*rows[-1], sep=" | ", file=sys.stderr)
    header = ["Method", "Checkout", "Dassl", *(check.title for check in CHECKS)]
    legend = "\n".join(f"- *{check.title}*: {check.claim}." for check in CHECKS)
    return f"{tabulate(rows, header, tablefmt='github')}\n\n{legend}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("hosts", type=Path, help="folder with the checkouts and Dassl.pytorch")
    parser.add_argument("methods", nargs="*", default=list(METHODS), help="default: all five")
    parser.add_argument("--write", action="store_true", help=f"put it into {DOCUMENT.name}")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        text = table(World(args.hosts.resolve(), Path(folder)), args.methods)
    print(text)
    if args.write:
        before, rest = DOCUMENT.read_text(encoding="utf-8").split(BEGIN)
        _, after = rest.split(END)
        DOCUMENT.write_text(f"{before}{BEGIN}\n{text}{END}{after}", encoding="utf-8")


def _call(*command: str, status: int = 0, **kwargs: Any) -> str:
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **kwargs
    )
    if done.returncode != status:
        raise RuntimeError(f"{command} ended with {done.returncode}:\n{done.stdout[-4000:]}")
    return done.stdout


if __name__ == "__main__":
    main()
