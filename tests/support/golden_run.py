"""Golden records: what the published trainers do with a tiny CLIP, step by step, as small files.

tests/golden/<method>.json are written by this script from the published checkouts, and by nothing
else; tests/test_golden.py compares the embedded trainers with them, with no checkout at hand.

    SAR_HOSTS=folder make golden        or: python tests/support/golden_run.py HOSTS [METHOD ...]

HOSTS holds Dassl.pytorch and the checkouts. Each method is recorded plain and with SAR, which is
ours on top of the published trainer. Tensors are recorded as two numbers (`digest`).
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zlib import crc32

import torch
from toolbox_mini import CONFIG, arguments, random_clip, write_images
from torch import Tensor

GOLDEN = Path(__file__).parents[1] / "golden"
NOVEL = ("siamese", "ragdoll", "dachshund", "maine coon", "shih tzu", "saint bernard")
SAR = ("TRAINER.SAR.WEIGHT", "3.0", "TRAINER.SAR.SAMPLE_SIZE", "8")
# PromptSRC's fourth term is what is left of the loss.
TERMS = ("loss", "loss_ce", "loss_text", "loss_image", "distance", "loss_sar")
NAMED = 8  # steps whose images are named: two epochs
# What an optimizer is set to and 20 small steps hardly show.
OPTIMIZER = ("momentum", "dampening", "weight_decay", "nesterov")


@dataclass(frozen=True)
class Method:
    """node: of its settings, below TRAINER. published: words that are others in its checkout.

    wide: works with the widths of a real CLIP only, and computes in fp16 whatever it is told.
    """

    checkout: str
    node: str
    options: tuple[str, ...]
    published: dict[str, str] = field(default_factory=dict)
    wide: bool = False
    rate: str = "0.002"


WORDS = "a photo of a"
METHODS = {
    "CoOp": Method("CoOp", "COOP", ("CTX_INIT", WORDS)),
    "CoCoOp": Method("CoOp", "COCOOP", ("CTX_INIT", WORDS)),
    "KgCoOp": Method("KgCoOp/KgCoOp", "COOP", ("CTX_INIT", WORDS, "W", "8.0"), {WORDS: "True"}),
    "MaPLe": Method(
        "multimodal-prompt-learning",
        "MAPLE",
        ("PROMPT_DEPTH", "3"),
        {"fp32": "fp16"},
        wide=True,
        rate="0.0035",
    ),
    "PromptSRC": Method(
        "PromptSRC",
        "PROMPTSRC",
        ("PROMPT_DEPTH_VISION", "3", "PROMPT_DEPTH_TEXT", "2", "GPA_MEAN", "3"),
        {"fp32": "fp16"},
        wide=True,
        rate="0.0035",
    ),
}


def write_world(root: Path, wide: bool) -> None:
    """Pictures in OxfordPets' layout, a random CLIP, and a configuration for 20 steps."""
    from sar.toolbox.clip import CLIP, set_precision

    write_images(root)
    if wide:
        torch.manual_seed(0)
        clip = CLIP(512, 32, 3, 768, 16, 77, 49408, 512, 8, 3)
        set_precision(clip, "fp16")
    else:
        clip = random_clip()
    torch.save(clip.state_dict(), root / "clip.pt")
    backbone = f"MODEL: {{BACKBONE: {{NAME: {root / 'clip.pt'}}}}}"
    (root / "mini.yaml").write_text(f"{CONFIG.partition('TRAINER:')[0]}\n{backbone}\n")
    (root / "novel.txt").write_text("\n".join(NOVEL))


def options(root: Path, output: Path, trainer: str) -> list[str]:
    """The arguments of a run of X or SAR_X in the world at `root`."""
    method = METHODS[trainer.removeprefix("SAR_")]
    settings = ["PREC", "fp32", *method.options]
    settings[::2] = [f"TRAINER.{method.node}.{key}" for key in settings[::2]]
    settings += ["OPTIM.LR", method.rate]
    if trainer.startswith("SAR_"):
        settings += [*SAR, "TRAINER.SAR.NOVEL", str(root / "novel.txt")]
    given = arguments(root, output, trainer=trainer)
    return ["OxfordPets" if word == "MiniPets" else word for word in given] + settings


def digest(tensor: Tensor) -> list[float]:
    """Norm, and a sum weighted so that a permutation or another sign shows."""
    flat = tensor.detach().double().flatten()
    weights = torch.arange(len(flat), dtype=torch.float64).cos()
    return [short(flat.norm()), short(flat @ weights)]


def short(value: Any) -> float:
    """In the nine digits that tell fp32 numbers apart."""
    number = value.item() if isinstance(value, Tensor) else value
    return float(f"{number:.9g}")


def digests(tensors: Mapping[str, Tensor]) -> dict[str, list[float]]:
    return {name: digest(tensor) for name, tensor in sorted(tensors.items())}


