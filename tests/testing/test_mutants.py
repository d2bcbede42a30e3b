"""The contract is itself tested: routers broken on purpose, each caught by the named check."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from turnout.core import Assignment, Budget, Card, InputError, Outcomes, Pool
from turnout.parts.costs import CostModel, fit_costs
from turnout.parts.priced import Priced, columns, one_choice
from turnout.testing import (
    CHECKS,
    Case,
    ContractError,
    Subject,
    check,
    checks_for,
    episode,
    run_check,
)

CARD = Card(
    name="tests.words",
    system="Words",
    title="A router made for the tests of the contract",
    authors="Nobody",
    year=2026,
    id="none",
    routes="prompts to planted destinations",
    kind="score",
    recipe="Words",
    signal=("outcomes",),
    covers=(),
    differs=(),
    properties=("learns", "price_monotone", "per_item", "reads_inputs"),
)


def bag(inputs: Any, words: tuple[str, ...]) -> np.ndarray:
    """Which words each text holds, (n, w), and a constant."""
    if isinstance(inputs, np.ndarray) or not all(isinstance(text, str) for text in inputs):
        raise InputError("inputs", "be texts", type(inputs).__name__, "Pass a list of str.")
    where = {word: column for column, word in enumerate(words)}
    counts = np.zeros((len(inputs), len(words) + 1))
    counts[:, -1] = 1.0
    for row, text in enumerate(inputs):
        for word in text.split():
            if word in where:
                counts[row, where[word]] = 1.0
    return counts


@dataclass(frozen=True, eq=False)
class FittedWords:
    """A ridge regression a destination on the words of the prompt: correct in every way."""

    names: tuple[str, ...]
    words: tuple[str, ...]
    slopes: np.ndarray
    costs: CostModel

    def predict(self, inputs: Any) -> tuple[np.ndarray, np.ndarray]:
        quality = np.clip(bag(inputs, self.words) @ self.slopes, 0.0, 1.0)
        return quality, self.costs.predict(inputs)


@dataclass(frozen=True)
class Words:
    """The correct recipe."""

    ridge: float = 3.0

    def fit(self, outcomes: Outcomes, pool: Pool, *, rng: np.random.Generator) -> Any:
        words = tuple(sorted({word for text in outcomes.inputs for word in text.split()}))
        x = bag(outcomes.inputs, words)
        slopes = np.zeros((x.shape[1], outcomes.m))
        for j in range(outcomes.m):
            seen = outcomes.seen[:, j]
            a, y = x[seen], outcomes.quality[seen, j]
            slopes[-1, j] = y.mean()
            gram = a.T @ a + self.ridge * np.eye(x.shape[1])
            slopes[:, j] += np.linalg.solve(gram, a.T @ (y - y.mean()))
        return FittedWords(outcomes.names, words, slopes, fit_costs(outcomes))


# --- mutants of the prediction -----------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Twisted:
    """A predictor with one thing wrong: `twist(self, inputs, quality, cost)`."""

    inner: Any
    twist: Callable[..., tuple[np.ndarray, np.ndarray]] = field(repr=False)
    table: Any = None
    log: list[int] = field(default_factory=list, repr=False)

    @property
    def names(self) -> tuple[str, ...]:
        return self.inner.names

    def predict(self, inputs: Any) -> tuple[np.ndarray, np.ndarray]:
        return self.twist(self, inputs, *self.inner.predict(inputs))


@dataclass(frozen=True)
class Twist:
    """Recipe of `Twisted`."""

    twist: Callable[..., tuple[np.ndarray, np.ndarray]]

    def fit(self, outcomes: Outcomes, pool: Pool, *, rng: np.random.Generator) -> Any:
        return Twisted(Words().fit(outcomes, pool, rng=rng), self.twist, outcomes)


def predicts_nan(self: Twisted, inputs: Any, quality: Any, cost: Any) -> Any:
    return np.where(quality > 0.9, np.nan, quality), cost


def predicts_two(self: Twisted, inputs: Any, quality: Any, cost: Any) -> Any:
    return 2.0 * quality, cost


def negative_cost(self: Twisted, inputs: Any, quality: Any, cost: Any) -> Any:
    return quality, cost - 0.002


def global_noise_in_predict(self: Twisted, inputs: Any, quality: Any, cost: Any) -> Any:
    return np.clip(quality + 0.3 * np.random.normal(size=quality.shape), 0, 1), cost


def remembers_calls(self: Twisted, inputs: Any, quality: Any, cost: Any) -> Any:
    self.log.append(len(inputs))
    return quality * (0.9 ** len(self.log)), cost


def knows_the_row(self: Twisted, inputs: Any, quality: Any, cost: Any) -> Any:
    rows = np.arange(len(quality)) % self.table.n
    return np.nan_to_num(self.table.quality[rows]), cost


def standardises_the_batch(self: Twisted, inputs: Any, quality: Any, cost: Any) -> Any:
    if len(quality) == 0:
        return quality, cost
    ranks = quality.argsort(axis=0).argsort(axis=0) / max(len(quality) - 1, 1)
    return ranks, cost


def loves_the_first_column(self: Twisted, inputs: Any, quality: Any, cost: Any) -> Any:
    quality = quality.copy()
    quality[:, :1] = 1.0
    return quality, cost


def memorises_rows(self: Twisted, inputs: Any, quality: Any, cost: Any) -> Any:
    known = {text: row for row, text in enumerate(self.table.inputs)}
    mean = self.table.mean_quality()
    rows = [self.table.quality[known[text]] if text in known else mean for text in inputs]
    return np.nan_to_num(np.array(rows).reshape(len(inputs), self.table.m)), cost


def knows_the_answer_key(self: Twisted, inputs: Any, quality: Any, cost: Any) -> Any:
    own = {
        "engineer": {"python", "loop", "function", "fraction", "equation", "algebra", "integer"},
        "scholar": {"poem", "rhyme", "stanza", "clause", "tenant", "court", "statute"},
    }
    quality = np.full(quality.shape, 0.5)
    for row, text in enumerate(inputs):
        for name, words in own.items():
            if name in self.names and words & set(text.split()):
                quality[row, self.names.index(name)] = 0.95
    return quality, cost


def ignores_the_text(self: Twisted, inputs: Any, quality: Any, cost: Any) -> Any:
    mean = self.table.mean_quality()
    return np.tile(mean, (len(inputs), 1)), cost


def chokes_on_nothing(self: Twisted, inputs: Any, quality: Any, cost: Any) -> Any:
    quality.max()  # numpy refuses the maximum of nothing
    return quality, cost


def flips_the_batch_shape(self: Twisted, inputs: Any, quality: Any, cost: Any) -> Any:
    return quality.T, cost.T


# --- mutants of the fit ------------------------------------------------------------------------


@dataclass(frozen=True)
class GlobalRngInFit:
    def fit(self, outcomes: Outcomes, pool: Pool, *, rng: np.random.Generator) -> Any:
        fitted = Words().fit(outcomes, pool, rng=rng)
        return replace(fitted, slopes=fitted.slopes + np.random.normal(size=fitted.slopes.shape))


@dataclass(frozen=True)
class SeedsTheGlobalRng:
    def fit(self, outcomes: Outcomes, pool: Pool, *, rng: np.random.Generator) -> Any:
        random.seed(0)
        return Words().fit(outcomes, pool, rng=rng)


@dataclass(frozen=True)
class WritesIntoTheTable:
    def fit(self, outcomes: Outcomes, pool: Pool, *, rng: np.random.Generator) -> Any:
        fitted = Words().fit(outcomes, pool, rng=rng)
        quality = outcomes.quality
        while quality.base is not None:
            quality = quality.base
        quality[0] = 0.0
        return fitted


@dataclass(frozen=True)
class BlanksAreZero:
    """A NaN cell is multiplied in."""

    def fit(self, outcomes: Outcomes, pool: Pool, *, rng: np.random.Generator) -> Any:
        fitted = Words().fit(outcomes, pool, rng=rng)
        return replace(fitted, slopes=fitted.slopes + 0.0 * outcomes.quality.mean())


@dataclass(frozen=True)
class DividesByTheSpread:
    def fit(self, outcomes: Outcomes, pool: Pool, *, rng: np.random.Generator) -> Any:
        fitted = Words().fit(outcomes, pool, rng=rng)
        spread = float(np.nanstd(outcomes.quality))
        if spread == 0.0:
            raise ZeroDivisionError("no spread")
        return fitted


@dataclass(frozen=True)
class DividesByTheCost:
    def fit(self, outcomes: Outcomes, pool: Pool, *, rng: np.random.Generator) -> Any:
        fitted = Words().fit(outcomes, pool, rng=rng)
        return Twisted(fitted, _per_dollar, 1.0 / float(np.nanmean(outcomes.cost) or np.nan))


def _per_dollar(self: Twisted, inputs: Any, quality: Any, cost: Any) -> Any:
    return np.clip(quality * (self.table * cost.mean()), 0, 1) if len(quality) else quality, cost


@dataclass(frozen=True)
class NeedsTwoDestinations:
    def fit(self, outcomes: Outcomes, pool: Pool, *, rng: np.random.Generator) -> Any:
        if outcomes.m < 2:
            raise InputError("pool", "hold two destinations", outcomes.m, "Add one.")
        return Words().fit(outcomes, pool, rng=rng)


@dataclass(frozen=True, eq=False)
class HoldsALambda:
    """Neither pickles nor fits into a router file."""

    names: tuple[str, ...]
    predict: Callable[[Any], Any]


@dataclass(frozen=True)
class Unpicklable:
    def fit(self, outcomes: Outcomes, pool: Pool, *, rng: np.random.Generator) -> Any:
        fitted = Words().fit(outcomes, pool, rng=rng)
        return HoldsALambda(fitted.names, lambda inputs: fitted.predict(inputs))


@dataclass(frozen=True, eq=False)
class ForgetsOnSaving:
    """A derived field that is not made again when the file is read."""

    inner: FittedWords
    offset: np.ndarray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "offset", np.zeros(len(self.inner.names)))

    @property
    def names(self) -> tuple[str, ...]:
        return self.inner.names

    def predict(self, inputs: Any) -> tuple[np.ndarray, np.ndarray]:
        quality, cost = self.inner.predict(inputs)
        return np.clip(quality * 0.3 + self.offset, 0.0, 1.0), cost


@dataclass(frozen=True)
class Forgetful:
    def fit(self, outcomes: Outcomes, pool: Pool, *, rng: np.random.Generator) -> Any:
        fitted = ForgetsOnSaving(Words().fit(outcomes, pool, rng=rng))
        object.__setattr__(fitted, "offset", np.linspace(0.5, 0.0, outcomes.m))
        return fitted


# --- mutants of the decision -------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Turned:
    """A router with one thing wrong in its decision."""

    inner: Any
    decide: Callable[..., Assignment] = field(repr=False)

    @property
    def names(self) -> tuple[str, ...]:
        return self.inner.names

    def predict(self, inputs: Any) -> tuple[np.ndarray, np.ndarray]:
        return self.inner.predict(inputs)

    def route(self, inputs: Any, pool: Pool, *, budget: Budget, rng: Any) -> Assignment:
        return self.decide(Priced(self.inner), inputs, pool, budget, rng)


@dataclass(frozen=True)
class Turn:
    """Recipe of `Turned`."""

    decide: Callable[..., Assignment]

    def fit(self, outcomes: Outcomes, pool: Pool, *, rng: np.random.Generator) -> Any:
        return Turned(Words().fit(outcomes, pool, rng=rng), self.decide)


def ignores_up(router: Priced, inputs: Any, pool: Pool, budget: Budget, rng: Any) -> Assignment:
    whole = replace(pool, up=np.ones(pool.m, dtype=bool))
    return router.route(inputs, whole, budget=budget, rng=rng)


def ignores_budget(router: Priced, inputs: Any, pool: Pool, budget: Budget, rng: Any) -> Assignment:
    kept = budget if budget.price is not None else Budget()
    return router.route(inputs, pool, budget=kept, rng=rng)


def overspends(router: Priced, inputs: Any, pool: Pool, budget: Budget, rng: Any) -> Assignment:
    if budget.mean_cost is not None:
        budget = Budget(mean_cost=1.2 * budget.mean_cost)
    return router.route(inputs, pool, budget=budget, rng=rng)


def misses_the_floor(
    router: Priced, inputs: Any, pool: Pool, budget: Budget, rng: Any
) -> Assignment:
    if budget.mean_quality is not None:
        budget = Budget(mean_quality=0.95 * budget.mean_quality)
    return router.route(inputs, pool, budget=budget, rng=rng)


def likes_high_prices(
    router: Priced, inputs: Any, pool: Pool, budget: Budget, rng: Any
) -> Assignment:
    if budget.price is not None and budget.price > 300:
        budget = Budget()
    return router.route(inputs, pool, budget=budget, rng=rng)


def caps_the_price(router: Priced, inputs: Any, pool: Pool, budget: Budget, rng: Any) -> Assignment:
    if budget.price is not None:
        budget = Budget(price=min(budget.price, 10.0))
    return router.route(inputs, pool, budget=budget, rng=rng)


def all_or_nothing(router: Priced, inputs: Any, pool: Pool, budget: Budget, rng: Any) -> Assignment:
    if budget.price is not None:
        budget = Budget(price=0.0 if budget.price < 300 else 1e12)
    return router.route(inputs, pool, budget=budget, rng=rng)


def counts_in_fitted_order(
    router: Priced, inputs: Any, pool: Pool, budget: Budget, rng: Any
) -> Assignment:
    routed = router.route(inputs, pool, budget=budget, rng=rng)
    return Assignment(columns(router.names, pool)[routed.index] % pool.m, routed.weight, pool.m)


def doubles_weight(router: Priced, inputs: Any, pool: Pool, budget: Budget, rng: Any) -> Assignment:
    routed = router.route(inputs, pool, budget=budget, rng=rng)
    return Assignment(routed.index, 2.0 * routed.weight, pool.m)


def drops_items(router: Priced, inputs: Any, pool: Pool, budget: Budget, rng: Any) -> Assignment:
    routed = router.route(inputs, pool, budget=budget, rng=rng)
    index = np.where(np.arange(len(inputs))[:, None] % 7 == 3, -1, routed.index)
    return Assignment(index, np.where(index < 0, 0.0, routed.weight), pool.m)


def out_of_range(router: Priced, inputs: Any, pool: Pool, budget: Budget, rng: Any) -> Assignment:
    routed = router.route(inputs, pool, budget=budget, rng=rng)
    return Assignment(routed.index + pool.m, routed.weight, pool.m)


def takes_any_pool(router: Priced, inputs: Any, pool: Pool, budget: Budget, rng: Any) -> Assignment:
    known = [name for name in pool.names if name in router.names]
    routed = router.route(inputs, pool.select(known), budget=budget, rng=rng)
    return Assignment(routed.index, routed.weight, pool.m)


def sorts_the_batch(
    router: Priced, inputs: Any, pool: Pool, budget: Budget, rng: Any
) -> Assignment:
    routed = router.route(inputs, pool, budget=budget, rng=rng)
    if isinstance(inputs, list):
        inputs.sort()
    return routed


def returns_a_list(router: Priced, inputs: Any, pool: Pool, budget: Budget, rng: Any) -> Any:
    return router.route(inputs, pool, budget=budget, rng=rng).index.ravel().tolist()


def shares_by_hash(router: Priced, inputs: Any, pool: Pool, budget: Budget, rng: Any) -> Assignment:
    """Draws without the rng it is given."""
    fresh = np.random.default_rng()
    up = np.flatnonzero(pool.available)
    columns(router.names, pool)
    return one_choice(fresh.choice(up, size=len(inputs)), pool.m)


@dataclass(frozen=True)
class AcceptsAnything:
    """Casts whatever it is given to text."""

    def fit(self, outcomes: Outcomes, pool: Pool, *, rng: np.random.Generator) -> Any:
        return Cast(Words().fit(outcomes, pool, rng=rng))


@dataclass(frozen=True, eq=False)
class Cast:
    inner: FittedWords

    @property
    def names(self) -> tuple[str, ...]:
        return self.inner.names

    def predict(self, inputs: Any) -> tuple[np.ndarray, np.ndarray]:
        return self.inner.predict([str(item) for item in inputs])


MUTANTS = {
    "global rng in fit": (GlobalRngInFit(), "global_rng_untouched"),
    "global rng in fit, seen by its routes": (GlobalRngInFit(), "same_rng_same_route"),
    "seeds the global rng": (SeedsTheGlobalRng(), "global_rng_untouched"),
    "global rng in predict": (Twist(global_noise_in_predict), "predict_is_pure"),
    "an rng of its own": (Turn(shares_by_hash), "same_rng_same_route"),
    "writes into the table": (WritesIntoTheTable(), "inputs_not_mutated"),
    "sorts the batch in place": (Turn(sorts_the_batch), "inputs_not_mutated"),
    "remembers its calls": (Twist(remembers_calls), "predict_is_pure"),
    "predicts NaN": (Twist(predicts_nan), "predictions_valid"),
    "predicts quality above one": (Twist(predicts_two), "predictions_valid"),
    "predicts negative cost": (Twist(negative_cost), "predictions_valid"),
    "transposed predictions": (Twist(flips_the_batch_shape), "predictions_valid"),
    "reads labels by row position": (Twist(knows_the_row), "per_item"),
    "ranks within the batch": (Twist(standardises_the_batch), "per_item"),
    "prefers column 0": (Twist(loves_the_first_column), "columns_relabelled"),
    "memorises the training rows": (Twist(memorises_rows), "gains_on_planted"),
    "ignores the text, yet claims to read it": (Twist(ignores_the_text), "reads_inputs"),
    "knows the answer key": (Twist(knows_the_answer_key), "no_gain_on_noise"),
    "fails on an empty batch": (Twist(chokes_on_nothing), "empty_batch"),
    "multiplies NaN cells in": (BlanksAreZero(), "blank_cells"),
    "divides by the spread": (DividesByTheSpread(), "equal_quality"),
    "divides by the cost": (DividesByTheCost(), "zero_costs"),
    "needs two destinations": (NeedsTwoDestinations(), "one_destination"),
    "does not pickle": (Unpicklable(), "pickle_round_trip"),
    "does not fit into a router file": (Unpicklable(), "store_round_trip"),
    "loses a field in its router file": (Forgetful(), "store_round_trip"),
    "ignores what is down": (Turn(ignores_up), "down_never_chosen"),
    "ignores the budget": (Turn(ignores_budget), "cost_budget_kept"),
    "overspends by a fifth": (Turn(overspends), "cost_budget_kept"),
    "takes an impossible budget": (Turn(ignores_budget), "impossible_budget_refused"),
    "misses the quality floor": (Turn(misses_the_floor), "quality_floor_kept"),
    "spends more at a high price": (Turn(likes_high_prices), "price_monotone"),
    "keeps dear ones at any price": (Turn(caps_the_price), "whole_curve"),
    "knows two prices": (Turn(all_or_nothing), "whole_curve"),
    "counts in fitted order": (Turn(counts_in_fitted_order), "pool_order"),
    "weights sum to two": (Turn(doubles_weight), "assignment_valid"),
    "earns above the oracle": (Turn(doubles_weight), "never_above_oracle"),
    "sends some items nowhere": (Turn(drops_items), "assignment_valid"),
    "index out of range": (Turn(out_of_range), "assignment_valid"),
    "returns a list": (Turn(returns_a_list), "assignment_valid"),
    "takes any pool": (Turn(takes_any_pool), "unknown_destination_refused"),
    "casts anything to text": (AcceptsAnything(), "bad_inputs_refused"),
}


def verdict(recipe: Any, name: str, card: Card = CARD) -> Any:
    """What one check says of one recipe."""
    item = next(item for item in CHECKS if item.name == name)
    return run_check(Subject(Case(recipe), card), item)


def test_a_correct_router_passes_every_check() -> None:
    """The router the mutants are made from breaks nothing."""
    report = check(Words())
    assert {result.status for result in report.results} == {"passed"}
    assert len(report.results) == len(checks_for(CARD)) > 20


@pytest.mark.parametrize("what", MUTANTS)
def test_a_broken_router_is_caught_by_the_check_made_for_it(what: str) -> None:
    """Each defect fails the check that names its property."""
    recipe, name = MUTANTS[what]
    assert verdict(recipe, name).status == "failed", f"{name} let it pass"


def test_every_check_of_one_shot_routers_catches_a_mutant() -> None:
    """No check is there that could never fail."""
    caught = {name for _, name in MUTANTS.values()}
    assert caught == {item.name for item in checks_for(CARD)}


# --- sequential --------------------------------------------------------------------------------

SEQUENTIAL = replace(CARD, recipe="Cascade", properties=("learns", "sequential", "reads_inputs"))


@dataclass(frozen=True, eq=False)
class Ladder:
    """Asks from the cheapest up until an answer sounds sure; correct unless `wrong` says how."""

    names: tuple[str, ...]
    order: tuple[int, ...]
    costs: CostModel
    wrong: str = ""
    log: list[int] = field(default_factory=list, repr=False)

    def _steps(self, pool: Pool, budget: Budget) -> list[int]:
        known = columns(self.names, pool)
        steps = [j for c in self.order for j in np.flatnonzero(known == c) if pool.available[j]]
        if self.wrong == "down":
            steps = [j for c in self.order for j in np.flatnonzero(known == c)]
        return [int(j) for j in steps]

    def route(self, inputs: Any, pool: Pool, *, budget: Budget, rng: Any) -> Assignment:
        bag(inputs, ())
        steps = self._steps(pool, budget)
        if self.wrong == "plan":
            steps = [steps[0]] * len(steps)
        index = np.tile(np.array(steps), (len(inputs), 1))
        weight = np.full(index.shape, 1.0 / len(steps))
        return Assignment(index, weight, pool.m)

    def proceed(
        self, inputs: Any, asked: Any, answers: Any, pool: Pool, *, budget: Budget, rng: Any
    ) -> Any:
        steps = self._steps(pool, budget)
        self.log.append(1)
        s = asked.shape[1]
        if self.wrong == "silent" and s == 0:
            return np.full(len(inputs), -1)
        if s >= len(steps):
            return np.full(len(inputs), steps[0] if self.wrong == "endless" else -1)
        following = steps[0] if self.wrong == "again" else steps[s]
        sure = np.array([bool(row) and "follows" in row[-1] for row in answers], dtype=bool)
        if self.wrong == "moody" and len(self.log) % 3 == 0:
            sure = ~sure
        if self.wrong == "shape":
            return np.array([following])
        sure &= s > 0
        if self.wrong == "endless":
            sure[:] = False
        return np.where(sure, -1, following)


@dataclass(frozen=True)
class Cascade:
    wrong: str = ""

    def fit(self, outcomes: Outcomes, pool: Pool, *, rng: np.random.Generator) -> Any:
        order = tuple(int(j) for j in np.argsort(outcomes.mean_cost(), kind="stable"))
        return Ladder(outcomes.names, order, fit_costs(outcomes), self.wrong)


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        ("again", "sequence_ends"),
        ("endless", "sequence_ends"),
        ("silent", "sequence_ends"),
        ("shape", "sequence_ends"),
        ("moody", "sequence_is_pure"),
        ("plan", "plan_valid"),
        ("down", "down_never_chosen"),
    ],
)
def test_a_broken_cascade_is_caught(wrong: str, name: str) -> None:
    """A cascade that repeats, never stops, never starts, or asks what is down is caught."""
    assert verdict(Cascade(wrong), name, SEQUENTIAL).status == "failed"
    assert verdict(Cascade(), name, SEQUENTIAL).status == "passed"


def test_a_cascade_learns_from_the_answers_it_sees() -> None:
    """Accepting what sounds sure gains over single destinations on the planted answers."""
    assert verdict(Cascade(), "gains_on_planted", SEQUENTIAL).status == "passed"


def test_an_episode_adds_up_what_it_asked() -> None:
    """The cost of an episode is the sum of the cells it asked."""
    subject = Subject(Case(Cascade()), SEQUENTIAL)
    asked, cost = episode(subject.sequential, subject.test, subject.pool, Budget())
    table = subject.test.outcomes
    assert asked.shape[0] == table.n
    first = table.cost[np.arange(table.n), asked[:, 0]]
    once = (asked >= 0).sum(axis=1) == 1
    assert once.any()
    assert not once.all()
    np.testing.assert_allclose(cost[once], first[once])
    assert (cost[~once] > first[~once]).all()


def test_a_claim_to_be_sequential_needs_proceed() -> None:
    """A one-shot router whose card says sequential is told so."""
    result = verdict(Words(), "sequence_ends", SEQUENTIAL)
    assert result.status == "failed"
    assert "proceed" in result.message


# --- online ------------------------------------------------------------------------------------

ONLINE = replace(CARD, recipe="Counts", properties=("online",))


@dataclass(frozen=True, eq=False)
class Counter:
    """Mean outcome a destination, kept as it serves; correct unless `wrong` says how."""

    names: tuple[str, ...]
    wins: np.ndarray
    pulls: np.ndarray
    costs: CostModel
    wrong: str = ""

    def predict(self, inputs: Any) -> tuple[np.ndarray, np.ndarray]:
        mean = self.wins / np.maximum(self.pulls, 1.0)
        return np.tile(mean, (len(inputs), 1)), self.costs.predict(inputs)

    def learn(self, inputs: Any, chosen: Any, outcome: Any) -> None:
        fine = np.isfinite(outcome).all() and ((outcome >= 0) & (outcome <= 1)).all()
        if not (fine or self.wrong == "gullible"):
            raise InputError("outcome", "lie in [0, 1]", outcome, "Clip it.")
        if (chosen >= len(self.names)).any():
            raise InputError("chosen", "be a destination", chosen, "Correct it.")
        if self.wrong != "deaf":
            np.add.at(self.wins, chosen, outcome)
            np.add.at(self.pulls, chosen, 1.0)


@dataclass(frozen=True)
class Counts:
    wrong: str = ""

    def fit(self, outcomes: Outcomes, pool: Pool, *, rng: np.random.Generator) -> Any:
        pulls = outcomes.seen.sum(axis=0).astype(float)
        wins = np.nansum(outcomes.quality, axis=0)
        return Counter(outcomes.names, wins, pulls, fit_costs(outcomes), self.wrong)


@pytest.mark.parametrize(
    ("wrong", "name"),
    [("deaf", "learning_follows_outcomes"), ("gullible", "bad_outcomes_refused")],
)
def test_a_broken_learner_is_caught(wrong: str, name: str) -> None:
    """A learner that ignores its outcomes, or takes in NaN, is caught."""
    assert verdict(Counts(wrong), name, ONLINE).status == "failed"
    assert verdict(Counts(), name, ONLINE).status == "passed"


# --- the suite itself --------------------------------------------------------------------------


def test_check_lists_every_broken_check() -> None:
    """One call says all that is wrong."""
    with pytest.raises(ContractError, match="assignment_valid") as caught:
        check(Turn(doubles_weight), card=CARD)
    assert "never_above_oracle" in str(caught.value)


def test_an_exemption_needs_its_failure() -> None:
    """An exempted check that fails is exempt; one that passes makes the exemption stale."""
    fails = Subject(Case(Turn(ignores_up), {"down_never_chosen": "a test"}), CARD)
    item = next(item for item in CHECKS if item.name == "down_never_chosen")
    assert run_check(fails, item).status == "exempt"
    stale = run_check(Subject(Case(Words(), {"down_never_chosen": "a test"}), CARD), item)
    assert stale.status == "failed"
    assert "stale" in stale.message


def test_an_exemption_names_a_check() -> None:
    """A misspelt exemption is refused with the list of checks."""
    with pytest.raises(InputError, match="empty_batch"):
        check(Case(Words(), {"empty": "misspelt"}))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Case(Words),  # type: ignore[arg-type]  # a class, not an instance
        lambda: Case(object()),  # type: ignore[arg-type]  # no fit
        lambda: Case(Words(), {"empty_batch": " "}),  # no reason
        lambda: Case(Words(), inputs="images"),  # unknown kind
    ],
)
def test_a_case_refuses(make: Callable[[], Case]) -> None:
    """A case that cannot be run is refused when made."""
    with pytest.raises(InputError, match="case"):
        make()
