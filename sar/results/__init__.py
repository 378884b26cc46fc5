"""Reading runs back from their logs: accuracies, tables, and what does not count and why."""

from sar.results.collect import Filter, Problem, Record, Results, collect
from sar.results.formats import problems_text, to_text, write_files
from sar.results.log import Run, Score, read_run

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
