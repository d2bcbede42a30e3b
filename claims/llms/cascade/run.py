"""A cascade that reads answers against routers that read prompts, on GSM8K.

The gate keeps a fifth of the answers, one in seven of them wrong, in one of three draws and none in
the other two, where `wrong_of_kept` counts as 0: with this judge, 700 rows are hardly enough to be
sure of anything.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from turnout.bench import evaluate, read
from turnout.core import Budget, Outcomes, Recipe
from turnout.core._check import Bool
from turnout.llms.cascade import Cascade
from turnout.llms.linear import Linear

#: US dollars per million tokens read and written, list prices of early 2024.
USD = {"mixtral-8x7b-instruct-v0.1": (0.6, 0.6), "gpt-4-1106-preview": (10.0, 30.0)}
CHEAP = "mixtral-8x7b-instruct-v0.1"
CHARACTERS_A_TOKEN = 4.0
LOOKED_AT = 800


def run(seed: int, data: Path | None) -> dict[str, float]:
    assert data is not None
    table = _priced(read(data / "routellm_gsm8k_with_responses.csv.gz").outcomes)
    rows = np.random.default_rng(seed).permutation(LOOKED_AT)[:700]
    train, test = table.take(np.sort(rows)), table.take(np.arange(LOOKED_AT, table.n))
    methods: dict[str, Recipe] = {"cascade": Cascade(), "linear": Linear()}
    found = evaluate(train, methods, test=test, seed=seed, resamples=1)
    blind = evaluate(
        replace(train, answers=None), {"blind": Cascade()}, test=test, seed=seed, resamples=1
    )
    cascade, best = found.row("cascade"), found.row("best_single")
    zero = found.row("zero_router").aiq
    match = cascade.cost_to_match
    kept, cheap = _kept(train, test, seed), test.names.index(CHEAP)
    return {
        "gain_over_prompt": cascade.aiq - found.row("linear").aiq,
        "gain_over_zero": cascade.aiq - zero,
        # one that never matches pays all of it
        "cost_share_to_match": 1.0 if np.isnan(match) else match / best.cost,
        "gain_over_blind_cascade": cascade.aiq - blind.row("blind").aiq,
        "aiq": cascade.aiq,
        "zero_aiq": zero,
        "oracle_aiq": found.row("oracle").aiq,
        "best_quality": cascade.quality,
        "best_single_quality": best.quality,
        "kept_by_gate": float(kept.mean()),
        "wrong_of_kept": float(1.0 - test.quality[kept, cheap].mean()) if kept.any() else 0.0,
        "wrong_of_all": float(1.0 - test.quality[:, cheap].mean()),
    }


def _kept(train: Outcomes, test: Outcomes, seed: int) -> Bool:
    """Whose answer by the cheaper model is kept though nothing is worth its price, (n,)."""
    assert test.answers is not None
    rng = np.random.default_rng(seed)
    gated = Cascade(most_wrong=0.2, confidence=0.9).fit(train, train.pool(), rng=rng)
    asked = np.full((test.n, 1), test.names.index(CHEAP))
    said = [[str(answer)] for answer in test.answers[:, asked[0, 0]]]
    budget = Budget(price=1e12)
    following = gated.proceed(test.inputs, asked, said, test.pool(), budget=budget, rng=rng)
    return np.asarray(following < 0)


def _priced(table: Outcomes) -> Outcomes:
    """The table with dollars for costs: what each model read and wrote at its list price."""
    assert table.answers is not None
    read_by_all = np.array([len(text) for text in table.inputs]) / CHARACTERS_A_TOKEN
    cost = np.empty(table.quality.shape)
    for j, name in enumerate(table.names):
        wrote = np.array([len(str(text)) for text in table.answers[:, j]]) / CHARACTERS_A_TOKEN
        cost[:, j] = (read_by_all * USD[name][0] + wrote * USD[name][1]) / 1e6
    return replace(table, cost=cost)
