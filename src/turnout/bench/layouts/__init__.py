"""One small file for each layout of outcome tables, recognised by its columns."""

from __future__ import annotations

from turnout.bench.layouts import (
    llmrouter,
    llmrouter_table,
    llmrouterbench,
    long,
    routellm,
    routerbench,
)
from turnout.bench.layouts._cells import Draft, Layout, Prices

__all__ = ["LAYOUTS", "Draft", "Layout", "Prices"]

#: In the order in which they are tried: the most particular first.
LAYOUTS: tuple[Layout, ...] = (
    routerbench,
    llmrouterbench,
    llmrouter,
    long,
    llmrouter_table,
    routellm,
)
