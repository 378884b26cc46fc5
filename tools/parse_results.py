"""Rebuild the result tables of an output folder from its log.txt files: see --help.

The same as `sarclip results`, without an installation.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sar.cli import main

if __name__ == "__main__":
    main(["results", *sys.argv[1:]])
