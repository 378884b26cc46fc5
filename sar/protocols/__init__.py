"""Evaluation protocols as lists of jobs, and where the jobs run. Nothing here imports torch."""
