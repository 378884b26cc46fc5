"""Reading runs back from their logs: accuracies, tables, and what does not count and why."""

from sar.results.collect import Filter, collect
from sar.results.formats import problems_text, to_text, write_files
from sar.results.log import Run, read_run
from sar.results.record import Problem, Record, Results
from sar.results.starts import Score

__all__ = [
    "Filter",
    "Problem",
    "Record",
    "Results",
    "Run",
    "Score",
    "collect",
    "problems_text",
    "read_run",
    "to_text",
    "write_files",
]
