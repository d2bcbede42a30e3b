"""Outcome tables, importers, frontiers and landmarks."""

from turnout.bench.reader import Report, Table, leaks, read

__all__ = ["Report", "Table", "leaks", "read"]
