"""LLMRouter's routing data: one row an answer, `query, model_name, performance` and token counts.

Also GraphRouter's older names for the same (`llm`, `effect`, `cost`). Costs are the file's own
where it tells them, else tokens times a price table.
"""

from __future__ import annotations

import numpy as np

from turnout.bench.columns import Columns
from turnout.bench.layouts._cells import Draft, Prices, numbers, pivot, placed, text
from turnout.bench.layouts._costs import estimated, unit

NAME = "LLMRouter rows"
NEEDS = "query, model_name (or llm), performance (or effect), and cost or --prices"


def _first(frame: Columns, *names: str) -> str | None:
    return next((name for name in names if name in frame), None)


def matches(frame: Columns, prices: Prices | None) -> bool:
    """Whether query, model and performance are there under one of their names."""
    return "query" in frame and None not in (
        _first(frame, "model_name", "llm"),
        _first(frame, "performance", "effect"),
    )


def build(frame: Columns, prices: Prices | None) -> Draft:
    """The draft; rows of one query are those of equal task, query and answer sought."""
    model = _first(frame, "model_name", "llm")
    score = _first(frame, "performance", "effect")
    task = _first(frame, "task_name", "task_id")
    assert model is not None
    assert score is not None
    models = [text(value).strip() for value in frame[model]]
    prompts = [text(value) for value in frame["query"]]
    labels = [text(value) for value in frame[task]] if task else ["" for _ in prompts]
    truth = [text(value) for value in frame["ground_truth"]] if "ground_truth" in frame else labels
    keys, names, row, column, repeats = pivot(
        list(zip(prompts, labels, truth, strict=True)), models
    )
    shape = (len(keys), len(names))
    asked = [str(key[0]) for key in keys]

    def table(field: str) -> np.ndarray | None:
        if field not in frame:
            return None
        return placed(numbers(frame[field], field), row, column, shape)

    quality = placed(numbers(frame[score], score), row, column, shape)
    cost = table("cost")
    notes = ["costs as the file tells them"]
    if cost is None and prices:
        read, written = table("input_tokens"), table("output_tokens")
        cost, notes = estimated(asked, names, prices, read=read, written=written)
        cost = np.where(np.isnan(quality), np.nan, cost)
    elif cost is None:
        cost, notes = unit(quality, names)
    if repeats:
        notes.append(f"{repeats} answers repeat a query and model: kept as further rows")
    answers = None
    if "response" in frame:
        answers = np.full(shape, None, dtype=object)
        answers[row, column] = [text(value) for value in frame["response"]]
    return Draft(
        prompts=asked,
        names=names,
        quality=quality,
        cost=cost,
        latency=table("response_time"),
        group=[str(key[1]) for key in keys] if task else None,
        answers=answers,
        notes=notes,
    )
