"""The part of `feedback.py` on single answers: what they teach, and what they earn meanwhile."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.random import Generator

from _feedback_tables import (  # type: ignore[import-not-found,unused-ignore]
    HELD,
    Spread,
    Tick,
    blanked,
    fair_price,
    fit,
    score,
    spread,
)
from turnout.core import Outcomes, Recipe
from turnout.core._check import Bool, Float, Int
from turnout.parts import prices
from turnout.parts.feedback.exploring import Epsilon, Exploration, Explorer, Thompson
from turnout.parts.texts.bags import learn_features

BATCH, REFIT = 50, 500
L2 = 1.0
HINDSIGHT = "always the best single, by hindsight"
WAYS: dict[str, Exploration] = {
    "greedy 0.97": Epsilon(0.03),
    "greedy 0.9": Epsilon(0.1),
    "committee of 5": Thompson(members=5, rate=0.02),
}


@dataclass(frozen=True)
class Taught:
    """What one kind of feedback on n prompts taught: a score over seeds, and against `full`."""

    table: str
    n: int
    feedback: str
    labels: int
    score: Spread
    behind: Spread


@dataclass(frozen=True)
class Served:
    """What one way of serving a stream earned: utility per request, and against best single."""

    table: str
    way: str
    requests: int
    utility: Spread
    gain: Spread
    last_half: Spread
    quality: float
    cost: float


def uniform_mask(n: int, m: int, rng: Generator) -> Bool:
    """One cell a row, each as likely."""
    mask = np.zeros((n, m), dtype=np.bool_)
    mask[np.arange(n), rng.integers(m, size=n)] = True
    return covering(mask, rng)


def covering(mask: Bool, rng: Generator) -> Bool:
    """The same, with a row moved to each destination that has none: no method learns without."""
    for j in np.flatnonzero(~mask.any(axis=0)):
        common = mask.sum(axis=0).argmax()
        row = rng.choice(np.flatnonzero(mask[:, common]))
        mask[row] = False
        mask[row, j] = True
    return mask


def serve(
    recipe: Recipe,
    stream: Outcomes,
    explore: Exploration,
    *,
    price: float,
    refit: int,
    rng: Generator,
) -> tuple[Explorer, Int]:
    """Send a stream in batches; the explorer at the end, and the choices (n,)."""
    explorer = Explorer(recipe, stream.pool(), price=price, explore=explore, refit=refit)
    chosen = np.empty(stream.n, dtype=np.int64)
    for start in range(0, stream.n, BATCH):
        rows = np.arange(start, min(start + BATCH, stream.n))
        asked = [stream.inputs[int(row)] for row in rows]
        sent = explorer.choose(asked, rng=rng)
        chosen[rows] = sent.index
        quality, cost = stream.quality[rows, sent.index], stream.cost[rows, sent.index]
        explorer.learn(asked, sent, quality, cost, rng=rng)
    return explorer, chosen


def resampled(log: Outcomes, rng: Generator) -> Outcomes:
    """The log as if it had been uniform: rows drawn again in proportion to 1 / propensity."""
    assert log.propensity is not None
    weight = 1.0 / log.propensity[np.arange(log.n), log.seen.argmax(axis=1)]
    rows = rng.choice(log.n, size=log.n, p=weight / weight.sum())
    for j in np.flatnonzero(~log.seen[rows].any(axis=0)):
        rows = np.append(rows, np.flatnonzero(log.seen[:, j])[0])
    return log.take(rows)


@dataclass(frozen=True, eq=False)
class Weighted:
    """A logistic regression over words with weights on rows, l2 fixed and nothing calibrated."""

    names: tuple[str, ...]
    features: Any
    weights: Float
    intercept: Float
    cost: Float

    def predict(self, inputs: Any) -> tuple[Float, Float]:
        """Quality (n, m) and cost (n, m)."""
        z = self.features.transform(inputs) @ self.weights + self.intercept
        return 1.0 / (1.0 + np.exp(-z)), np.tile(self.cost, (len(z), 1))


def fit_weighted(log: Outcomes, power: float) -> Weighted:
    """Rows weigh (1 / propensity)^power, scaled to a mean of one a destination."""
    from sklearn.linear_model import LogisticRegression

    assert log.propensity is not None
    features = learn_features(log.inputs, min_df=2, max_features=60_000)
    x = features.transform(log.inputs)
    weights, intercept = np.zeros((x.shape[1], log.m)), np.zeros(log.m)
    for j in range(log.m):
        rows = np.flatnonzero(log.seen[:, j])
        y = log.quality[rows, j]
        w = log.propensity[rows, j] ** -power
        w = w / w.mean()
        # a score between 0 and 1 is so much of a right answer and so much of a wrong one
        both = np.concatenate([rows, rows])
        label = np.repeat([1, 0], len(rows))
        share = np.concatenate([w * y, w * (1.0 - y)])
        if min(share[: len(rows)].sum(), share[len(rows) :].sum()) <= 0:
            intercept[j] = 4.0 if y.mean() > 0.5 else -4.0
            continue
        model = LogisticRegression(C=1.0 / L2, solver="liblinear", intercept_scaling=10.0)
        model.fit(x[both], label, sample_weight=share)
        weights[:, j], intercept[j] = model.coef_[0], model.intercept_[0]
    return Weighted(log.names, features, weights, intercept, log.mean_cost())


def teach(
    name: str,
    outcomes: Outcomes,
    recipe: Recipe,
    sizes: tuple[int, ...],
    seeds: int,
    tick: Tick,
) -> list[Taught]:
    """Full feedback on n prompts, one answer each, and full feedback on n / m."""
    rows = []
    for n in sizes:
        found = []
        for seed in range(seeds):
            found.append(lesson(name, outcomes, recipe, n, seed))
            tick(f"{name}: {n:,} prompts")
        full = np.array([one["full"][0] for one in found])
        for kind in found[0]:
            values = np.array([one[kind][0] for one in found])
            labels = round(float(np.mean([one[kind][1] for one in found])))
            rows.append(Taught(name, n, kind, labels, spread(values), spread(values - full)))
    return rows


def lesson(
    name: str, outcomes: Outcomes, recipe: Recipe, n: int, seed: int
) -> dict[str, tuple[float, int]]:
    """Score and labels by kind of feedback, for one draw of prompts."""
    rng = np.random.default_rng([seed, n])
    order = rng.permutation(outcomes.n)
    held, train = outcomes.take(order[: HELD[name]]), outcomes.take(order[-n:])
    mask = uniform_mask(n, outcomes.m, rng)
    uniform = replace(blanked(train, mask), propensity=np.full(mask.shape, 1.0 / outcomes.m))
    refit = max(2 * BATCH, n // 5)
    explorer, _ = serve(
        recipe, train, Epsilon(0.1), price=fair_price(outcomes), refit=refit, rng=rng
    )
    greedy = explorer.log()
    tables = {
        "full": train,
        "full, n / m prompts": train.take(np.arange(max(n // outcomes.m, 2))),
        "one answer, uniform": uniform,
        "one answer, greedy 0.9": greedy,
        "the same, resampled by 1 / p": resampled(greedy, rng),
    }
    found = {
        kind: (score(fit(recipe, table, seed), held, name), int(table.seen.sum()))
        for kind, table in tables.items()
    }
    for power, kind in ((0.0, "1"), (0.5, "1 / sqrt(p)"), (1.0, "1 / p")):
        figure = score(fit_weighted(greedy, power), held, name)
        found[f"greedy log, rows weigh {kind}"] = (figure, n)
    return found


def stream_ways(
    name: str, outcomes: Outcomes, recipe: Recipe, requests: int, seeds: int, tick: Tick
) -> list[Served]:
    """Serve a stream in several ways; utility is quality - price * cost."""
    runs = []
    for seed in range(seeds):
        runs.append(stream_once(name, outcomes, recipe, requests, seed))
        tick(f"{name}: stream")
    base = np.array([run[HINDSIGHT][0].mean() for run in runs])
    rows = []
    for way in runs[0]:
        mean = np.array([run[way][0].mean() for run in runs])
        late = np.array([run[way][0][requests // 2 :].mean() for run in runs])
        rows.append(
            Served(
                table=name,
                way=way,
                requests=requests,
                utility=spread(mean),
                gain=spread(mean - base),
                last_half=spread(late),
                quality=float(np.mean([run[way][1] for run in runs])),
                cost=float(np.mean([run[way][2] for run in runs])),
            )
        )
    return rows


def stream_once(
    name: str, outcomes: Outcomes, recipe: Recipe, requests: int, seed: int
) -> dict[str, tuple[Float, float, float]]:
    """Utility (n,) of one stream, its mean quality and cost, by way of serving."""
    price = fair_price(outcomes)
    rng = np.random.default_rng([seed, 1])
    stream = outcomes.take(rng.permutation(outcomes.n)[:requests])
    utility = stream.quality - price * stream.cost
    best = int(utility.mean(axis=0).argmax())
    choices = {
        HINDSIGHT: np.full(stream.n, best),
        "all answers told": _told_all(recipe, stream, price, rng),
    }
    for way, explore in WAYS.items():
        _, choices[way] = serve(recipe, stream, explore, price=price, refit=REFIT, rng=rng)
    at = np.arange(stream.n)
    return {
        way: (
            utility[at, choice],
            float(stream.quality[at, choice].mean()),
            float(stream.cost[at, choice].mean()),
        )
        for way, choice in choices.items()
    }


def _told_all(recipe: Recipe, stream: Outcomes, price: float, rng: Generator) -> Int:
    """Choices (n,) of a router that is told every destination's answer, and refitted as often."""
    chosen = rng.integers(stream.m, size=stream.n)
    for start in range(REFIT, stream.n, REFIT):
        rows = np.arange(start, min(start + REFIT, stream.n))
        table = stream.take(np.arange(start))
        fitted: Any = recipe.fit(table, table.pool(), rng=rng)
        quality, cost = fitted.predict([stream.inputs[int(row)] for row in rows])
        chosen[rows] = prices.choose(quality, cost, price)
    return chosen
