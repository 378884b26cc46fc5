"""A host toolbox with a small random CLIP and a small dataset, for the tests of the SAR mixin.

The host is the embedded toolbox, or the checkout ``$SAR_TEST_CHECKOUT`` (by default CoOp) under
``$SAR_HOSTS`` if ``SAR_TEST_HOST`` is ``checkout`` (`run_on_checkout` runs tests that way, in a
process of their own).
"""

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import nn
from yacs.config import CfgNode

from sar.config import add_sar_config
from sar.host import CHECKOUT, EMBEDDED, register
from sar.toolbox.registered import add_registered_keys

BASE = ["abyssinian", "american_bulldog", "forget-me-not", "Boeing 737-800", "pad thai", "crêpe"]
NOVEL = ["siamese cat", "basset hound", "foxglove", "Airbus A320", "red curry", "bird of paradise"]
ON_CHECKOUT = os.environ.get("SAR_TEST_HOST") == "checkout"
HOST = CHECKOUT if ON_CHECKOUT else EMBEDDED
_trainers = "trainers" if ON_CHECKOUT else "sar.toolbox.trainers"


def _prepare_checkout(folder: Path) -> None:
    """Makes a checkout and Dassl importable."""
    from sar.host.dassl import provide

    checkout = os.environ.get("SAR_TEST_CHECKOUT", "CoOp")
    sys.path[:0] = [str(folder / checkout), str(folder / "Dassl.pytorch")]
    assert provide().startswith("Dassl")


if ON_CHECKOUT:
    _prepare_checkout(Path(os.environ["SAR_HOSTS"]))

coop = importlib.import_module(f"{_trainers}.coop")
# Checkouts have a CLIP loader in every module, the embedded toolbox has one for all.
_modules: list[Any] = [
    importlib.import_module(f"{_trainers}.{name}")
    for name in ("prompt_learning", "coop", "cocoop", "kgcoop")
    if find_spec(f"{_trainers}.{name}")
]
_loading = [module for module in _modules if hasattr(module, "load_clip_to_cpu")]
tokenize = importlib.import_module("clip" if ON_CHECKOUT else "sar.toolbox.clip").tokenize
tokenizer = _loading[0]._tokenizer
encode = tokenizer.encode
engine = importlib.import_module(f"{HOST}.engine")
_data = importlib.import_module("dassl.data.datasets" if ON_CHECKOUT else "sar.toolbox.data")
_config = importlib.import_module(f"{HOST}.config")
clip_model = (
    importlib.import_module("clip.model")
    if ON_CHECKOUT
    else importlib.import_module("sar.toolbox.clip.openai").model
)
register(HOST)


class TinyImages(_data.DatasetBase):  # type: ignore[name-defined]
    """Four training and two test images of plain colour for each class of BASE."""

    def __init__(self, cfg: CfgNode) -> None:
        def items(part: str, n: int) -> list[Any]:
            return [
                _data.Datum(str(self._image(cfg, part, label, i)), label, classname=name)
                for label, name in enumerate(BASE)
                for i in range(n)
            ]

        super().__init__(train_x=items("train", 4), val=items("test", 2), test=items("test", 2))

    @staticmethod
    def _image(cfg: CfgNode, part: str, label: int, i: int) -> Path:
        path = Path(cfg.DATASET.ROOT) / f"{part}_{label}_{i}.png"
        if not path.exists():
            Image.new("RGB", (32, 32), (40 * label, 60 * i, 255 - 40 * label)).save(path)
        return path


_data.DATASET_REGISTRY.register(TinyImages)


def tiny_clip() -> Any:
    """A random CLIP of 64-wide text and image transformers, in fp16 like OpenAI's."""
    return deepcopy(_tiny_clip())


@cache
def _tiny_clip() -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = clip_model.CLIP(32, 32, 2, 64, 8, 77, 49408, 64, 2, 3).eval()
        for block in model.transformer.resblocks:  # larger weights, so that positions interact
            nn.init.normal_(block.attn.in_proj_weight, std=0.3)
    clip_model.convert_weights(model)
    return model


@contextmanager
def tiny_clip_in_host() -> Iterator[None]:
    originals = [module.load_clip_to_cpu for module in _loading]
    for module in _loading:
        module.load_clip_to_cpu = lambda cfg: tiny_clip() if ON_CHECKOUT else tiny_clip().float()
        if hasattr(module, "CUSTOM_TEMPLATES"):
            module.CUSTOM_TEMPLATES["TinyImages"] = "a photo of a {}."
    try:
        yield
    finally:
        for module, original in zip(_loading, originals, strict=True):
            module.load_clip_to_cpu = original