def record(trainer: Any) -> dict[str, Any]:
    """Train; what the trainer began with, did in each step, and ended in."""
    learned = {n: p for n, p in trainer.model.named_parameters() if p.requires_grad}
    (group,) = trainer.optim.param_groups
    result: dict[str, Any] = {
        "initial": digests(learned),
        "optimizer": {key: group[key] for key in OPTIMIZER},
    }
    for name, parameter in learned.items():
        if "VPT" in name:  # PromptSRC's order of random numbers is not ours
            generator = torch.Generator().manual_seed(crc32(name.encode()))
            parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * 0.02)
        if name.endswith("linear1.bias"):  # CoCoOp: no hidden unit shall be dead
            parameter.data.fill_(1.0)
    outputs: list[Any] = []
    trainer.model.register_forward_hook(lambda module, args, output: outputs.append(output))
    steps: list[dict[str, Any]] = []
    original = trainer.forward_backward

    def forward_backward(batch: dict[str, Any]) -> dict[str, float]:
        if not steps:
            trainer.set_model_mode("eval")
            with torch.no_grad():
                logits = trainer.model_inference(batch["img"])
            trainer.set_model_mode("train")
            result["logits"] = [[short(value) for value in row] for row in logits]
            result["pixels"] = digest(batch["img"])
        outputs.clear()
        step: dict[str, Any] = {"rate": short(trainer.get_current_lr())}
        summary: dict[str, float] = original(batch)
        terms = summary | published_terms(trainer, outputs[0])
        step |= {name: short(terms[name]) for name in TERMS if name in terms}
        gradients = {name: p.grad.float() for name, p in learned.items()}
        step["gradient"] = short(torch.cat([g.flatten() for g in gradients.values()]).norm())
        if not steps:
            result["gradients"] = digests(gradients)
        if len(steps) < NAMED:
            step["images"] = [Path(path).stem for path in batch["impath"]]
        steps.append(step)
        return summary

    trainer.forward_backward = forward_backward
    torch.manual_seed(5)  # published models draw for parameters that nothing uses
    trainer.train()
    return result | {"steps": steps, "final": digests(learned), "accuracy": short(trainer.test())}


def published_terms(trainer: Any, output: Any) -> dict[str, Any]:
    """Terms of the loss that published trainers do not report, of what their model returned."""
    match output:
        case (_, distance):
            return {"distance": distance}
        case (loss, text, fixed_text, fixed_image, image, _, _):
            settings = trainer.cfg.TRAINER.PROMPTSRC
            return {
                "loss_ce": loss,
                "loss_text": settings.TEXT_LOSS_WEIGHT * (text - fixed_text).abs().mean(),
                "loss_image": settings.IMAGE_LOSS_WEIGHT * (image - fixed_image).abs().mean(),
            }
    return {}


def record_published(hosts: str, method: str, root: Path) -> dict[str, Any]:
    """Both runs of a method by its checkout, all in fp32; for a process of its own."""
    from host_process import configurations, open_checkout

    train = open_checkout(hosts, METHODS[method].checkout)
    if METHODS[method].wide:  # these refuse fp32; without .half() they compute in it
        for kind in (torch.Tensor, torch.nn.Module):
            kind.half = lambda self, *args: self  # type: ignore[method-assign]
    from dassl.config import cfg_default
    from dassl.engine import build_trainer
    from dassl.utils import set_random_seed

    from sar.config import add_sar_config
    from sar.host import CHECKOUT, register

    add_sar_config(cfg_default)
    register(CHECKOUT)
    runs = {}
    for name in (method, f"SAR_{method}"):
        argv = options(root, root / f"host_{name}", name)
        argv = [METHODS[method].published.get(word, word) for word in argv]
        ((_, cfg),) = configurations(train, argv)
        set_random_seed(cfg.SEED)
        with _clip_in_fp32(method) if method == "KgCoOp" else nullcontext():
            trainer = build_trainer(cfg)
        runs[name] = record(trainer)
    return runs


def _clip_in_fp32(method: str) -> AbstractContextManager[Any]:
    """KgCoOp encodes its hand-crafted prompts by the CLIP it loads, which is in fp16."""
    from unittest.mock import patch

    module = sys.modules[f"trainers.{method.lower()}"]
    load = module.load_clip_to_cpu
    return patch.object(module, "load_clip_to_cpu", lambda cfg: load(cfg).float())


def write(hosts: str, method: str) -> None:
    checkout = METHODS[method].checkout.partition("/")[0]
    head = {
        "written by": "tests/support/golden_run.py, from the published checkouts; not to be edited",
        "from": {name: _commit(Path(hosts, name)) for name in (checkout, "Dassl.pytorch")},
        "torch": torch.__version__.partition("+")[0],
    }
    with tempfile.TemporaryDirectory() as folder:
        write_world(Path(folder), METHODS[method].wide)
        runs = record_published(hosts, method, Path(folder))
    GOLDEN.mkdir(exist_ok=True)
    text = ",\n".join(f'"{key}": {_lines(value)}' for key, value in (head | runs).items())
    (GOLDEN / f"{method}.json").write_text(f"{{\n{text}\n}}\n")
    print(f"wrote {GOLDEN / method}.json from {head['from']}")


def _lines(value: Any) -> str:
    """JSON with one line for each step and each part of a run."""
    if not isinstance(value, dict) or "steps" not in value:
        return json.dumps(value)
    parts = [f'"{key}": {json.dumps(part)}' for key, part in value.items() if key != "steps"]
    steps = ",\n  ".join(json.dumps(step) for step in value["steps"])
    return "{\n " + ",\n ".join([*parts, f'"steps": [\n  {steps}]']) + "}"


def _commit(folder: Path) -> str:
    command = ["git", "-C", str(folder), "rev-parse", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def main(hosts: str, *methods: str) -> None:
    if len(methods) == 1:
        write(hosts, methods[0])
        return
    for method in methods or METHODS:  # checkouts have modules of the same names
        subprocess.run([sys.executable, __file__, hosts, method], check=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
