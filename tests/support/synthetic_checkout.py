"""A folder built like a checkout of CoOp, and Python environments to run its scripts in."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SITE = next(path for path in sys.path if (Path(path) / "torch" / "__init__.py").is_file())

FILES = {
    "clip/__init__.py": "",
    "clip/clip.py": "WHOSE = 'checkout'\n_MODELS = {}\ndef _download(url):\n    return url\n",
    "datasets/__init__.py": "",
    "datasets/mine.py": "class Numbers(list):\n    pass\n",
    "trainers/__init__.py": "",
    "trainers/coop.py": """
import json, sys
from clip import clip
from dassl.engine import TRAINER_REGISTRY
from datasets.mine import Numbers

load_clip_to_cpu = _tokenizer = None  # what all that learn prompts have in their modules, and
# model.prompt_learner

@TRAINER_REGISTRY.register()
class CoOp:
    start_epoch = max_epoch = 0  # it only says what it finds

    def __init__(self, cfg):
        self.cfg, self.model = cfg, None

    def train(self):
        from torch.utils.data import DataLoader
        from sar.toolbox.clip import tokenize
        print(json.dumps({
            "bases": [f"{c.__module__}.{c.__name__}" for c in type(self).__mro__],
            "weight": self.cfg.TRAINER.SAR.WEIGHT,
            "epochs": self.cfg.OPTIM.MAX_EPOCH,
            "clip": clip.WHOSE,
            "tokens": tokenize("a cat").shape[1],
            "loaded": sum(len(b) for b in DataLoader(Numbers(range(10)), 2, num_workers=2)),
            "path": sys.path[0],
            "argv": sys.argv[0],
            "main": __import__("__main__").__file__,
        }))
""",
    "train.py": """
import argparse
from dassl.config import get_cfg_default
from dassl.engine import build_trainer
import datasets.mine
import trainers.coop

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--trainer")
    parser.add_argument("--config-file", default="")
    parser.add_argument("opts", nargs=argparse.REMAINDER)
    args = parser.parse_args()
    cfg = get_cfg_default()
    if args.config_file:
        cfg.merge_from_file(args.config_file)
    cfg.merge_from_list([*args.opts, "TRAINER.NAME", args.trainer, "VERBOSE", "False"])
    build_trainer(cfg).train()
""",
    # Only the package: importing it takes no time.
    "whose.py": "import dassl\nprint(dassl.__name__)\n",
    "tools/deep.py": "import dassl\nprint(dassl.__name__)\n",
    "configs/trainers/CoOp/short.yaml": "OPTIM:\n  MAX_EPOCH: 3\n",
}


def make_checkout(folder: Path) -> Path:
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def make_environment(folder: Path) -> Path:
    """A virtual environment with this one's packages, but without this project."""
    command = [sys.executable, "-m", "venv", "--without-pip", str(folder)]
    subprocess.run(command, check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    # Folders named in a .pth file are not searched for further .pth files.
    (packages / "packages.pth").write_text(SITE)
    return folder / "bin" / "python"


def python(
    interpreter: Path | str, *arguments: str | Path, cwd: Path, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Runs Python without any of the caller's search paths."""
    inherited = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "SAR_FAST_TEXT")}
    return subprocess.run(
        [str(interpreter), *map(str, arguments)],
        cwd=cwd,
        env=inherited | environment,
        capture_output=True,
        text=True,
        check=False,
    )
