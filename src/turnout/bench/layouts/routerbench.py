"""RouterBench's wide layout: one row a prompt, three columns a model.

`prompt` (the printed form of a Python list), `eval_name`, and for each model m the columns `m`
(quality), `m|model_response` and `m|total_cost` (RouterBench, 2024, arXiv:2403.12031).
"""

from __future__ import annotations

import numpy as np

from turnout.bench.columns import Columns
from turnout.bench.layouts._cells import Draft, Prices, listed, numbers, text

NAME = "RouterBench wide"
NEEDS = "prompt, and for each model m: m, m|total_cost (m|model_response, eval_name)"

_COST, _ANSWER = "|total_cost", "|model_response"


def matches(frame: Columns, prices: Prices | None) -> bool:
    """Whether a model has both a quality and a cost column."""
    return "prompt" in frame and bool(_models(frame))


def build(frame: Columns, prices: Prices | None) -> Draft:
    """The draft; costs are the file's own."""
    names = _models(frame)
    cost = [numbers(frame[name + _COST], name + _COST) for name in names]
    answers = None
    if any(name + _ANSWER in frame for name in names):
        answers = np.full((len(frame), len(names)), None, dtype=object)
        for column, name in enumerate(names):
            if name + _ANSWER in frame:
                answers[:, column] = [text(value) for value in frame[name + _ANSWER]]
    return Draft(
        prompts=[listed(value) for value in frame["prompt"]],
        names=names,
        quality=np.stack([numbers(frame[name], name) for name in names], axis=1),
        cost=np.stack(cost, axis=1),
        group=[text(value) for value in frame["eval_name"]] if "eval_name" in frame else None,
        answers=answers,
        notes=["costs in US$ an answer, as the file tells them"],
    )


def _models(frame: Columns) -> list[str]:
    return [name for name in frame.names if name + _COST in frame]
