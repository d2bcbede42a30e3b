"""Outcome tables, importers, frontiers and landmarks."""

from turnout.bench.evaluation import evaluate
from turnout.bench.reader import Report, Table, leaks, read
from turnout.bench.results import Evaluation, Row

__all__ = ["Evaluation", "Report", "Row", "Table", "evaluate", "leaks", "read"]