def tiny_config(folder: Path, trainer: str = "SAR_CoOp", **options: Any) -> CfgNode:
    """A configuration for two epochs; `options` are keys with ``__`` for a dot."""
    cfg = _config.get_cfg_default()
    add_sar_config(cfg)
    if not ON_CHECKOUT:
        add_registered_keys(cfg)
    else:
        cfg.TRAINER.COOP = CfgNode({"N_CTX": 4, "CSC": False, "CTX_INIT": "", "PREC": "fp16"})
        cfg.TRAINER.COOP.update({"CLASS_TOKEN_POSITION": "end", "W": 1.0})
        cfg.TRAINER.COCOOP = CfgNode({"N_CTX": 4, "CTX_INIT": "", "PREC": "fp16"})
    novel, described = folder / "novel.txt", folder / "descriptions.json"
    novel.write_text("\n".join(NOVEL), encoding="utf-8")
    sentences = {name: [f"a small {name}.", f"the {name}, seen from above."] for name in BASE}
    described.write_text(json.dumps(sentences), encoding="utf-8")
    settings = {
        "TRAINER.NAME": trainer,
        "TRAINER.COOP.PREC": "fp32",
        "TRAINER.COOP.N_CTX": 4,
        "TRAINER.COOP.CTX_INIT": "",
        "TRAINER.COCOOP.PREC": "fp32",
        "TRAINER.COCOOP.N_CTX": 4,
        "TRAINER.SAR.NOVEL": str(novel),
        "TRAINER.SAR.SAMPLE_SIZE": 8,
        "DATASET.NAME": "TinyImages",
        "DATASET.ROOT": str(folder),
        "DATALOADER.NUM_WORKERS": 0,
        "DATALOADER.TRAIN_X.BATCH_SIZE": 8,
        "DATALOADER.TEST.BATCH_SIZE": 8,
        "INPUT.SIZE": (32, 32),
        "INPUT.TRANSFORMS": ["normalize"],
        "MODEL.BACKBONE.NAME": "ViT-B/16",
        "OPTIM.NAME": "sgd",
        "OPTIM.LR": 0.05,
        "OPTIM.MAX_EPOCH": 2,
        "OPTIM.LR_SCHEDULER": "cosine",
        "SEED": 1,
        "USE_CUDA": False,
        "VERBOSE": False,
        "OUTPUT_DIR": str(folder / "output" / trainer),
    }
    if not ON_CHECKOUT:
        settings |= {"TRAINER.AAPE.DESCRIPTIONS": str(described), "TRAINER.AAPE.PREC": "fp32"}
    settings |= {key.replace("__", "."): value for key, value in options.items()}
    cfg.merge_from_list([part for item in settings.items() for part in item])
    return cfg


def tiny_trainer(folder: Path, trainer: str = "SAR_CoOp", **options: Any) -> Any:
    """A trainer of the host, ready to train, seeded as train.py does it."""
    torch.manual_seed(1)
    with tiny_clip_in_host():
        built = engine.build_trainer(tiny_config(folder, trainer, **options))
    for name, parameter in built.model.named_parameters():
        if name.endswith("meta_net.linear1.bias"):  # CoCoOp's few hidden units shall not be dead
            parameter.data.fill_(1.0)
        elif parameter.requires_grad and not parameter.any():  # AAPE starts as zero-shot CLIP
            parameter.data.normal_(std=3.0, generator=torch.Generator().manual_seed(0))
    return built


def started(trainer: Any, step: int = 0) -> Any:
    """Brings a new trainer to the beginning of step `step`, as a host's training loop does."""
    trainer.before_train()
    trainer.set_model_mode("train")
    trainer.epoch, trainer.batch_idx, trainer.num_batches = 0, step, 100
    return trainer


def update(trainer: Any, batch: Any) -> dict[str, Any]:
    """The gradients that a training step has used, by learned parameter; nothing has moved."""
    learned = {n: p for n, p in trainer.model.named_parameters() if p.requires_grad}
    before = {n: p.detach().clone() for n, p in learned.items()}
    trainer.forward_backward(batch)
    for name, parameter in learned.items():
        parameter.data.copy_(before[name])
    return {name: parameter.grad.clone() for name, parameter in learned.items()}


def host_learner(trainer: Any, names: list[str]) -> Any:
    """The prompt learner that the host itself builds for `names`, with the trainer's context."""
    model = tiny_clip()
    if trainer.cfg.TRAINER.COOP.PREC != "fp16":
        model.float()
    learner = coop.PromptLearner(trainer.cfg, names, model)
    learner.ctx = trainer.model.prompt_learner.ctx
    return learner


def run_on_checkout(checkout: str, *tests: str) -> None:
    """Runs test files with a checkout under ``$SAR_HOSTS`` as the host; they must pass."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-x", *tests],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"SAR_TEST_HOST": "checkout", "SAR_TEST_CHECKOUT": checkout},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-4000:]
