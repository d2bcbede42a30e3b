"""Traces of mixture-of-experts routing: readers, measures, and one page to look at."""

from turnout.bench.traces.analysis import analyse
from turnout.bench.traces.readers import read_trace
from turnout.bench.traces.records import record
from turnout.bench.traces.results import Analysis
from turnout.bench.traces.statistics import Statistics
from turnout.bench.traces.summary import summarise
from turnout.bench.traces.words import read_words

__all__ = [
    "Analysis",
    "Statistics",
    "analyse",
    "read_trace",
    "read_words",
    "record",
    "summarise",
]
