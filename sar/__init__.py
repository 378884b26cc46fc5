"""SAR, similarity alignment regularization for prompt learning on CLIP, as a plug-in."""

from pathlib import Path

__version__ = "0.1.0"

# `trainers/` and `configs/` are installed as `sar.trainers` and `sar.configs`. In a source tree and
# an editable install they lie beside this package, where only a second search path finds them.
_root = Path(__file__).resolve().parent.parent
if (_root / "trainers" / "sar_coop.py").is_file():
    __path__.append(str(_root))
