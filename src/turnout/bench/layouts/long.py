"""The plain long format: one row an answer, `prompt, model, quality` and what else is known."""

from __future__ import annotations

import numpy as np

from turnout.bench.columns import Columns
from turnout.bench.layouts._cells import Draft, Prices, blank, numbers, pivot, placed, text
from turnout.bench.layouts._costs import estimated, unit
from turnout.core import DataError

NAME = "long"
NEEDS = "prompt, model, quality (cost, latency, group, propensity, answer)"


def matches(frame: Columns, prices: Prices | None) -> bool:
    """Whether the three needed columns are there."""
    return {"prompt", "model", "quality"} <= set(frame.names)


def build(frame: Columns, prices: Prices | None) -> Draft:
    """The draft; a prompt asked again of the same model becomes a further row."""
    for number, value in enumerate(frame["model"], start=1):
        if blank(value):
            field = f"column 'model', row {number}"
            raise DataError(field, "name a model", value, "Fill it in or drop the row.")
    models = [text(value).strip() for value in frame["model"]]
    labels = [text(value) for value in frame["group"]] if "group" in frame else None
    split = [text(value) for value in frame["split"]] if "split" in frame else None
    prompts = [text(value) for value in frame["prompt"]]
    extra = ["" for _ in prompts]
    keys, names, row, column, repeats = pivot(
        list(zip(prompts, labels or extra, split or extra, strict=True)), models
    )
    shape = (len(keys), len(names))
    asked = [str(key[0]) for key in keys]

    def table(field: str) -> np.ndarray | None:
        if field not in frame:
            return None
        return placed(numbers(frame[field], field), row, column, shape)

    quality = placed(numbers(frame["quality"], "quality"), row, column, shape)
    cost = table("cost")
    notes: list[str] = []
    if cost is None:
        cost, notes = estimated(asked, names, prices) if prices else unit(quality, names)
    if repeats:
        notes.append(f"{repeats} answers repeat a prompt and model: kept as further rows")
    answers = None
    if "answer" in frame:
        answers = np.full(shape, None, dtype=object)
        answers[row, column] = [text(value) for value in frame["answer"]]
    return Draft(
        prompts=asked,
        names=names,
        quality=quality,
        cost=cost,
        latency=table("latency"),
        propensity=table("propensity"),
        group=None if labels is None else [str(key[1]) for key in keys],
        split=None if split is None else [str(key[2]) for key in keys],
        answers=answers,
        notes=notes,
    )
