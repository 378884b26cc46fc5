"""One thread for everything: bit-for-bit comparisons between processes need the same number in each,
tests that fork need OpenMP to have started no others, and small models are no faster with more."""

import os

os.environ["OMP_NUM_THREADS"] = "1"
