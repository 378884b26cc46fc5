"""`import dassl` in a checkout: the embedded toolbox under that name, or the original, repaired."""

import ast
import importlib
import os
import pickle
import subprocess
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hosts_at_hand import CHECKOUTS, HOSTS, needs_checkouts, needs_dassl

from sar.errors import ConfigError, HostError, WeightsError
from sar.host import bridges, dassl, methods
from sar.host.standin import DASSL_INPUT, MissingFromToolbox
from sar.toolbox.config import cfg_default
from sar.toolbox.data.datasets import Datum
from sar.toolbox.optim import build_lr_scheduler, build_optimizer

# A package with the defects of Dassl 0.6.3, for machines without it.
BROKEN = {
    "__init__.py": "__version__ = '0.6.3'",
    "optim/__init__.py": "",
    "optim/lr_scheduler.py": """
from torch.optim.lr_scheduler import CosineAnnealingLR, _LRScheduler
class _BaseWarmupScheduler(_LRScheduler):
    def __init__(self, optimizer, successor, warmup_epoch, rate):
        self.successor, self.warmup_epoch, self.rate = successor, warmup_epoch, rate
        super().__init__(optimizer, -1, False)
    def get_lr(self):
        warm = self.last_epoch < self.warmup_epoch
        return [self.rate] if warm else self.successor.get_last_lr()
    def step(self, epoch=None):
        if self.last_epoch < self.warmup_epoch:
            return super().step(epoch)
        self.successor.step(epoch)
        self._last_lr = self.successor.get_last_lr()
def build_lr_scheduler(optimizer, cfg):
    after = CosineAnnealingLR(optimizer, float(cfg.MAX_EPOCH))
    return _BaseWarmupScheduler(optimizer, after, cfg.WARMUP_EPOCH, cfg.WARMUP_CONS_LR)
""",
    "utils/__init__.py": "",
    "utils/torchtools.py": """
import torch
def load_checkpoint(path):
    return torch.load(path, map_location="cpu")
""",
    "data/__init__.py": "",
    "data/transforms/__init__.py": "",
    "data/transforms/randaugment.py": "import numpy as np",
    "data/datasets/__init__.py": "",
    "data/datasets/base_dataset.py": "import gdown",
}
OPTIM = SimpleNamespace(
    **{"NAME": "sgd", "LR": 0.1, "MOMENTUM": 0.9, "SGD_DAMPNING": 0, "SGD_NESTEROV": False},
    **{"WEIGHT_DECAY": 0.0, "RMSPROP_ALPHA": 0.9, "ADAM_BETA1": 0.9, "ADAM_BETA2": 0.99},
    **{"LR_SCHEDULER": "cosine", "STEPSIZE": (-1,), "GAMMA": 0.1, "MAX_EPOCH": 5},
    **{"WARMUP_EPOCH": 1, "WARMUP_TYPE": "constant", "WARMUP_CONS_LR": 1e-5},
    **{"WARMUP_RECOUNT": True},
)


@pytest.fixture
def process(monkeypatch):
    """Puts back what `provide` changes in the process."""
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    monkeypatch.setattr(Datum, "__module__", Datum.__module__)
    for key in DASSL_INPUT:
        monkeypatch.setitem(cfg_default.INPUT, key, cfg_default.INPUT[key])
    yield monkeypatch
    for name in [name for name in sys.modules if name.partition(".")[0] == "dassl"]:
        del sys.modules[name]


@pytest.fixture
def embedded(process):
    if dassl.locate():
        pytest.skip("Dassl is installed here, so the embedded toolbox does not answer for it")
    assert dassl.provide() == "the embedded toolbox"


@pytest.fixture(params=["stand-in", "real"])
def original(request, process, tmp_path):
    """The original Dassl, or a package that is broken as it is."""
    root = tmp_path
    if request.param == "real":
        if not HOSTS or not find_spec("sklearn"):
            pytest.skip("SAR_HOSTS, with Dassl.pytorch in it, and scikit-learn are needed")
        root = Path(HOSTS, "Dassl.pytorch")
    else:
        for name, text in BROKEN.items():
            (root / "dassl" / name).parent.mkdir(parents=True, exist_ok=True)
            (root / "dassl" / name).write_text(text)
        process.setattr(bridges, "check_requirements", lambda folder: None)
    process.syspath_prepend(root)
    assert dassl.provide() == f"Dassl 0.6.3 in {root / 'dassl'}"
    return root


