"""What the acceptance claims of a method on one or two toolboxes: the columns of the table."""

import signal
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from gradient import GRADIENT, OPTIONS, WEIGHT
from records import ORIGINAL, Host
from world import EPOCHS, Trial, World, write_images

TOLERANCE = 1e-4
"""Of a gradient, relative to its norm, in float32."""


class Tried(Trial):
    """A trial whose results are computed when first asked for."""

    twin: "Tried | None" = None
    """The same method on another toolbox."""

    @cached_property
    def training(self) -> dict[str, Any]:
        """Records of X and SAR_X, trained on base classes, and of their tests on new ones.

        At last, "gradient" is what gradient.Probe records.
        """
        x, data = self.host.trainer, self.folder / "data"
        plain, aligned = self.trained("plain"), self.trained("aligned")
        return self.launch(
            {
                "plain": self.command(x, "plain"),
                "aligned": self.command(self.sar, "aligned"),
                "plain-by-plain": self.evaluation(x, plain, "plain", data),
                "plain-by-sar": self.evaluation(self.sar, plain, "zero", data),
                "aligned-by-sar": self.evaluation(self.sar, aligned, "aligned", data),
                "aligned-by-plain": self.evaluation(x, aligned, "plain-other", data),
                GRADIENT: self.command(self.sar, GRADIENT, *OPTIONS, weight=WEIGHT),
            }
        )

    @cached_property
    def zero(self) -> dict[str, Any]:
        """The record of SAR_X with weight 0.

        As X, it draws its own selection of images, with the numbers that CoPrompt draws from, too.
        Behind it, a SAR_X is ended by SIGKILL in its last epoch.
        """
        write_images(self.folder / "data of zero")
        runs = {"zero": self.command(self.sar, "zero", weight=0.0)}
        runs["zero"][1] = str(self.folder / "data of zero")
        if self.host.no_resume:
            records = self.launch(runs)
        else:
            runs["killed"] = self.command(self.sar, "killed")
            records = self.launch(runs, kill=(EPOCHS - 1, 1), status=-signal.SIGKILL)
        zero: dict[str, Any] = records["zero"]
        return zero

    @cached_property
    def after(self) -> dict[str, Any]:
        """Records of the SAR_X that was killed, started again; and, where there is a twin, of X
        tested with what it left there: weights and the selection of images.
        """
        runs = {}
        if not self.host.no_resume and self.zero:
            runs["resumed"] = self.command(self.sar, "killed")
        if self.twin is not None and self.twin.training:
            trained, data = self.twin.trained("plain"), self.twin.folder / "data"
            x = self.host.trainer
            runs["foreign"] = self.evaluation(x, trained, "plain-foreign", data)
        return self.launch(runs)


@dataclass(frozen=True)
class Check:
    """A column: what is claimed, and whether it holds for a trial."""

    title: str
    claim: str
    holds: Callable[[Tried], bool]
    when: Callable[[Tried], bool] = lambda trial: True


def weight_zero(trial: Tried) -> bool:
    plain, zero = trial.training["plain"], trial.zero
    return len(plain["outputs"]) > EPOCHS and plain == zero


def gradient(trial: Tried) -> bool:
    return bool(trial.training[GRADIENT]["error"] < TOLERANCE)


def logged(trial: Tried) -> bool:
    plain, aligned = trial.weights("plain"), trial.weights("aligned")
    tags = (
        trial.logged_scalars("aligned")
        if (trial.trained("aligned") / "tensorboard").exists()
        else set()
    )
    return (
        any(not torch.equal(value, aligned[name]) for name, value in plain.items())
        and all(summary["loss_sar"] > 0 for summary in trial.training["aligned"]["summaries"])
        and trial.log("aligned").count("loss_sar") >= len(trial.training["aligned"]["batches"])
        and "loss_sar" not in trial.log("zero")
        and ("train/lr" in tags) == ("train/loss_sar" in tags)
    )


def same_on_both(trial: Tried) -> bool:
    return trial.twin is not None and trial.training == trial.twin.training


