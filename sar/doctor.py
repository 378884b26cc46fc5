"""`sarclip doctor`: what is here, what is missing, and what to do about it.

Every check may meet something broken: whatever it raises becomes a line of the table.
"""

import hashlib
import importlib
import os
import platform
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sar.command_line import extras
from sar.host import hook
from sar.storage.files import expanded

WEIGHTS = Path("~/.cache/clip/ViT-B-16.pt")  # where OpenAI's package and the checkouts keep them
WEIGHTS_SHA256 = "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f"
# What training imports, beside torch and torchvision: module -> what pip calls it.
PACKAGES = {
    "numpy": "numpy",
    "PIL": "pillow",
    "yacs": "yacs",
    "safetensors": "safetensors",
    "tqdm": "tqdm",
    "tensorboard": "tensorboard",
}


class Verdict(Enum):
    """The verdict of a check; the value is how it is shown."""

    GOOD = "[green]ok[/]"
    NOTE = "[yellow]note[/]"
    BAD = "[red]bad[/]"  # training cannot run


@dataclass(frozen=True)
class Finding:
    """One line of the table."""

    what: str
    found: str
    advice: str = ""
    verdict: Verdict = Verdict.GOOD


Check = Callable[[], Iterable[Finding]]


def main(root: Path | None = None) -> bool:
    """Prints the table and returns whether training can run; `root` holds the datasets."""
    findings = list(examine(root))
    table = Table("", "what", "found", "what to do", title="sarclip doctor")
    for finding in findings:
        texts = (finding.what, finding.found, finding.advice)
        table.add_row(finding.verdict.value, *map(escape, texts))
    console = Console(highlight=False)
    console.print(table)
    bad = [finding.what for finding in findings if finding.verdict is Verdict.BAD]
    console.print(
        f"Training cannot run before this is set right: {escape(', '.join(bad))}."
        if bad
        else "Training can run. Without any dataset or weights: sarclip protocol base2new"
    )
    return not bad


def examine(root: Path | None = None) -> Iterator[Finding]:
    """All findings, in the order in which they should be read."""
    checkout = hook.checkout_of(os.path.join(os.getcwd(), "train.py"))
    needed: dict[str, Check] = {
        "Python": _python,
        "PyTorch": _torch,
        "torchvision": _torchvision,
        "packages": _packages,
        "trainers": _trainers,
    }
    others: dict[str, Check] = {
        "device": _device,
        "extras": _extras,
        "Dassl": lambda: _dassl(checkout),
        "checkout": lambda: _checkout(checkout),
        "CLIP weights": _weights,
        "datasets": lambda: _datasets(root),
        "novel classes": _novel,
        "python train.py": _switch,
        "SAR_FAST_TEXT": _fast_text,
    }
    for what, check in (needed | others).items():
        try:
            yield from check()
        except Exception as error:  # that is what it is for
            verdict = Verdict.BAD if what in needed else Verdict.NOTE
            yield Finding(what, _text(error), _what_to_do(error), verdict)


