"""A score column for each model beside the prompt: LLMRouter's table and RouteLLM's two models.

Which columns are models: those a price table names where there is one; otherwise every column of
numbers that is no known label. Two models without prices are RouteLLM's layout and cost by the
call (RouteLLM, 2024, arXiv:2406.18665); more than two need a price table.
"""

from __future__ import annotations

import re

import numpy as np

from turnout.bench.columns import Columns
from turnout.bench.layouts._cells import Draft, Prices, blank, number, numbers, text
from turnout.bench.layouts._costs import estimated, unit

_PROMPT = ("prompt", "query", "question")
_GROUP = ("group", "task", "eval_name", "task_name", "subject", "benchmark")
#: Columns that may hold numbers and still are no model.
_LABELS = frozenset(
    (
        *(*_PROMPT, *_GROUP, "split", "metric", "cluster_id", "sample_id", "id", "index"),
        *("category", "embedding_id", "user_id", "task_id", "question_id", "difficulty", "label"),
        *("ground_truth", "answer", "seed", "fold", "model", "quality", "cost", "latency"),
        "unnamed: 0",
    )
)


def prompt_column(frame: Columns) -> str | None:
    """The column that holds what was asked."""
    return next((name for name in _PROMPT if name in frame), None)


def score_columns(frame: Columns) -> list[str]:
    """Columns of numbers that are no label, in order.

    A column counts when at least half of its filled cells are numbers, so that one bad cell is
    reported as a bad cell and not as a missing model.
    """
    found = []
    for column in frame.names:
        if column.lower() in _LABELS:
            continue
        filled = [value for value in frame[column] if not blank(value)]
        good = sum(number(value) is not None for value in filled)
        if 2 * good >= len(filled):
            found.append(column)
    return found


def draft(frame: Columns, names: list[str], prices: Prices | None) -> Draft:
    """The draft of a table whose model columns are known."""
    asked = prompt_column(frame)
    assert asked is not None
    prompts = [text(value) for value in frame[asked]]
    quality = np.stack([numbers(frame[name], name) for name in names], axis=1)
    if prices is not None:
        cost, notes = estimated(prompts, names, prices)
    else:
        cost, notes = unit(quality, names)
    label = next((name for name in _GROUP if name in frame), None)
    return Draft(
        prompts=prompts,
        names=names,
        quality=quality,
        cost=np.where(np.isnan(quality), np.nan, cost),
        group=None if label is None else [text(value) for value in frame[label]],
        split=[text(value) for value in frame["split"]] if "split" in frame else None,
        answers=_answers(frame, names),
        notes=notes,
    )


def _answers(frame: Columns, names: list[str]) -> np.ndarray | None:
    """Texts of `<short name>_response` columns, matched by letters and digits alone."""

    def bare(name: str) -> str:
        return re.sub("[^a-z0-9]", "", name.lower())

    table = np.full((len(frame), len(names)), None, dtype=object)
    found = False
    for column in frame.names:
        short = bare(re.sub("[_|](model_)?response$", "", column))
        if short == bare(column) or not short:
            continue
        fits = [place for place, name in enumerate(names) if short in bare(name)]
        if len(fits) == 1:
            table[:, fits[0]] = [text(value) for value in frame[column]]
            found = True
    return table if found else None
