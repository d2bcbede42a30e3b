"""LLMRouter's score table: `prompt`, a score column for each model, and a price table beside it."""

from __future__ import annotations

from turnout.bench.columns import Columns
from turnout.bench.layouts import wide
from turnout.bench.layouts._cells import Draft, Prices

NAME = "scores and prices"
NEEDS = "prompt, a column of scores for each model, and a price table (--prices FILE)"


def matches(frame: Columns, prices: Prices | None) -> bool:
    """Whether a price table names at least one column of a table with prompts."""
    if prices is None or wide.prompt_column(frame) is None:
        return False
    return any(column in prices.names() for column in frame.names)


def build(frame: Columns, prices: Prices | None) -> Draft:
    """The draft; every column of scores must have a price."""
    assert prices is not None
    scored = set(wide.score_columns(frame)) | (prices.names() & set(frame.names))
    return wide.draft(frame, [name for name in frame.names if name in scored], prices)
