"""Rebuild the result tables of an output folder from its log.txt files: see --help.

The same as `sarclip results`, without an installation; of other packages it needs tabulate alone.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sar.errors import SARError
from sar.results.cli import main

if __name__ == "__main__":
    try:
        main()
    except SARError as error:
        sys.exit(f"error: {error}")