def test_one_module_under_two_names(embedded):
    import dassl.data.datasets
    import dassl.metrics
    from dassl.data.datasets.base_dataset import Datum as theirs
    from dassl.engine.trainer import SimpleNet, SimpleTrainer, TrainerBase, TrainerX  # noqa: F401
    from dassl.utils import check_isfile, listdir_nohidden  # noqa: F401

    import sar.toolbox.metrics as own

    assert dassl.metrics is own
    assert dassl.engine.TRAINER_REGISTRY is sys.modules["sar.toolbox.engine"].TRAINER_REGISTRY
    assert TrainerX is sys.modules["sar.toolbox.engine"].TrainerX
    assert own.__spec__.name == own.__name__ == "sar.toolbox.metrics"
    assert theirs is Datum is dassl.data.datasets.Datum
    assert sys.modules["sar.toolbox.engine"].__spec__.name == "sar.toolbox.engine"
    assert importlib.reload(own).__name__ == "sar.toolbox.metrics"


def test_names_that_repositories_take_from_deep_inside(embedded):
    """DePT: what Dassl's module has imported itself, and an optimizer that few use."""
    from dassl.engine.trainer import AverageMeter, MetricMeter, SummaryWriter
    from dassl.optim.radam import RAdam

    assert MetricMeter.__module__.startswith("sar.toolbox.utils")
    assert AverageMeter(), SummaryWriter
    with pytest.raises(HostError, match="For the optimizer radam"):
        RAdam([], lr=1.0)


def test_providing_again_changes_nothing(embedded):
    before = list(sys.meta_path)
    assert dassl.provide() == "the embedded toolbox"
    assert sys.meta_path == before
    assert dassl.locate() is None


def test_what_the_toolbox_lacks_is_said(embedded):
    with pytest.raises(ModuleNotFoundError, match=r"dassl\.modeling is not in the embedded"):
        import dassl.modeling
    with pytest.raises(MissingFromToolbox, match=r"github\.com/KaiyangZhou"):
        import dassl.engine.da.adda  # noqa: F401
    from dassl.engine import TrainerXU

    with pytest.raises(HostError, match="unlabelled"):
        type("FixMatch", (TrainerXU,), {})
    for private in ("dassl.clip", "dassl.trainers"):  # parts of the toolbox, not of Dassl
        with pytest.raises(MissingFromToolbox):
            importlib.import_module(private)


def test_few_shot_selections_are_pickled_for_dassl_too(embedded, tmp_path):
    (tmp_path / "x.png").touch()
    importlib.import_module("dassl.data.datasets")
    data = pickle.dumps([Datum(str(tmp_path / "x.png"), 3, 0, "cat")])
    assert b"dassl.data.datasets.base_dataset" in data
    assert b"sar." not in data
    assert pickle.loads(data)[0].classname == "cat"


def test_schedules_of_the_original(original):
    theirs = importlib.import_module("dassl.optim.lr_scheduler").build_lr_scheduler
    assert rates(theirs) == rates(build_lr_scheduler)


