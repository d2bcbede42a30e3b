"""Three pipelines to SQL, routed by complexity.

It fails: 0.334 of the tokens are saved where 0.35 were expected, and the elasticity is 1.81 times
that of always advanced, not twice. Accuracy is within half a point.

The penalty of the regressions was chosen on 1,100 questions of another seed (`TUNED`), which are
left out here. In a first run they were not: a quarter of the judged questions were among them, and
it saved 0.373, lost 0.007 and had a ratio of 2.03, which would have held. That run does not count.
Leaving them out also changes what is asked: the rare kinds have few different questions, and of
groups, nested queries and ranks hardly one in fifty is left where it was one in eight. Who knows
the label of each question saves 0.39 of the tokens here and 0.41 there, so that part of the loss is
in the questions and the rest in the router; this run does not tell how much of it was memory.

Tokens saved, accuracy lost and elasticity have the bands expected before anything was built; that
of the new database was written after one trial on those 1,100, in which it lost about a point.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from turnout.bench.tep import tep
from turnout.core import Budget, Outcomes
from turnout.lab.sql import Question, questions
from turnout.lab.sql_pipelines import outcomes
from turnout.llms.elliesql import EllieSql
from turnout.parts.priced import fit

FITTED, CHOSEN, JUDGED = 1200, 400, 600
#: Number and seed of the questions that the recipe's defaults were chosen on.
TUNED = 1100, 100
#: Accuracy given up for a token.
PRICES = np.append(0.0, np.geomspace(1e-5, 5e-3, 40))
LOSS = 0.005


def run(seed: int, data: Path | None) -> dict[str, float]:
    table = outcomes(_drawn(FITTED + CHOSEN + JUDGED, seed))
    order = np.random.default_rng(seed).permutation(table.n)
    parts = np.split(order, [FITTED, FITTED + CHOSEN])
    train, choose, test = (table.take(part) for part in parts)
    found = _routed(EllieSql(), train, choose, test, seed)
    neighbours = _routed(EllieSql(router="knn"), train, choose, test, seed)
    databases = np.array(table.group)
    out = databases == sorted(set(databases))[seed % 4]
    known = np.flatnonzero(~out)
    cut = round(0.75 * len(known))
    new = _routed(
        EllieSql(), table.take(known[:cut]), table.take(known[cut:]), table.take(out), seed
    )
    rule, _ = _quality(
        test, EllieSql(router="tables").fit(train, train.pool(), rng=_rng(seed)).tier
    )
    return {
        "tokens_saved": found["tokens_saved"],
        "accuracy_lost": found["accuracy_lost"],
        "tep_ratio": found["tep_ratio"],
        "elasticity_over_knn": found["tep"] - neighbours["tep"],
        "new_database_accuracy_lost": new["accuracy_lost"],
        "new_database_tokens_saved": new["tokens_saved"],
        "knn_tokens_saved": neighbours["tokens_saved"],
        "knn_accuracy_lost": neighbours["accuracy_lost"],
        "tables_accuracy": rule,
        **{f"accuracy_{n}": float(q) for n, q in zip(test.names, test.mean_quality(), strict=True)},
        **{f"tokens_{n}": float(c) for n, c in zip(test.names, test.mean_cost(), strict=True)},
    }


def _drawn(n: int, seed: int) -> list[Question]:
    """Questions that nothing was chosen on."""
    seen = {(one.database, one.text) for one in questions(TUNED[0], _rng(TUNED[1]))}
    drawn = questions(n + TUNED[0], _rng(seed))
    return [one for one in drawn if (one.database, one.text) not in seen][:n]


def _routed(
    recipe: EllieSql, train: Outcomes, choose: Outcomes, test: Outcomes, seed: int
) -> dict[str, float]:
    """Routed at the highest price that loses little on rows apart from both."""
    router = fit(recipe, train, rng=seed)

    def at(price: float) -> Any:
        return lambda inputs: router.route(
            inputs, train.pool(), budget=Budget(price=price), rng=_rng(seed)
        ).index[:, 0]

    floor = choose.mean_quality()[-1] - LOSS
    price = max(p for p in PRICES if p == 0.0 or _quality(choose, at(float(p)))[0] >= floor)
    quality, tokens = _quality(test, at(float(price)))
    (cheap, _, dear), (few, _, many) = test.mean_quality(), test.mean_cost()
    found = tep(quality, tokens, base_quality=cheap, base_tokens=few)
    always = tep(dear, many, base_quality=cheap, base_tokens=few)
    return {
        "tokens_saved": 1.0 - tokens / many,
        "accuracy_lost": float(dear - quality),
        "tep": found.value,
        "tep_ratio": found.value / always.value,
    }


def _quality(table: Outcomes, choose: Any) -> tuple[float, float]:
    rows, chosen = np.arange(table.n), choose(table.inputs)
    return float(table.quality[rows, chosen].mean()), float(table.cost[rows, chosen].mean())


def _rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)
