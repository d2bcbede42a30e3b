"""LLMRouterBench's records: one row an answer, `origin_query, score, cost` of a model and data set.

A result file holds one model on one data set, its records under `records`; read the folder of
them, or one table of flattened records (`model_name, dataset_id, record_index, ...`).
"""

from __future__ import annotations

import numpy as np

from turnout.bench.columns import Columns
from turnout.bench.layouts._cells import Draft, Prices, blank, numbers, pivot, placed, text
from turnout.bench.layouts._costs import estimated, unit

NAME = "LLMRouterBench records"
NEEDS = "origin_query, model_name, score (dataset_name or dataset_id, index, cost, tokens)"


def _first(frame: Columns, *names: str) -> str | None:
    return next((name for name in names if name in frame), None)


def matches(frame: Columns, prices: Prices | None) -> bool:
    """Whether the columns of a record and its model are there."""
    return {"origin_query", "model_name", "score"} <= set(frame.names)


def build(frame: Columns, prices: Prices | None) -> Draft:
    """The draft; rows of one question are those of equal data set, split and index."""
    size = len(frame)
    data = _first(frame, "dataset_name", "dataset_id")
    index = _first(frame, "record_index", "index")
    models = [text(value).strip() for value in frame["model_name"]]
    prompts = [text(value) for value in frame["origin_query"]]
    if "prompt" in frame:  # the formatted prompt stands in where the question is blank
        spare = [text(value) for value in frame["prompt"]]
        prompts = [other if blank(own) else own for own, other in zip(prompts, spare, strict=True)]
    labels = [text(value) for value in frame[data]] if data else [""] * size
    split = [text(value) for value in frame["split"]] if "split" in frame else [""] * size
    numbered = [text(value) for value in frame[index]] if index else [""] * size
    keys, names, row, column, repeats = pivot(
        list(zip(prompts, labels, split, numbered, strict=True)), models
    )
    shape = (len(keys), len(names))
    asked = [str(key[0]) for key in keys]

    def table(field: str) -> np.ndarray | None:
        if field not in frame:
            return None
        return placed(numbers(frame[field], field), row, column, shape)

    quality = placed(numbers(frame["score"], "score"), row, column, shape)
    cost = table("cost")
    notes = ["costs in US$ an answer, as the records tell them"]
    if cost is None or (prices and not np.nansum(cost)):
        if prices:
            read, written = table("prompt_tokens"), table("completion_tokens")
            cost, notes = estimated(asked, names, prices, read=read, written=written)
            cost = np.where(np.isnan(quality), np.nan, cost)
        else:
            cost, notes = unit(quality, names)
    if repeats:
        notes.append(f"{repeats} records repeat a question and model: kept as further rows")
    answers = None
    said = _first(frame, "raw_output", "prediction")
    if said:
        answers = np.full(shape, None, dtype=object)
        answers[row, column] = [text(value) for value in frame[said]]
    return Draft(
        prompts=asked,
        names=names,
        quality=quality,
        cost=cost,
        group=[str(key[1]) for key in keys] if data else None,
        split=[str(key[2]) for key in keys] if "split" in frame else None,
        answers=answers,
        notes=notes,
    )