def _text(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def _what_to_do(error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name:
        package = error.name.partition(".")[0]
        return f"pip install {PACKAGES.get(package, package)}"
    return ""


def _python() -> Iterator[Finding]:
    found = f"{platform.python_version()} in {sys.prefix}"
    if sys.version_info >= (3, 14):
        yield Finding("Python", found, "tested with 3.10 to 3.13 only", Verdict.NOTE)
    else:
        yield Finding("Python", found)


def _torch() -> Iterator[Finding]:
    yield Finding("PyTorch", importlib.import_module("torch").__version__)


def _torchvision() -> Iterator[Finding]:
    try:
        yield Finding("torchvision", importlib.import_module("torchvision").__version__)
    except ModuleNotFoundError:
        raise
    except Exception as error:
        advice = (
            "it was built for another PyTorch; install both from one place: "
            "pip install --force-reinstall torch torchvision (see pytorch.org/get-started)"
        )
        yield Finding("torchvision", f"does not import. {_text(error)}", advice, Verdict.BAD)


def _packages() -> Iterator[Finding]:
    fine = []
    for module, package in PACKAGES.items():
        try:
            importlib.import_module(module)
        except Exception as error:
            yield Finding(package, _text(error), f"pip install --upgrade {package}", Verdict.BAD)
        else:
            fine.append(package)
    yield Finding("packages", ", ".join(fine))


def _trainers() -> Iterator[Finding]:
    """Imports the embedded toolbox as a training run does, CLIP's tokenizer included."""
    from sar.host import register

    names = register()
    yield Finding("trainers", f"{', '.join(sorted(names))} in the embedded toolbox")


def _extras() -> Iterator[Finding]:
    lacking = extras.missing()
    here = [name for name in extras.EXTRAS if name not in lacking]
    advice = f"for sarclip's other commands: {extras.install(','.join(lacking))}" if lacking else ""
    verdict = Verdict.NOTE if lacking else Verdict.GOOD
    yield Finding("extras", ", ".join(here) or "none", advice, verdict)


def _device() -> Iterator[Finding]:
    torch: Any = importlib.import_module("torch")
    built = f"PyTorch is built for CUDA {torch.version.cuda}" if torch.version.cuda else ""
    if not torch.cuda.is_available():
        driver = Path("/proc/driver/nvidia/version").exists()
        advice = "the GPU driver is there: install a PyTorch that fits it" if driver else ""
        advice = advice or "fine for the demo; ViT-B/16 is slow, so set SAR_FAST_TEXT=1"
        found = f"CPU with {os.cpu_count()} cores. {built or 'PyTorch is built without CUDA'}"
        yield Finding("device", found, advice, Verdict.NOTE)
        return
    cards = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    names = ", ".join(f"{card.name} ({card.total_memory / 2**30:.0f} GiB)" for card in cards)
    if len(cards) > 1:
        advice = "CUDA_VISIBLE_DEVICES=0: the checkouts' trainers break when spread over GPUs"
        yield Finding("device", f"{names}. {built}", advice, Verdict.NOTE)
    else:
        yield Finding("device", f"{names}. {built}")


def _dassl(checkout: str) -> Iterator[Finding]:
    from sar.errors import HostError
    from sar.host import bridges, dassl

    if checkout:
        sys.path.insert(0, checkout)  # as for a script of the checkout
    try:
        folder = dassl.locate()
        if folder is None:
            yield Finding("Dassl", "not installed; the embedded toolbox stands in for it")
            return
        found = f"original {importlib.import_module('dassl').__version__} in {folder}"
        try:
            bridges.check_requirements(folder)
        except HostError as error:
            verdict = Verdict.BAD if checkout else Verdict.NOTE
            yield Finding("Dassl", found, str(error), verdict)
        else:
            yield Finding("Dassl", found)
    finally:
        if checkout:
            sys.path.remove(checkout)


def _checkout(checkout: str) -> Iterator[Finding]:
    if not checkout:
        where = "none here; the embedded toolbox needs none"
        yield Finding("checkout", where, "run this inside one to see its trainers")
        return
    names, ours = [], []
    for file in Path(checkout).glob("*/*.py"):
        text = file.read_text("utf-8", errors="replace")
        found = re.findall(r"^@TRAINER_REGISTRY\.register\(\)\s*class (\w+)", text, re.MULTILINE)
        names += found
        ours += [f"SAR_{name}" for name in found if "prompt_learner" in text]
    yield Finding("checkout", f"{checkout} with {', '.join(sorted(names)) or 'no trainers'}")
    yield Finding("its SAR trainers", ", ".join(sorted(ours)) or "none", "sarclip run train.py ...")


def _weights() -> Iterator[Finding]:
    path = expanded(WEIGHTS)
    others = sorted(file.name for file in path.parent.glob("*.pt") if file != path)
    also = f"; also {', '.join(others)}" if others else ""
    if not path.is_file():
        advice = "downloaded at the first use of ViT-B/16; the pocket CLIP is embedded"
        yield Finding("CLIP weights", f"no {WEIGHTS}{also}", advice, Verdict.NOTE)
        return
    if hashlib.sha256(path.read_bytes()).hexdigest() == WEIGHTS_SHA256:
        yield Finding("CLIP weights", f"{WEIGHTS}{also}")
    else:
        found = f"{WEIGHTS} is damaged or not OpenAI's: {path.stat().st_size / 1e6:.0f} MB{also}"
        yield Finding("CLIP weights", found, "delete it; it is downloaded again", Verdict.NOTE)


def _datasets(root: Path | None) -> Iterator[Finding]:
    from sar.data.layouts import LAYOUTS

    if root is None:
        yield Finding("datasets", "demo data (embedded)", "--root DIR to look for others in DIR")
        return
    if not root.is_dir():
        yield Finding("datasets", f"there is no folder {root}", "check --root", Verdict.NOTE)
        return
    layouts = LAYOUTS.values()
    status = f"sarclip data status --root {root}"
    there = [layout for layout in layouts if (root / layout.folder).is_dir()]
    for layout in there:
        folder = root / layout.folder
        absent = [part for part in (*layout.images, *layout.lists) if not (folder / part).exists()]
        if absent:
            yield Finding(layout.name, f"{folder} lacks {', '.join(absent)}", status, Verdict.NOTE)
        else:
            yield Finding(layout.name, str(folder))
    missing = [layout.name for layout in layouts if layout not in there]
    if missing:
        yield Finding("datasets", f"not in {root}: {', '.join(missing)}", status, Verdict.NOTE)


def _novel() -> Iterator[Finding]:
    from sar.classes.novel_names import shipped_datasets

    yield Finding("novel classes", f"shipped for {', '.join(shipped_datasets())}")


def _switch() -> Iterator[Finding]:
    from sar.host import switch

    state, folder = switch.status()
    if state is switch.Status.ENABLED:
        yield Finding("python train.py", f"knows SAR_X in checkouts ({folder})")
    elif state in (switch.Status.OUTDATED, switch.Status.INCOMPLETE):
        found = f"{state.value} ({folder})"
        yield Finding("python train.py", found, "sarclip host enable", Verdict.NOTE)
    else:
        advice = "sarclip run train.py ..., or once: sarclip host enable"
        yield Finding("python train.py", "does not know SAR_X", advice)


def _fast_text() -> Iterator[Finding]:
    from sar.host.fast_text import VARIABLE, wanted

    state = "on" if wanted() else "off"
    yield Finding(VARIABLE, f"{state} (1: checkouts' own text encoder is sped up)")
