"""A log reused to route, to prompt and to choose training answers; and a real log, to route.

The solvers of the puzzles follow rules, a procedure in the prompt being one of them: the thought
level shows that the right template is found and put in place, not that templates help a language
model. Of the model level only the choice of answers is measured, not a model tuned on them.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from turnout.bench import read
from turnout.core import Budget, Outcomes, Pool
from turnout.core._check import Int
from turnout.lab import puzzles
from turnout.llms.fusion_factory import (
    BALANCE,
    COST_FIRST,
    PERFORMANCE_FIRST,
    FusionFactory,
    Nearest,
    Ridge,
    Scenario,
    ThoughtPlay,
    distillation,
    fit_ranges,
    log_of,
    write_thoughts,
)
from turnout.parts import ranking
from turnout.parts.rounds.playing import run as play_out


def run(seed: int, data: Path | None) -> dict[str, float]:
    assert data is not None
    return {**_puzzles(seed), **_real(seed, data)}


def _puzzles(seed: int) -> dict[str, float]:
    rng = np.random.default_rng(seed)
    world = puzzles.draw(800, rng=rng)
    table = world.table()
    train, test = table.take(np.arange(560)), table.take(np.arange(560, 800))
    found = _routed(train, test, Nearest(k=50), rng)
    line = _routed(train, test, Ridge(), rng)
    log = log_of(train, world.answers[:560])
    library = write_thoughts(log, world.ask, puzzles.SUMMARISER, exclude=set(test.inputs), rng=rng)
    fitted = FusionFactory().fit(train, train.pool(), rng=rng)
    turned = rng.permutation(len(library.templates))
    random = replace(library, templates=tuple(library.templates[i] for i in turned))

    def share(thoughts: Any, k: int) -> float:
        play = ThoughtPlay(thoughts=thoughts, predictor=fitted, k=k)
        right = []
        for question in test.inputs:
            played = play_out(
                play,
                question,
                world.ask,
                Pool(names=play.names),
                budget=Budget(price=0.05),
                rng=rng,
            )
            right.append(world.right(question, played.answer))
        return float(np.mean(right))

    none, with_templates = share(library, 0), share(library, 2)
    gold = dict(zip(train.inputs, world.answers, strict=False))

    def right_share(by: str) -> float:
        rows = [
            row for row in distillation(log, by, rng=rng) if row["output"] != gold[row["input"]]
        ]
        return float(np.mean([world.right(row["input"], row["output"]) for row in rows]))

    return {
        **found,
        "ridge_balance_gain": line["balance_gain"],
        "template_none": none,
        "template_gain_over_none": with_templates - none,
        "template_gain_over_random": with_templates - share(random, 2),
        "right_share_gain": right_share("perf") - right_share("random"),
    }


def _routed(
    train: Outcomes, test: Outcomes, learner: Any, rng: np.random.Generator
) -> dict[str, float]:
    fitted = FusionFactory(learner=learner).fit(train, train.pool(), rng=rng)
    think = np.array([name.endswith("_think") for name in train.names])
    share = {}
    found = {}
    for name, scenario in (
        ("performance", PERFORMANCE_FIRST),
        ("balance", BALANCE),
        ("cost", COST_FIRST),
    ):
        found[f"{name}_gain"], chosen = _gain(fitted, train, test, scenario)
        share[name] = float(think[chosen].mean())
    scores = fitted.scores(test.inputs, BALANCE)
    truth = BALANCE.score(*fit_ranges(train).normalised(test))
    worth = truth - truth.min(axis=1, keepdims=True)
    return {
        **found,
        "think_share_fall": share["performance"] - share["cost"],
        "ndcg_at_5": float(ranking.ndcg(scores, worth, 5).mean()),
        "hit_at_3": float(ranking.hit(scores, worth, 3).mean()),
        "mrr": float(ranking.mrr(scores, worth).mean()),
    }


def _gain(fitted: Any, train: Outcomes, test: Outcomes, scenario: Scenario) -> tuple[float, Int]:
    """Mean score of the router's choices, less that of the one best on the training rows."""
    ranges = fit_ranges(train)
    learnt = scenario.score(*ranges.normalised(train))
    truth = scenario.score(*ranges.normalised(test))
    chosen = fitted.rank(test.inputs, scenario)[:, 0]
    single = int(np.nanmean(learnt, axis=0).argmax())
    own = np.take_along_axis(truth, chosen[:, None], axis=1)[:, 0]
    return float(np.nanmean(own) - np.nanmean(truth[:, single])), chosen


def _real(seed: int, data: Path) -> dict[str, float]:
    table = read(data / "llmrouter_9models.csv.gz", prices=data / "llmrouter_prices.json").outcomes
    rng = np.random.default_rng(seed)
    order = rng.permutation(table.n)
    cut = round(0.7 * table.n)
    train = table.take(order[:cut])
    known = set(train.inputs)
    rest = [int(i) for i in order[cut:] if table.inputs[int(i)] not in known]
    test = table.take(rest)
    fitted = FusionFactory(learner=Nearest(k=50)).fit(train, train.pool(), rng=rng)
    line = FusionFactory(learner=Ridge()).fit(train, train.pool(), rng=rng)
    return {
        "real_balance_gain": _gain(fitted, train, test, BALANCE)[0],
        "real_performance_gain": _gain(fitted, train, test, PERFORMANCE_FIRST)[0],
        "real_cost_gain": _gain(fitted, train, test, COST_FIRST)[0],
        "real_ridge_balance_gain": _gain(line, train, test, BALANCE)[0],
        "real_ridge_performance_gain": _gain(line, train, test, PERFORMANCE_FIRST)[0],
        "real_test_rows": float(test.n),
        "real_duplicates_left_out": float(table.n - cut - test.n),
    }
