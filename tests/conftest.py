"""One thread for everything.

Bit-for-bit comparisons between processes need the same number of threads in each, tests that fork
need OpenMP to have started no others, and small models are no faster with more.
"""

import os

import pytest

os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    """What runs keep for each other stays among the tests of one session."""
    os.environ["SAR_CACHE"] = str(tmp_path_factory.mktemp("cache"))
