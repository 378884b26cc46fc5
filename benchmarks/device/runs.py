"""What stands around the computation: several processes, pictures."""

import contextlib
import io
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from measuring import NAMES, spread
from parts import Row
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from sar.config import add_sar_config
from sar.host import register
from sar.results import collect
from sar.toolbox import train
from sar.toolbox.data import Datum
from sar.toolbox.data.data_manager import DatasetWrapper
from sar.toolbox.data.transforms import build_transform
from sar.toolbox.utils import load_checkpoint

from .bench import Bench

ROOT = Path(__file__).resolve().parents[2]
EXACT_CONTEXT = 1e-3
LONGEST = 90  # seconds of a command, which takes few where nothing else runs


def torchrun(bench: Bench) -> list[Row]:
    """SAR_CoOp on demo data, by `torchrun` with one process and without it: the same context."""
    alone, launched = bench.folder / "alone", bench.folder / "torchrun"
    with contextlib.redirect_stdout(io.StringIO()):
        train.main(_arguments(bench, alone), add_sar_config, register)
    launcher = ["torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1"]
    launcher += ["--nproc-per-node", "1", "-m", "sar", "train"]
    _run(bench, *launcher, *_arguments(bench, launched))
    contexts = []
    for output in (alone, launched):
        (file,) = (output / "prompt_learner").glob("model.pth.tar-*")
        contexts.append(load_checkpoint(file)["state_dict"]["ctx"].float().cpu())
    off = float((contexts[1] - contexts[0]).norm() / contexts[0].norm())
    backend = "nccl" if bench.cuda else "gloo"
    return [{"backend": backend, "context off by": off, "ok": off <= EXACT_CONTEXT}]


def protocol(bench: Bench) -> list[Row]:
    """Jobs of `sarclip protocol` on the card, two at a time: forked processes that begin CUDA."""
    output = bench.folder / "protocol"
    what = (
        "--datasets",
        "demo_food",
        "--trainers",
        "CoOp,SAR_CoOp",
        "--seeds",
        "1",
        "--shots",
        "2",
    )
    where = ("--output", str(output), *(("--gpus", "0", "--per-gpu", "2") if bench.cuda else ()))
    options = ("OPTIM.MAX_EPOCH", "1", "USE_CUDA", str(bench.cuda))
    _run(bench, "sar", "protocol", "base2new", *what, *where, *options)
    done = sum(record.values.keys() >= {"base", "new"} for record in collect(output).records)
    return [{"trainers": 2, "with base and new": done, "ok": done == 2}]


def _run(bench: Bench, *command: str) -> None:
    """`python -m COMMAND` with this source tree."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    hidden = {} if bench.cuda else {"CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-m", *command],
        env={**os.environ, "PYTHONPATH": path, **hidden},
        capture_output=True,
        text=True,
        timeout=bench.size(LONGEST, 600),
    )
    if done.returncode:
        said = f"{done.stdout[-4000:]}\n{done.stderr[-8000:]}"
        raise RuntimeError(f"{command[0]} ended with status {done.returncode}:\n{said}")


def _arguments(bench: Bench, output: Path) -> list[str]:
    configs = ROOT / "configs"
    return [
        *("--trainer", "SAR_CoOp", "--seed", "1", "--root", str(bench.folder / "data")),
        *("--config-file", str(configs / "trainers" / "CoOp" / "pocket.yaml")),
        *("--dataset-config-file", str(configs / "datasets" / "demo_food.yaml")),
        *("--output-dir", str(output), "USE_CUDA", str(bench.cuda)),
        *("DATASET.NUM_SHOTS", "2", "OPTIM.MAX_EPOCH", "2"),
    ]


def decoding(bench: Bench) -> list[Row]:
    """Images a second, from JPEG files of 500 x 375 pixels to batches of the test transform."""
    files = write_pictures(bench.folder / "pictures", bench.size(100, 4))
    cfg = bench.configuration("CoOp", "fp16", spread(NAMES, 4), ())
    transform = build_transform(cfg, is_train=False)
    cores = os.cpu_count() or 1
    rows = []
    for workers in sorted({0, *((1,) if bench.tiny else (min(4, cores), min(8, cores), cores))}):
        items = [Datum(str(file), 0, 0, "a") for file in files] * bench.size(2 + 2 * workers, 1)
        data = DatasetWrapper(cfg, items, transform)
        loader = DataLoader(data, batch_size=100, num_workers=workers)
        rows.append(_rate(f"Pillow, {workers} workers", partial(list, loader), len(items)))
    raw = [torch.from_numpy(np.fromfile(file, np.uint8)) for file in files]
    rows.append(_rate("torchvision, decoding alone", partial(_decode, raw), len(raw)))
    if bench.cuda:
        on_gpu = partial(_decode, raw, device="cuda")
        _rate("warm-up", on_gpu, len(raw))
        rows.append(_rate("the same on the GPU", on_gpu, len(raw)))
    return rows


def _decode(raw: list[Tensor], **options: str) -> None:
    from torchvision.io import decode_jpeg  # deprecated

    decode_jpeg(raw, **options)


def _rate(way: str, read: Callable[[], object], count: int) -> Row:
    """Not every build of torchvision can decode; that is a result, too."""
    start = time.perf_counter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of torchvision's decoders
            read()
    except Exception as error:
        return {"way": way, "images/s": None, "remark": str(error).splitlines()[0]}
    return {"way": way, "images/s": count / (time.perf_counter() - start)}


def write_pictures(folder: Path, n: int) -> list[Path]:
    """Smooth with some noise, as large as files as photographs are."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    files = [folder / f"{i}.jpg" for i in range(n)]
    for file in files:
        coarse = Image.fromarray(rng.integers(0, 255, (24, 32, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((500, 375), Image.Resampling.BICUBIC), dtype=np.float64)
        noisy = smooth + rng.normal(0, 6, smooth.shape)
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(file, quality=90)
    return files
