import runpy, sys

def prepare() -> None:
    sys.path.insert(0, "")
    from sar.host.dassl import provide
    print(provide())
    import dassl.config
    from sar.config import add_sar_config
    from sar.host import CHECKOUT, register
    add_sar_config(dassl.config.cfg_default)
    print(register(CHECKOUT))

def run(argv):
    sys.argv = ["train.py", *argv]
    runpy.run_path("train.py", run_name="__main__")