@pytest.mark.parametrize("saved_by", ["the original", "the embedded toolbox"])
def test_a_resumed_schedule_steers_the_optimizer(original, saved_by, tmp_path):
    theirs = importlib.import_module("dassl.optim.lr_scheduler").build_lr_scheduler
    load = importlib.import_module("dassl.utils.torchtools").load_checkpoint
    builder = theirs if saved_by == "the original" else build_lr_scheduler
    optimizer, scheduler = start(builder)
    for _ in range(3):
        advance(optimizer, scheduler)
    state = {"optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict()}
    torch.save(state, tmp_path / "file")

    optimizer, scheduler = start(theirs)
    state = load(str(tmp_path / "file"))
    optimizer.load_state_dict(state["optimizer"])
    scheduler.load_state_dict(state["scheduler"])
    rest = [rate_of(optimizer)]
    for _ in range(3):
        advance(optimizer, scheduler)
        rest.append(rate_of(optimizer))
    assert rest == rates(theirs)[3:7]


def start(builder):
    optimizer = build_optimizer(torch.nn.Linear(1, 1), OPTIM)
    return optimizer, builder(optimizer, OPTIM)


def advance(optimizer, scheduler):
    optimizer.step()
    scheduler.step()


def rate_of(optimizer):
    return optimizer.param_groups[0]["lr"]


def rates(builder):
    optimizer, scheduler = start(builder)
    found = []
    for _ in range(8):
        found.append(rate_of(optimizer))
        advance(optimizer, scheduler)
    return found


def test_only_dassl_reads_objects_from_checkpoints(original, tmp_path):
    load = importlib.import_module("dassl.utils.torchtools").load_checkpoint
    torch.save({"object": SimpleNamespace(a=1)}, tmp_path / "objects")
    assert load(str(tmp_path / "objects"))["object"].state == {"a": 1}
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / "objects")


def test_optional_packages_are_missed_only_when_used(original):
    importlib.import_module("dassl.data.datasets.base_dataset")
    module = sys.modules["dassl.data.datasets.base_dataset"]
    if find_spec("gdown"):
        pytest.skip("gdown is installed here")
    assert "gdown" not in sys.modules
    with pytest.raises(HostError, match="pip install gdown"):
        module.gdown.download("https://example.org")


def test_numpys_int(original):
    module = importlib.import_module("dassl.data.transforms.randaugment")
    assert module.np.array([1.7]).astype(module.np.int).tolist() == [1]
    assert not hasattr(np, "int")


def test_numbers_and_switches_in_configurations():
    """In a yacs of its own, so that other tests have the one that is installed."""
    spec = find_spec("yacs.config")
    assert spec is not None
    assert spec.loader is not None
    yacs: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(yacs)
    node = {"WEIGHT": 1.0, "CTX_INIT": False, "N_CTX": 4, "NAME": ""}
    cfg = yacs.CfgNode({"TRAINER": node})
    with pytest.raises(ValueError, match="Type mismatch"):
        cfg.merge_from_list(["TRAINER.WEIGHT", "0"])
    bridges.values(yacs)
    cfg.merge_from_list(["TRAINER.WEIGHT", "0", "TRAINER.CTX_INIT", "a photo of a"])
    assert (repr(cfg.TRAINER.WEIGHT), cfg.TRAINER.CTX_INIT) == ("0.0", True)
    cfg.merge_from_other_cfg(yacs.CfgNode({"TRAINER": {"WEIGHT": 2, "CTX_INIT": ""}}))
    assert (repr(cfg.TRAINER.WEIGHT), cfg.TRAINER.CTX_INIT) == ("2.0", False)
    for key, value in (("WEIGHT", "x"), ("N_CTX", "1.5"), ("NAME", "1"), ("WEIGHT", "True")):
        with pytest.raises(ValueError, match="Type mismatch"):
            cfg.merge_from_list([f"TRAINER.{key}", value])


def test_a_trainer_that_needs_its_own_dassl():
    class ProGrad:
        def check_cfg(self, cfg):
            pass

    module = ModuleType("trainers.prograd")
    module.ProGrad = ProGrad
    repair = methods.own_dassl("ProGrad", "backward", "Dassl.ProGrad.pytorch")
    repair(module)
    with pytest.raises(HostError, match=r"PYTHONPATH=\.\./Dassl\.ProGrad\.pytorch"):
        ProGrad().check_cfg(None)
    ProGrad.backward = lambda self: None
    ProGrad.check_cfg = lambda self, cfg: "checked"
    repair(module)
    assert ProGrad().check_cfg(None) == "checked"


