"""From the trained pocket CLIP to the file that is shipped.

    python tools/pocket/export.py       # what an unfinished training has reached so far

`train.py` exports when it has finished.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[2]


def fold_norms(model: nn.Module) -> dict[str, Tensor]:
    """The state dict of `build_pocket()`: batch norms folded into the convolutions before them."""
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for name, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            conv = name.replace("norm", "conv")
            assert module.running_var is not None
            assert module.running_mean is not None
            factor = module.weight / (module.running_var + module.eps).sqrt()
            weight, bias = state[f"{conv}.weight"], state[f"{conv}.bias"]
            state[f"{conv}.weight"] = weight * factor[:, None, None, None]
            state[f"{conv}.bias"] = (bias - module.running_mean) * factor + module.bias
            for key in list(state):
                if key.startswith(f"{name}."):
                    del state[key]
    return state


def export(clip_model: nn.Module, file: Path) -> None:
    """Write the weights as `load_pocket` reads them: fp16, the token embedding as its factors."""
    state = fold_norms(clip_model)
    state["token_embedding.rows"] = state.pop("token_embedding.rows.weight")
    save_file({name: t.detach().half().contiguous().cpu() for name, t in state.items()}, file)
    print(f"wrote {file} ({file.stat().st_size / 1e6:.1f} MB)")


def main() -> None:
    from trainee import Trainee

    from sar.toolbox.clip.pocket import POCKET_FILE

    parser = argparse.ArgumentParser(description="Export the averaged weights of a training.")
    parser.add_argument("--data", type=Path, default=ROOT / "build" / "pocket", metavar="FOLDER")
    parser.add_argument("--output", type=Path, default=POCKET_FILE)
    args = parser.parse_args()
    average = torch.load(args.data / "state.pt", map_location="cpu", weights_only=True)["average"]
    model = Trainee(len(average["table"]))
    model.load_state_dict(average)
    export(model.clip, args.output)


if __name__ == "__main__":
    main()
