"""RouteLLM's two-model table: `prompt` and a right-or-wrong column for each of two models."""

from __future__ import annotations

from turnout.bench.columns import Columns
from turnout.bench.layouts import wide
from turnout.bench.layouts._cells import Draft, Prices

NAME = "RouteLLM two models"
NEEDS = "prompt and exactly two columns of scores (task, benchmark, <model>_response)"


def matches(frame: Columns, prices: Prices | None) -> bool:
    """Whether there are prompts and exactly two columns of scores."""
    return wide.prompt_column(frame) is not None and len(wide.score_columns(frame)) == 2


def build(frame: Columns, prices: Prices | None) -> Draft:
    """The draft; a call to the better model costs 1, to the other 0."""
    return wide.draft(frame, wide.score_columns(frame), None)