def exchanged(trial: Tried) -> bool:
    tests = trial.training
    return bool(
        tests["plain-by-plain"] == tests["plain-by-sar"]
        and tests["aligned-by-sar"] == tests["aligned-by-plain"]
        and tests["plain-by-plain"] != tests["aligned-by-sar"]
        and (trial.twin is None or trial.after["foreign"] == trial.twin.training["plain-by-plain"])
    )


def resumed(trial: Tried) -> bool:
    straight, again = trial.training["aligned"], trial.after["resumed"]
    steps = len(straight["batches"]) // EPOCHS
    if again["rates"] != straight["rates"][-steps:] or "loss_sar" not in again["summaries"][0]:
        return False
    if trial.dassl:  # which does not save the random state: the batches are others
        return True
    return bool(again["weights"] == straight["weights"] and again["random"] == straight["random"])


def parsed(trial: Tried) -> bool:
    base, new = (trial.training[name]["accuracies"][-1] for name in ("aligned", "aligned-by-sar"))
    found = trial.parsed("aligned")
    by_checkout = trial.parsed_by_checkout("aligned")
    return (
        abs(found["base"] - base) < 1e-4
        and abs(found["new"] - new) < 1e-4
        and (by_checkout is None or abs(by_checkout - new) < 0.06)  # one decimal
    )


def one_line(trial: Tried) -> bool:
    said = trial.refusal(trial.command(trial.sar, "refused", weight=-1.0))
    return said.startswith("error: TRAINER.SAR.WEIGHT is -1.0; expected a finite number >= 0")


CHECKS = (
    Check(
        "Weight 0",
        "SAR_X with weight 0 equals X: every forward output in training and test, every reported "
        "value, the final weights and the final random state, bit for bit",
        weight_zero,
    ),
    Check(
        "Gradient",
        "at the first update, what SAR_X adds to the gradients of all learned tensors is within "
        f"{TOLERANCE:.0e} (norm of the difference, relative) of the gradient of L_SAR by naive "
        "means: X's own model built for base and novel classes, its own text encoder at all "
        "positions, the loss written out, autograd; both in float32",
        gradient,
    ),
    Check(
        "Logged",
        "SAR_X with weight 5 ends in other weights than X; `loss_sar` is in the log of every step "
        "and, where the host writes there, in TensorBoard",
        logged,
    ),
    Check(
        "Same on both",
        "the same few-shot selection (drawn anew by each), batches, rates, outputs, weights and "
        "accuracies on the original Dassl and the embedded toolbox, for X and SAR_X, bit for bit",
        same_on_both,
        when=lambda trial: trial.twin is not None and ORIGINAL in (trial.dassl, trial.twin.dassl),
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
        when=lambda trial: not trial.host.no_resume,
    ),
    Check(
        "Parse",
        "`tools/parse_results.py` finds the accuracies on base and new classes, and so does the "
        "checkout's own `parse_test_res.py`, where there is one, for the new ones",
        parsed,
    ),
    Check(
        "Errors",
        "a wrong `TRAINER.SAR.WEIGHT` ends SAR_X with exit status 1 and one line that says so",
        one_line,
    ),
    Check(
        "Clean",
        "`git status` of the checkout, after all of this, is empty",
        lambda trial: not trial.status(),
    ),
)
REFUSED = Check(
    "Refused",
    "SAR_X ends with exit status 1 and the line given, before it trains",
    lambda trial: trial.refusal(trial.command(trial.sar, "refused")).startswith(
        f"error: {trial.host.refused}"
    ),
)


def checks_of(host: Host) -> tuple[Check, ...]:
    """What is to be checked of a method."""
    return (REFUSED, CHECKS[-1]) if host.refused else CHECKS


def trials(world: World, host: Host) -> list[Tried]:
    """The method on each of its toolboxes."""
    found = [Tried(world, host, dassl) for dassl in host.dassl]
    if len(found) > 1:
        found[0].twin, found[1].twin = found[1], found[0]
    return found
