"""One thread for everything, and no limit of time for a single example.

Bit-for-bit comparisons between processes need the same number of threads in each, tests that fork
need OpenMP to have started no others, and small models are no faster with more.
"""

import os
import signal

import pytest
from hypothesis import HealthCheck, settings

# Under nohup children would ignore it, too, and tests of what it does would fail.
signal.signal(signal.SIGHUP, signal.SIG_DFL)

os.environ["OMP_NUM_THREADS"] = "1"
# A loaded machine is slow, not wrong.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    """What runs keep for each other stays among the tests of one session."""
    os.environ["SAR_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """OxfordPets in CoOp's layout, with few classes, and a random CLIP."""
    from toolbox_mini import write_world

    root = tmp_path_factory.mktemp("world")
    write_world(root)
    return root


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A cache of this test alone."""
    monkeypatch.setenv("SAR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"