def test_adam_of_tcp_divides_by_no_zero():
    module = ModuleType("trainers.tcp")
    module.build_optimizer = lambda parameters, kind: kind(parameters, lr=0.1)
    methods.adam(module)
    parameter = torch.nn.Parameter(torch.zeros(2, dtype=torch.float16))
    parameter.grad = torch.tensor([1e-5, 1.0], dtype=torch.float16)
    module.build_optimizer([parameter], torch.optim.Adam).step()
    assert parameter.isfinite().all()
    assert "eps" not in module.build_optimizer([parameter], torch.optim.SGD).param_groups[0]


def test_atprompts_last_test_on_other_toolboxes():
    class SimpleTrainer:
        def test(self, split=None):
            return split

    class TheirOwn(SimpleTrainer):
        def test(self, split=None, is_final=False):
            return is_final

    module = ModuleType("dassl.engine.trainer")
    module.SimpleTrainer = SimpleTrainer
    bridges.final_test(module)
    trainer: Any = SimpleTrainer()
    assert (trainer.test(is_final=True), trainer.test("val")) == (None, "val")
    module.SimpleTrainer = TheirOwn
    bridges.final_test(module)
    assert TheirOwn().test(is_final=True) is True


def test_the_names_that_lasp_asks_for():
    class LASP:
        dm = SimpleNamespace(dataset=SimpleNamespace(all_classnames=["a", "b"]))

        def build_model(self):
            return self.dm.dataset.all_class_names

    methods.all_class_names(SimpleNamespace(LASP=LASP))  # type: ignore[arg-type]
    LASP().build_model()
    assert LASP.dm.dataset.all_class_names == ["a", "b"]


def test_what_is_imported_already_is_repaired(process, tmp_path):
    folder = tmp_path / "dassl"
    for name, text in BROKEN.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    process.setattr(bridges, "check_requirements", lambda folder: None)
    process.syspath_prepend(tmp_path)
    theirs = importlib.import_module("dassl.optim.lr_scheduler").build_lr_scheduler
    with pytest.raises(TypeError):
        rates(theirs)
    dassl.provide()
    assert rates(theirs) == rates(build_lr_scheduler)


def test_dassl_without_scikit_learn(process, tmp_path):
    (tmp_path / "dassl").mkdir()
    (tmp_path / "dassl" / "__init__.py").touch()
    process.syspath_prepend(tmp_path)
    process.setattr(bridges, "find_spec", lambda name: None)
    with pytest.raises(HostError, match="pip install scikit-learn"):
        dassl.provide()
    assert not any(isinstance(finder, dassl._Finder) for finder in sys.meta_path)


def test_a_folder_that_happens_to_be_called_dassl(process, tmp_path):
    (tmp_path / "dassl").mkdir()
    process.syspath_prepend(tmp_path)
    assert dassl.locate() is None


def test_backbones_of_a_checkout(tmp_path):
    def download(url, root="~"):
        if url != "there":
            raise OSError("no route to host")
        return url

    module = ModuleType("clip.clip")
    module._MODELS, module._download = {"ViT-B/16": "https://example.org/ViT-B-16.pt"}, download
    bridges.clip_weights(module)
    file = tmp_path / "mine.pt"
    file.touch()
    assert module._download(module._MODELS[str(file)]) == str(file)
    assert module._download("there") == "there"
    assert list(module._MODELS) == ["ViT-B/16"]
    with pytest.raises(ConfigError, match="sarclip train"):
        module._MODELS["pocket"]
    with pytest.raises(WeightsError, match=r"no route.*\n?.*~/.cache/clip"):
        module._download(module._MODELS["ViT-B/16"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="with CUDA, .cuda() is left alone")
def test_cuda_without_cuda(monkeypatch):
    for kind in (torch.Tensor, torch.nn.Module):
        monkeypatch.setattr(kind, "cuda", kind.cuda)
    bridges.devices(ModuleType("trainers"))
    tensor, module = torch.zeros(1), torch.nn.Linear(1, 1)
    assert tensor.cuda(non_blocking=True) is tensor
    assert module.cuda() is module


def test_precisions_that_cannot_work(monkeypatch):
    class KgCoOp:
        cfg = SimpleNamespace(TRAINER={"COOP": SimpleNamespace(PREC="amp")})
        trained = False

        def before_train(self):
            self.trained = True

    class MaPLe(KgCoOp):
        def check_cfg(self, cfg):
            self.trained = cfg.TRAINER["MAPLE"].PREC

    for module in (KgCoOp, MaPLe):
        name = f"trainers.{module.__name__.lower()}"
        for repair in bridges.REPAIRS[name]:
            checkout: Any = SimpleNamespace(KgCoOp=KgCoOp, MaPLe=MaPLe)
            repair(checkout)
    trainer = KgCoOp()
    with pytest.raises(ConfigError, match=r"TRAINER\.COOP\.PREC is 'amp'.*fp16 or fp32"):
        trainer.before_train()
    assert not trainer.trained
    trainer.cfg.TRAINER["COOP"].PREC = "fp32"
    trainer.before_train()
    assert trainer.trained
    amp = SimpleNamespace(TRAINER={"MAPLE": SimpleNamespace(PREC="amp")})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"expected fp16$"):
        MaPLe().check_cfg(amp)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    trainer = MaPLe()
    trainer.check_cfg(amp)
    assert trainer.trained == "amp"


