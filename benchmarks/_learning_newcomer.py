"""Each model of a table joins a router that was fitted without it, from more and more labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table as RichTable

from _learning_tables import Table  # type: ignore[import-not-found,unused-ignore]
from turnout.bench import measures, sweep
from turnout.bench.folds import splits
from turnout.core import Frontier, InputError, Outcomes, Predictor, Recipe
from turnout.core._check import Float, Int
from turnout.parts.learners.crossfit import crossfit
from turnout.parts.newcomer import join

#: Labels of the new model; None = every training row.
LABELS = (0, 30, 100, 300, None)
RESAMPLES = 300
INNER = 3

Tick = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Plan:
    """How the study is run."""

    method: str
    recipe: Recipe
    folds: int
    seeds: int
    seed: int
    refit: bool


@dataclass(frozen=True)
class Line:
    """One way to treat one new model, over the random choices of labels."""

    newcomer: str
    way: str
    labels: int | None
    aiq: float
    regret: float
    gain: float
    level: float
    level_error: float
    ece: float


@dataclass(frozen=True)
class Summary:
    """One way to treat a new model, over all models in turn; intervals are over rows, paired."""

    way: str
    labels: int | None
    aiq: float
    regret: float
    regret_low: float
    regret_high: float
    gain: float
    gain_low: float
    gain_high: float
    level_error: float
    level_spread: float
    ece: float
    ece_spread: float


@dataclass(frozen=True, eq=False)
class Study:
    """All of it, for one table."""

    table: str
    rows: int
    full: float
    lines: list[Line]
    summaries: list[Summary]


@dataclass(frozen=True, eq=False)
class _Judged:
    """AIQ of one policy on the whole and on each sample of the rows."""

    aiq: float
    samples: Float


class _Judge:
    """The AIQ of predictions, on the same samples of the rows every time."""

    def __init__(self, truth: Outcomes, seed: int) -> None:
        self.truth, self.seed = truth, seed
        cost = truth.mean_cost()
        self.range = float(cost.min()), float(cost.max())

    def __call__(self, predictions: Sequence[tuple[Float, Float]]) -> list[_Judged]:
        """Of each of some predicted qualities and costs (n, m)."""
        sweeps = [sweep.from_predictions(*one, self.truth) for one in predictions]
        samples = measures.resampled_aiq(
            [(found.cost, found.quality) for found in sweeps],
            self.truth.cost,
            resamples=RESAMPLES,
            rng=np.random.default_rng([self.seed, 1]),
        )
        judged = []
        for found, column in zip(sweeps, samples.T, strict=True):
            aiq = found.frontier.hull().aiq(self.range)
            cost, quality = (
                table.mean(axis=0, dtype=float) for table in (found.cost, found.quality)
            )
            judged.append(_Judged(aiq, column + (aiq - Frontier(cost, quality).aiq(self.range))))
        return judged


def _fitted(plan: Plan, part: Outcomes, number: int) -> Predictor:
    rng = np.random.default_rng([plan.seed, number])
    made = plan.recipe.fit(part, part.pool(), rng=rng)
    if not isinstance(made, Predictor):
        raise InputError("--method", "predict quality and cost", plan.method, "Such as linear.")
    return made


def run(table: Table, plan: Plan, tick: Tick) -> Study:
    """Fit without each model in turn, let it join, and judge the whole pool out of fold."""
    truth = table.outcomes
    folds = splits(truth, folds=plan.folds, seed=plan.seed)
    judge = _Judge(truth, plan.seed)
    total = plan.folds * (truth.m + 1)
    done = 0

    def step(label: str) -> None:
        nonlocal done
        done += 1
        tick(f"{table.name}: {label}", done, total)

    tick(f"{table.name}: the whole pool", 0, total)
    quality, cost = np.empty(truth.quality.shape), np.empty(truth.quality.shape)
    for number, (train, held) in enumerate(folds):
        base = _fitted(plan, truth.take(train), number)
        quality[held], cost[held] = base.predict(truth.take(held).inputs)
        step("the whole pool")
    (full,) = judge([(quality, cost)])
    lines: list[Line] = []
    sums: dict[tuple[str, int | None], list[Any]] = {}
    for k in range(truth.m):
        columns = _columns(table, plan, k, folds, step)
        judged = dict(zip(columns, judge(list(columns.values())), strict=True))
        ignored = judged.pop(("ignored", None, 0))
        _add(lines, sums, truth, k, "ignored", None, [(ignored, None)], full, ignored)
        groups: dict[tuple[str, int | None], list[tuple[_Judged, Float | None]]] = {}
        for key, one in judged.items():
            groups.setdefault(key[:2], []).append((one, columns[key][0][:, k]))
        for (way, labels), found in groups.items():
            _add(lines, sums, truth, k, way, labels, found, full, ignored)
    summaries = [_summary(way, labels, lines, rows) for (way, labels), rows in sums.items()]
    return Study(table.name, truth.n, full.aiq, lines, summaries)


def _add(
    lines: list[Line],
    sums: dict[tuple[str, int | None], list[Any]],
    truth: Outcomes,
    k: int,
    way: str,
    labels: int | None,
    found: list[tuple[_Judged, Float | None]],
    full: _Judged,
    ignored: _Judged,
) -> None:
    """One line from the random choices of labels, and its samples."""
    aiq = float(np.mean([one.aiq for one, _ in found]))
    each = np.array([one.samples for one, _ in found])
    # another sample of the rows would come with other choices of labels
    which = np.random.default_rng(len(each)).integers(0, len(each), each.shape)
    samples = np.take_along_axis(each, which, axis=0).mean(axis=0)
    true = truth.quality[:, k]
    guesses = [guess for _, guess in found if guess is not None]
    level = float(np.mean([guess.mean() for guess in guesses])) if guesses else float("nan")
    error = [abs(float(guess.mean() - true.mean())) for guess in guesses]
    ece = [measures.ece(np.clip(guess, 0.0, 1.0), true) for guess in guesses]
    nan = float("nan")
    lines.append(
        Line(
            truth.names[k],
            way,
            labels,
            aiq,
            full.aiq - aiq,
            aiq - ignored.aiq,
            level,
            float(np.mean(error)) if error else nan,
            float(np.mean(ece)) if ece else nan,
        )
    )
    sums.setdefault((way, labels), []).append((full.samples - samples, samples - ignored.samples))


def _columns(
    table: Table,
    plan: Plan,
    k: int,
    folds: list[tuple[Int, Int]],
    step: Callable[[str], None],
) -> dict[tuple[str, int | None, int], tuple[Float, Float]]:
    """Predicted quality and cost (n, m) of the whole pool, for each way, labels and choice."""
    truth, name = table.outcomes, table.outcomes.names[k]
    known = [other for other in truth.names if other != name]
    others = [truth.names.index(other) for other in known]
    made: dict[tuple[str, int | None, int], tuple[Float, Float]] = {}

    def put(key: tuple[str, int | None, int], held: Int, new: Float, told: Float) -> None:
        shape = truth.quality.shape
        q, c = made.setdefault(key, (np.empty(shape), np.empty(shape)))
        q[np.ix_(held, others)], c[np.ix_(held, others)] = base_quality, base_cost
        q[held, k], c[held, k] = new, told

    for number, (train, held) in enumerate(folds):
        part, test = truth.take(train), truth.take(held)
        before = part.select(known)
        base = _fitted(plan, before, number)
        base_quality, base_cost = base.predict(test.inputs)
        rng = np.random.default_rng([plan.seed, number, k])
        inner = crossfit(plan.recipe, before, folds=INNER, rng=rng)[0].clip(0.0, 1.0)
        # never worth its price: no budget sends anything there
        put(("ignored", None, 0), held, np.full(len(held), -1.0), np.full(len(held), 1e9))
        for labels in LABELS:
            choices = 1 if labels in (0, None) else plan.seeds
            for choice in range(choices):
                rng = np.random.default_rng([plan.seed, number, k, choice])
                rows = np.arange(part.n)
                if labels is not None:
                    rows = rng.choice(part.n, min(labels, part.n), replace=False)
                some = _labelled(part, known, name, rows)
                joined = join(
                    base,
                    before if labels == 0 else some,
                    table.pool.select((name,)),
                    pool=table.pool,
                    predicted=inner,
                )
                price = joined.costs.predict(test.inputs)[:, 0]
                put(("joined", labels, choice), held, joined.expected(base_quality), price)
                guess = (
                    before.mean_quality().mean() if labels == 0 else part.quality[rows, k].mean()
                )
                put(("naive mean", labels, choice), held, np.full(len(held), guess), price)
                if plan.refit and labels and choice == 0:
                    again = _fitted(plan, some, number)
                    new = again.predict(test.inputs)[0][:, -1]
                    put(("fitted again", labels, choice), held, new, price)
        step(name)
    return made


def _labelled(part: Outcomes, known: list[str], name: str, rows: Int) -> Outcomes:
    """The table with labels of the new model, the last column, on some rows alone."""
    table = part.select((*known, name))
    if not len(rows):
        return table
    blank = np.ones(part.n, dtype=np.bool_)
    blank[rows] = False
    quality, cost = table.quality.copy(), table.cost.copy()
    quality[blank, -1], cost[:, -1] = np.nan, np.nan
    return Outcomes(inputs=table.inputs, names=table.names, quality=quality, cost=cost)


def _summary(way: str, labels: int | None, lines: list[Line], samples: list[Any]) -> Summary:
    mine = [line for line in lines if (line.way, line.labels) == (way, labels)]
    regret, gain = (np.mean([pair[part] for pair in samples], axis=0) for part in (0, 1))

    def mean(field: str) -> float:
        return float(np.mean([getattr(line, field) for line in mine]))

    def spread(field: str) -> float:
        return float(np.std([getattr(line, field) for line in mine], ddof=1))

    regret_low, regret_high = map(float, np.quantile(regret, [0.025, 0.975]))
    gain_low, gain_high = map(float, np.quantile(gain, [0.025, 0.975]))
    return Summary(
        way=way,
        labels=labels,
        aiq=mean("aiq"),
        regret=mean("regret"),
        regret_low=regret_low,
        regret_high=regret_high,
        gain=mean("gain"),
        gain_low=gain_low,
        gain_high=gain_high,
        level_error=mean("level_error"),
        level_spread=spread("level_error"),
        ece=mean("ece"),
        ece_spread=spread("ece"),
    )


def _count(labels: int | None, way: str) -> str:
    return "" if way == "ignored" else "all" if labels is None else str(labels)


def show(study: Study, plan: Plan, console: Console) -> None:
    """What labels are worth on average, then each model on its own."""
    table = RichTable(
        title=f"A new model joins {plan.method}: {study.table}, {study.rows:,} rows, each of "
        f"{len({line.newcomer for line in study.lines})} models in turn; AIQ with all fitted "
        f"{study.full:.4f}"
    )
    for column in ("way", "labels", "AIQ", "regret to all fitted", "gain over ignoring it"):
        table.add_column(column, justify="left" if column == "way" else "right", no_wrap=True)
    for column in ("error of mean", "ECE of its column"):
        table.add_column(column, justify="right", no_wrap=True)
    ways = list(dict.fromkeys(one.way for one in study.summaries))
    for one in sorted(study.summaries, key=lambda one: ways.index(one.way)):
        plain = one.way == "ignored"
        table.add_row(
            one.way,
            _count(one.labels, one.way),
            f"{one.aiq:.4f}",
            f"{one.regret:+.4f} [{one.regret_low:+.4f}, {one.regret_high:+.4f}]",
            "" if plain else f"{one.gain:+.4f} [{one.gain_low:+.4f}, {one.gain_high:+.4f}]",
            "" if plain else f"{one.level_error:.3f} ± {one.level_spread:.3f}",
            "" if plain else f"{one.ece:.3f} ± {one.ece_spread:.3f}",
            end_section=one.labels is None,
        )
    console.print(table)
    _show_models(study, console)


def _show_models(study: Study, console: Console) -> None:
    table = RichTable(
        title=f"{study.table}: regret to all fitted, and predicted mean, by new model"
    )
    table.add_column("new model")
    table.add_column("ignored", justify="right", no_wrap=True)
    for labels in LABELS:
        table.add_column(f"{_count(labels, '')} labels", justify="right", no_wrap=True)
    for name in dict.fromkeys(line.newcomer for line in study.lines):
        mine = {(line.way, line.labels): line for line in study.lines if line.newcomer == name}
        cells = [mine["joined", labels] for labels in LABELS]
        table.add_row(
            name,
            f"{mine['ignored', None].regret:+.4f}",
            *(f"{one.regret:+.4f} ({one.level:.2f})" for one in cells),
        )
    console.print(table)
