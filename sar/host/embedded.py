"""The embedded toolbox with SAR in it: the configuration of a run, read back."""

from yacs.config import CfgNode

from sar.config import add_sar_config
from sar.host import register
from sar.toolbox.config import cfg_from_dump, get_cfg_default
from sar.toolbox.registered import add_registered_keys, register_builtin


def read_config(text: str) -> CfgNode:
    """The configuration that a run wrote, not frozen; empty: the defaults. All trainers are known.

    It has the keys of every trainer and of SAR, and is meant for no training: it writes nothing,
    says nothing and starts from no other weights.
    """
    register_builtin()
    register()
    cfg = cfg_from_dump(text, _add_keys) if text else _add_keys(get_cfg_default())
    cfg.OUTPUT_DIR, cfg.MODEL.INIT_WEIGHTS, cfg.VERBOSE = "", "", False
    return cfg


def _add_keys(cfg: CfgNode) -> CfgNode:
    add_registered_keys(cfg)
    add_sar_config(cfg)
    return cfg