def test_several_gpus(monkeypatch):
    class CoCoOp:
        cfg = None

        def before_train(self):
            return "trains"

    (repair,) = bridges.REPAIRS["trainers.cocoop"]
    checkout: Any = SimpleNamespace(CoCoOp=CoCoOp)
    repair(checkout)
    assert CoCoOp().before_train() == "trains"
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ConfigError, match="CUDA_VISIBLE_DEVICES"):
        CoCoOp().before_train()


def parsed(file: Path) -> ast.AST:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # at invalid escape sequences
        return ast.parse(file.read_text(encoding="utf-8"))


def imports_of(folder: Path) -> set[tuple[str, str]]:
    """(module, name) of every import of Dassl in a folder of sources."""
    found = set()
    for file in folder.rglob("*.py"):
        for node in ast.walk(parsed(file)):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("dassl"):
                found |= {(node.module, alias.name) for alias in node.names}
            elif isinstance(node, ast.Import):
                found |= {(a.name, "__name__") for a in node.names if a.name.startswith("dassl")}
    return found


@needs_checkouts
@pytest.mark.parametrize("checkout", CHECKOUTS.values())
def test_everything_a_checkout_imports_is_there(embedded, checkout):
    wanted = imports_of(Path(HOSTS, checkout))
    assert len(wanted) > 15
    missing = [
        (module, name)
        for module, name in sorted(wanted)
        if not hasattr(importlib.import_module(module), name)
    ]
    assert not missing


READ_CONFIGS = """
import json, sys
from argparse import Namespace
from collections import defaultdict
from pathlib import Path
sys.path.insert(0, "")
from sar.host.dassl import provide
provide()
import train
for kind in ("trainers/*", "datasets"):
    for file in sorted(Path("configs").glob(f"{kind}/*.yaml")):
        args = Namespace(**dict.fromkeys(
            "root output_dir resume seed source_domains target_domains transforms trainer "
            "backbone head dataset_config_file".split()), config_file=str(file), opts=[])
        try:
            train.setup_cfg(args)
            print(f"{file}: read")
        except Exception as error:
            print(f"{file}: {error!r}")
"""


@needs_dassl
@pytest.mark.slow
@pytest.mark.parametrize("checkout", CHECKOUTS.values())
def test_configurations_of_a_checkout_are_read_alike(checkout):
    """Its train.py reads on the embedded toolbox what it reads on Dassl (KgCoOp's: not all)."""

    def read(*paths):
        done = subprocess.run(
            [sys.executable, "-c", READ_CONFIGS],
            cwd=Path(HOSTS, checkout),
            env=os.environ
            | {
                "PYTHONDONTWRITEBYTECODE": "1",
                "PYTHONPATH": os.pathsep.join([*map(str, paths), os.environ.get("PYTHONPATH", "")]),
            },
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    embedded = read()
    assert ".yaml: read" in embedded
    assert embedded == read(Path(HOSTS, "Dassl.pytorch"))
