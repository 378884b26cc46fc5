"""Rebuild the result tables of an output folder from its log.txt files: see --help.

The same as `sarclip results`, without an installation; of other packages it needs click and
tabulate alone.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sar.command_line.commands import run
from sar.results.cli import results

if __name__ == "__main__":
    run(results, name="parse_results.py")
