"""A new model joins a fitted router."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

import turnout
from turnout.core import Budget, InputError, Outcomes, Pool
from turnout.llms.knn import Knn
from turnout.llms.linear import FittedLinear, Linear
from turnout.parts import store
from turnout.parts._newcomer_prior import Noise, alike, measure_noise
from turnout.parts.decide import compile_decider
from turnout.parts.learners.logistic import fit_logistic, sigmoid
from turnout.parts.newcomer import Joined, join
from turnout.parts.priced import Priced

M = 8


@dataclass(frozen=True, eq=False)
class Told:
    """A predictor that is told the true quality of prompt "17"."""

    names: tuple[str, ...]
    quality: np.ndarray

    def predict(self, inputs: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        rows = [int(text) for text in inputs]
        return self.quality[rows], np.ones((len(rows), len(self.names)))


@dataclass(frozen=True, eq=False)
class World:
    """n prompts of two kinds of difficulty, and models whose price tells their level."""

    table: Outcomes
    truth: np.ndarray

    def known(self, k: int) -> tuple[str, ...]:
        return tuple(name for j, name in enumerate(self.table.names) if j != k)

    def base(self, k: int) -> Told:
        return Told(self.known(k), np.delete(self.truth, k, axis=1))

    def price(self, k: int) -> Pool:
        cost = self.table.mean_cost()[[k]]
        return Pool(names=(self.table.names[k],), usd_per_item=cost)

    def labelled(self, k: int, rows: Sequence[int] | np.ndarray) -> Outcomes:
        """The table with the labels of model k, now last, on some rows alone."""
        name = self.table.names[k]
        whole = self.table.select((*self.known(k), name))
        if len(rows) == 0:
            return whole.select(self.known(k))
        blank = np.ones(whole.n, dtype=bool)
        blank[rows] = False
        quality, cost = whole.quality.copy(), whole.cost.copy()
        quality[blank, -1] = cost[blank, -1] = np.nan
        return replace(whole, quality=quality, cost=cost)


def world(seed: int = 0, n: int = 800, *, spread: float = 0.3, binary: bool = True) -> World:
    """Levels rise with the logarithm of the price; loadings differ by `spread`."""
    rng = np.random.default_rng(seed)
    hard, other = rng.normal(0.0, 1.2, n), rng.normal(0.0, 0.7, n)
    price = np.exp(np.linspace(0.0, 4.0, M))
    level = -1.5 + 0.75 * np.log(price) + rng.normal(0.0, 0.2, M)
    slope, tilt = 1.0 + rng.normal(0.0, spread, M), rng.normal(0.0, spread, M)
    truth = sigmoid(level - np.outer(hard, slope) + np.outer(other, tilt))
    quality = (rng.random((n, M)) < truth).astype(float) if binary else truth
    table = Outcomes(
        inputs=[str(i) for i in range(n)],
        names=tuple(f"model{k}" for k in range(M)),
        quality=quality,
        cost=np.tile(price, (n, 1)),
    )
    return World(table, truth)


@pytest.fixture(scope="module")
def planted() -> World:
    return world()


def _loss(guess: np.ndarray, truth: np.ndarray) -> float:
    """Expected log loss."""
    return float(-(truth * np.log(guess) + (1 - truth) * np.log(1 - guess)).mean())


def _join(planted: World, k: int, rows: Sequence[int] | np.ndarray = (), **more: object) -> Joined:
    return join(planted.base(k), planted.labelled(k, rows), planted.price(k), **more)  # type: ignore[arg-type]


def _column(joined: Joined, planted: World, k: int) -> np.ndarray:
    return joined.expected(np.delete(planted.truth, k, axis=1))


def test_a_price_foretells_the_level(planted: World) -> None:
    """Where dearer models are better, a new one is placed by its price alone."""
    told, untold = [], []
    flat = replace(planted, table=replace(planted.table, cost=np.ones_like(planted.table.cost)))
    for k in range(M):
        true = planted.truth[:, k].mean()
        told.append(_column(_join(planted, k), planted, k).mean() - true)
        untold.append(_column(_join(flat, k), flat, k).mean() - true)
    assert np.abs(told).max() < 0.12
    assert np.abs(told).mean() < 0.4 * np.abs(untold).mean()


def test_a_description_foretells_the_level() -> None:
    """Of two families, told apart by words alone, a new model is taken for one of its own."""
    rng = np.random.default_rng(0)
    hard = rng.normal(0.0, 1.0, 800)
    strong = np.arange(M) % 2 == 0
    truth = sigmoid(np.where(strong, 1.5, -1.5) - hard[:, None])
    words = [
        "careful reasoning over proofs" if one else "quick chat in small talk" for one in strong
    ]
    table = Outcomes(
        inputs=[str(i) for i in range(800)],
        names=tuple("abcdefgh"),
        quality=(rng.random(truth.shape) < truth).astype(float),
        cost=np.ones(truth.shape),
    )
    pool = Pool(names=table.names, description=words)
    for k, more in ((0, 0.6), (1, 0.0)):
        known = [name for name in table.names if name != table.names[k]]
        base = Told(tuple(known), np.delete(truth, k, axis=1))
        new = replace(pool.select((table.names[k],)), usd_per_item=np.ones(1))
        level = join(base, table.select(known), new, pool=pool).expected(base.quality).mean()
        assert more < level < more + 0.4
        plain = join(base, table.select(known), replace(new, description=("",)))
        assert abs(plain.expected(base.quality).mean() - 0.5) < 0.15


def test_features_foretell_the_level(planted: World) -> None:
    """A feature that goes with the level does what the price does."""
    flat = replace(planted, table=replace(planted.table, cost=np.ones_like(planted.table.cost)))
    size = np.linspace(0.0, 4.0, M)[:, None]
    pool = Pool(names=flat.table.names, features=size)
    for k in (1, 6):
        new = replace(flat.price(k), features=size[[k]])
        joined = join(flat.base(k), flat.labelled(k, ()), new, pool=pool)
        assert _column(joined, flat, k).mean() == pytest.approx(flat.truth[:, k].mean(), abs=0.12)


def test_without_labels_it_is_the_prior(planted: World) -> None:
    """No label: wide, drawn to one half as a posterior mean is, and told so."""
    joined = _join(planted, 3)
    assert joined.labels == 0
    plug = sigmoid(joined.mean[0] + 0.0)
    typical = 1 / (1 + np.exp(-joined.centre))
    mean = joined.expected(typical[None])[0]
    assert abs(mean - 0.5) < abs(plug - 0.5)
    _, low, high = joined.outlook(np.delete(planted.truth, 3, axis=1), rng=np.random.default_rng(0))
    assert high - low > 0.15


def test_the_posterior_mean_by_hand() -> None:
    """Level 1, loading 1/2, variances 4 and 0: log-odds 2 of the other give 2 / sqrt(1 + pi/2)."""
    q = float(sigmoid(np.array(2.0)))
    base = Told(("a",), np.array([[q]]))
    costs = join(base, _tiny(), Pool(names=("b",), usd_per_item=np.ones(1))).costs
    joined = Joined(
        base, "b", np.zeros(1), np.array([1.0, 0.5]), np.diag([2.0, 0.0]), costs, labels=0
    )
    want = 1 / (1 + np.exp(-2.0 / np.sqrt(1 + np.pi / 2)))
    assert joined.predict(["0"])[0][0].tolist() == pytest.approx([q, want], abs=1e-12)


def _tiny() -> Outcomes:
    return Outcomes(inputs=["0"], names=("a",), quality=np.ones((1, 1)), cost=np.ones((1, 1)))


def test_with_all_labels_it_is_the_stacked_fit(planted: World) -> None:
    """The more labels, the nearer to a plain logistic fit on the known models' log-odds."""
    k, n = 4, planted.table.n
    far = []
    for count in (30, 300, n):
        joined = _join(planted, k, np.arange(count))
        q = np.clip(np.delete(planted.truth, k, axis=1), 0.01, 0.99)
        x = np.log(q / (1 - q)) - joined.centre
        weights, level = fit_logistic(
            csr_matrix(x), planted.table.quality[:, [k]], 1e-6, tolerance=1e-7, steps=200
        )
        stacked = sigmoid(x @ weights[:, 0] + level[0])
        far.append(float(np.abs(_column(joined, planted, k) - stacked).mean()))
    assert far[0] > far[1] > far[2]
    assert far[2] < 0.02


def test_labels_help_on_the_average(planted: World) -> None:
    """The expected loss over new models and choices of labels falls from each count to the next."""
    counts = (0, 40, 160, planted.table.n)
    loss = np.zeros(len(counts))
    for k in range(M):
        for seed in range(2):
            order = np.random.default_rng([seed, k]).permutation(planted.table.n)
            loss += [
                _loss(_column(_join(planted, k, order[:count]), planted, k), planted.truth[:, k])
                for count in counts
            ]
    assert all(after < before for before, after in pairwise(loss))


def test_it_says_how_sure_it_is(planted: World) -> None:
    """The interval of the mean holds the truth in most of many cases, and narrows with labels."""
    inside, widths = [], {30: [], 300: []}
    for k in range(M):
        for count in widths:
            for seed in range(2):
                rows = np.random.default_rng([seed, k]).choice(planted.table.n, count, False)
                known = np.delete(planted.truth, k, axis=1)
                rng = np.random.default_rng(seed)
                mean, low, high = _join(planted, k, rows).outlook(known, rng=rng)
                assert low < mean < high
                inside.append(low < planted.truth[:, k].mean() < high)
                widths[count].append(high - low)
    assert np.mean(inside) > 0.85
    assert np.mean(widths[300]) < 0.6 * np.mean(widths[30])


def test_answers_of_the_others_sharpen_labels() -> None:
    """Where luck is shared, labels beside the others' answers tell the level better."""
    rng = np.random.default_rng(0)
    n, m = 800, 6
    hard, luck = rng.normal(0.0, 0.8, n), rng.normal(0.0, 2.0, n)
    # quality given the prompt's words is a mean over the luck that all models share
    score = np.array([-2.5, 2.0, -1.5, 1.5, 2.5, 0.0]) - hard[:, None]
    truth = sigmoid(score / np.sqrt(1 + np.pi / 8 * 4))
    quality = (rng.random((n, m)) < sigmoid(luck[:, None] + score)).astype(float)
    names = tuple(f"m{j}" for j in range(m))
    base = Told(names[:-1], truth[:, :-1])
    errors = {"beside": [], "alone": []}
    for seed in range(30):
        rows = np.random.default_rng(seed).choice(n, 40, replace=False)
        label = np.full(n, np.nan)
        label[rows] = quality[rows, -1]
        for way in errors:
            told = np.column_stack((quality[:, :-1], label))
            if way == "alone":
                told[rows, :-1] = np.nan
            table = Outcomes(
                inputs=[str(i) for i in range(n)], names=names, quality=told, cost=np.ones((n, m))
            )
            joined = join(base, table, Pool(names=names[-1:], usd_per_item=np.ones(1)))
            guess = joined.expected(truth[:, :-1]).mean()
            errors[way].append((guess - truth[:, -1].mean()) ** 2)
    assert np.mean(errors["beside"]) < 0.75 * np.mean(errors["alone"])


def test_what_the_base_gets_wrong_is_no_luck(planted: World) -> None:
    """Where the base is too modest everywhere, all labels still give the stacked fit's mean."""
    k = 1
    low = Told(planted.known(k), np.delete(planted.truth, k, axis=1) ** 3)
    joined = join(low, planted.labelled(k, np.arange(planted.table.n)), planted.price(k))
    assert joined.expected(low.quality).mean() == pytest.approx(
        planted.table.quality[:, k].mean(), abs=0.004
    )


def test_a_new_model_is_hard_where_its_like_is() -> None:
    """Of two families that fail on different prompts, a description tells which to go by."""
    rng = np.random.default_rng(0)
    first, second = rng.normal(0.0, 1.5, (2, 800))
    own = np.where((np.arange(M) < M // 2)[None], first[:, None], second[:, None])
    truth = sigmoid(0.4 - own + 0.3 * rng.normal(0.0, 1.0, (800, M)))
    table = Outcomes(
        inputs=[str(i) for i in range(800)],
        names=tuple("abcdefgh"),
        quality=(rng.random(truth.shape) < truth).astype(float),
        cost=np.ones(truth.shape),
    )
    words = ["proofs and sums"] * (M // 2) + ["verse and rhyme"] * (M // 2)
    pool = Pool(names=table.names, description=words)
    for k in (0, M - 1):
        known = [name for name in table.names if name != table.names[k]]
        base = Told(tuple(known), np.delete(truth, k, axis=1))
        new = replace(pool.select((table.names[k],)), usd_per_item=np.ones(1))
        guess = join(base, table.select(known), new, pool=pool).expected(base.quality)
        right, wrong = (-(first, second)[which] for which in ((0, 1) if k == 0 else (1, 0)))
        assert np.corrcoef(guess, right)[0, 1] > np.corrcoef(guess, wrong)[0, 1] + 0.3


def test_exact_grades_weigh_more_than_right_or_wrong() -> None:
    """Ten grades without chance place a model where ten right or wrong answers cannot."""
    off = {}
    for binary in (True, False):
        here = world(2, 400, spread=0.05, binary=binary)
        off[binary] = [
            abs(float((_column(_join(here, k, np.arange(10)), here, k) - here.truth[:, k]).mean()))
            for k in range(M)
        ]
    assert np.mean(off[False]) < 0.014 < 0.025 < np.mean(off[True])


def test_the_control_is_the_best_linear_one() -> None:
    """With variance 1 and covariance 1/4, three others tell a half, and one a quarter."""
    noise = Noise(variance=1.0, shared=0.25, dispersion=0.8)
    assert noise.control(np.array([0.0, 1.0, 3.0])) == pytest.approx([0.0, 0.25, 0.5])
    assert noise.left(np.array([0.0, 1.0, 3.0])) == pytest.approx([0.8, 0.75, 0.7])


def test_noise_is_measured() -> None:
    """Right or wrong has dispersion 1, grades without chance the least; luck is shared or not."""
    binary, exact = world(3, 4000), world(3, 4000, binary=False)
    assert measure_noise(binary.table.quality, binary.truth).dispersion == pytest.approx(
        1, abs=0.05
    )
    assert measure_noise(binary.table.quality, binary.truth).shared < 0.01
    assert measure_noise(exact.table.quality, exact.truth).dispersion == 0.05
    same = np.tile(binary.table.quality[:, :1], (1, 2))
    found = measure_noise(same, np.full(same.shape, same.mean()))
    assert found.shared == pytest.approx(found.variance * 0.95)


def test_likeness_of_descriptions() -> None:
    """The same words in another order are alike, no word in common is not, rare words weigh."""
    found = alike(["The quick model.", "Model: the QUICK", "other thing", "the fox", ""])
    assert found[0, 1] == pytest.approx(1.0)
    assert found[0, 2] == 0.0
    assert 0.0 < found[0, 3] < 0.5
    assert found[4, :4].tolist() == [0.0] * 4
    assert (found == found.T).all()


def test_labels_of_prompts_that_nobody_else_answered(planted: World) -> None:
    """Further rows in which only the new model was asked teach it as well."""
    k, rows = 2, np.arange(200)
    table = planted.labelled(k, rows)
    quality = table.quality.copy()
    quality[rows, :-1] = np.nan
    joined = join(planted.base(k), replace(table, quality=quality), planted.price(k))
    assert joined.labels == 200
    assert _column(joined, planted, k).mean() == pytest.approx(planted.truth[:, k].mean(), abs=0.08)


def test_the_known_are_left_as_they_are(planted: World) -> None:
    """Their figures are the base's, to the bit; the new column comes last."""
    joined = _join(planted, 5, np.arange(50))
    quality, cost = joined.predict(["3", "8"])
    want, paid = planted.base(5).predict(["3", "8"])
    assert joined.names == (*planted.known(5), "model5")
    assert (quality[:, :-1] == want).all()
    assert (cost[:, :-1] == paid).all()
    assert quality.shape == cost.shape == (2, M)


def test_the_order_of_the_known_is_nothing(planted: World) -> None:
    """Known models in another order give the same new column."""
    k, rows = 3, np.arange(40)
    turned = planted.known(k)[::-1]
    base = Told(turned, np.delete(planted.truth, k, axis=1)[:, ::-1])
    other = join(base, planted.labelled(k, rows), planted.price(k))
    same = _column(_join(planted, k, rows), planted, k)
    assert other.expected(base.quality) == pytest.approx(same, abs=1e-6)


def test_better_predictions_of_the_rows_can_be_handed_in(planted: World) -> None:
    """`predicted` stands in for what the base says of the table's rows."""
    k, rows = 3, np.arange(300)
    known = np.delete(planted.truth, k, axis=1)
    bold = Told(planted.known(k), sigmoid(4 * np.log(known / (1 - known))))
    table = planted.labelled(k, rows)
    honest = join(bold, table, planted.price(k), predicted=known)
    assert (honest.mean == _join(planted, k, rows).mean).all()
    assert (honest.mean != join(bold, table, planted.price(k)).mean).any()


@pytest.mark.parametrize("m", [1, 2])
def test_one_or_two_known_models_suffice(planted: World, m: int) -> None:
    """With hardly anything to learn from, the prior is wide, and labels do the rest."""
    names = planted.table.names[2 : 2 + m]
    base = Told(names, planted.truth[:, 2 : 2 + m])
    new = planted.price(5)
    first = join(base, planted.table.select(names), new)
    assert 0.3 < first.expected(base.quality).mean() < 0.9
    table = planted.labelled(5, np.arange(400)).select((*names, "model5"))
    later = join(base, table, new).expected(base.quality)
    assert later.mean() == pytest.approx(planted.truth[:, 5].mean(), abs=0.06)
    assert np.corrcoef(later, planted.truth[:, 5])[0, 1] > 0.9


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_models_that_are_all_the_same(value: float) -> None:
    """Answers and predictions that never change are met without a fault."""
    n = 40
    names = ("a", "b", "c")
    base = Told(names[:2], np.full((n, 2), value))
    quality = np.full((n, 3), value)
    for labels in (0, 5, n):
        quality[labels:, 2] = np.nan
        table = Outcomes(
            inputs=[str(i) for i in range(n)],
            names=names,
            quality=quality.copy() if labels else np.full((n, 3), value),
            cost=np.ones((n, 3)),
        )
        table = table if labels else table.select(names[:2])
        joined = join(base, table, Pool(names=("c",), usd_per_item=np.ones(1)))
        guess = joined.expected(base.quality)
        assert np.isfinite(guess).all()
        assert abs(guess[0] - value) < 0.55
        quality[:] = value


def test_a_single_row_is_enough(planted: World) -> None:
    """The smallest table gives a finite, wide answer."""
    table = planted.labelled(0, [0]).take([0])
    joined = join(planted.base(0), table, planted.price(0))
    assert joined.labels == 1
    assert np.isfinite(joined.expected(planted.base(0).quality)).all()


def test_a_log_of_single_choices_will_do(planted: World) -> None:
    """Rows that each saw one model tell how the models differ, though not what they share."""
    rng = np.random.default_rng(0)
    k, seen = 4, rng.integers(0, M, planted.table.n)
    table = planted.table.select((*planted.known(k), "model4"))
    quality = np.where(np.arange(M) == seen[:, None], table.quality, np.nan)
    joined = join(planted.base(k), replace(table, quality=quality), planted.price(k))
    assert joined.labels == int((seen == M - 1).sum())
    assert _column(joined, planted, k).mean() == pytest.approx(planted.truth[:, k].mean(), abs=0.07)


# Costs.


def _costs(newcomer: Pool, table: Outcomes, **more: object) -> np.ndarray:
    base = Told(("a",), np.full((len(table.inputs), 1), 0.6))
    return join(base, table, newcomer, predicted=base.quality, **more).costs.predict(["x" * 400])[0]  # type: ignore[arg-type]


def _paid(cost: Sequence[float]) -> Outcomes:
    """Two prompts of 400 characters; the new model's answers cost this, NaN = not asked."""
    graded = np.where(np.isnan(cost), np.nan, 1.0)
    return Outcomes(
        inputs=["x" * 400, "y" * 400],
        names=("a", "b"),
        quality=np.column_stack(([1.0, 0.0], graded)),
        cost=np.column_stack(([0.03, 0.03], cost)),
    )


def test_costs_by_hand() -> None:
    """100 tokens read and 200 written, or as many as is said, at the price; and a flat price."""
    table = _paid([np.nan, 0.5]).select(("a",))
    by_token = Pool(
        names=("b",), usd_per_input_token=np.array([1e-4]), usd_per_output_token=np.array([2e-4])
    )
    assert _costs(by_token, table) == pytest.approx([0.01 + 0.04])
    assert _costs(by_token, table, answer_tokens=50) == pytest.approx([0.01 + 0.01])
    both = replace(by_token, usd_per_item=np.array([0.5]))
    assert _costs(both, table) == pytest.approx([0.55])


def test_the_others_tell_how_long_answers_are() -> None:
    """The known one paid 0.03 at 0.0001 a token, 100 read: it wrote 200 more than 0 - here 100."""
    table = _paid([np.nan, 0.5]).select(("a",))
    pool = Pool(
        names=("a",), usd_per_input_token=np.array([1e-4]), usd_per_output_token=np.array([2e-4])
    )
    new = Pool(names=("b",), usd_per_output_token=np.array([1e-3]))
    assert _costs(new, table, pool=pool) == pytest.approx([0.1])


def test_paid_answers_move_the_price() -> None:
    """The price counts as one answer; without a price the answers alone count."""
    new = Pool(names=("b",), usd_per_item=np.array([0.1]))
    assert _costs(new, _paid([0.4, 0.4])) == pytest.approx([0.3])
    assert _costs(new, _paid([0.4, np.nan])) == pytest.approx([0.25])
    assert _costs(Pool(names=("b",)), _paid([0.4, 0.2])) == pytest.approx([0.3])


def test_free_models_have_a_place_among_prices(planted: World) -> None:
    """A cost of zero, of a known model or of the new one, is a low price and no fault."""
    cost = planted.table.cost.copy()
    cost[:, 0] = 0.0
    free = replace(planted, table=replace(planted.table, cost=cost))
    for k in range(M):
        off = _column(_join(free, k), free, k).mean() - free.truth[:, k].mean()
        assert abs(off) < 0.2


# Service.

TEXTS = [f"{verb} {noun} {i}" for i in range(40) for verb in ("add", "sing") for noun in ("x", "y")]


@pytest.fixture(scope="module")
def served() -> tuple[Outcomes, Pool]:
    rng = np.random.default_rng(1)
    good = np.array([[0.9, 0.8, 0.85] if "add" in text else [0.2, 0.7, 0.5] for text in TEXTS])
    table = Outcomes(
        inputs=TEXTS,
        names=("small", "large", "new"),
        quality=(rng.random(good.shape) < good).astype(float),
        cost=np.outer([len(text) for text in TEXTS], [0.1, 1.0, 0.4]),
    )
    price = np.array([0.3]), np.array([0.04])
    return table, Pool(names=("new",), usd_per_item=price[0], usd_per_input_token=price[1])


def _served(recipe: Linear | Knn, served: tuple[Outcomes, Pool]) -> Joined:
    table, new = served
    known = table.select(("small", "large"))
    base = recipe.fit(known, known.pool(), rng=np.random.default_rng(0))
    return join(base, table, new)


@given(st.lists(st.text(max_size=40), min_size=1, max_size=4))
@settings(max_examples=40, deadline=None)
@pytest.mark.parametrize("recipe", [Linear(), Knn(k=9)])
def test_one_is_as_many(recipe: Linear | Knn, served: tuple[Outcomes, Pool], texts: list) -> None:
    """`predict_one` gives the figures of `predict`, to the bit."""
    if recipe not in _MADE:
        _MADE[recipe] = _served(recipe, served)
    joined = _MADE[recipe]
    quality, cost = joined.predict(texts)
    alone = [joined.predict_one(text) for text in texts]
    if isinstance(recipe, Linear):
        assert [one for one, _ in alone] == quality.tolist()
        assert [one for _, one in alone] == cost.tolist()
    else:  # a batch of another size is another product of matrices, in the base already
        assert np.array([one for one, _ in alone]) == pytest.approx(quality, abs=1e-6)
        single = [joined.predict((text,)) for text in texts]
        assert [one for one, _ in alone] == [made[0][0].tolist() for made in single]


_MADE: dict[object, Joined] = {}


def test_a_decider_decides_as_the_router_does(served: tuple[Outcomes, Pool]) -> None:
    """Batches and single requests go the same way, to the new model too."""
    joined = _served(Linear(), served)
    pool = Pool(names=("new", "small", "large"))
    decider = compile_decider(joined, pool)
    chosen = Priced(joined).route(
        TEXTS, pool, budget=Budget(price=0.02), rng=np.random.default_rng(0)
    )
    assert [decider.decide(text, 0.02)[0] for text in TEXTS] == chosen.index[:, 0].tolist()
    assert 0 in chosen.index
    assert isinstance(decider.use_kernel(), str)
    assert joined.kernel() is None
    assert _served(Knn(k=9), served).use_kernel() != ""


def test_it_says_why(served: tuple[Outcomes, Pool]) -> None:
    """The base speaks for the known, and one sentence for the new; of the two best unless named."""
    joined = _served(Linear(), served)
    base = joined.base
    assert isinstance(base, FittedLinear)
    both = joined.because("add x 3", ("new", "large"))
    assert both[:-1] == base.because("add x 3", ("large",))
    quality = joined.predict_one("add x 3")[0][2]
    assert f"160 of its answers: {quality:.2f} here" in both[-1]
    assert joined.because("add x 3", ("small", "large")) == base.because(
        "add x 3", ("small", "large")
    )
    order = np.argsort(joined.predict_one("add x 3")[0])[::-1][:2]
    names = [joined.names[int(j)] for j in order]
    assert joined.because("add x 3") == joined.because("add x 3", names)


def test_it_says_why_where_the_base_cannot(planted: World) -> None:
    """Then there is the one sentence alone, or none."""
    joined = _join(planted, 3)
    (said,) = joined.because("7", ("model3", "model1"))
    assert said.startswith("model3 is told from the others and its price and description: 0.")
    assert joined.because("7", ("model0", "model1")) == ()


@pytest.mark.parametrize("recipe", [Linear(), Knn(k=9)])
def test_saved_and_loaded(tmp_path: Path, recipe: Linear | Knn, served: tuple) -> None:
    """A file gives back the same figures, to the last bit, ready to serve."""
    joined = _served(recipe, served)
    path = tmp_path / "joined.turnout"
    store.save(path, joined, Pool(names=joined.names))
    loaded = turnout.load(path)
    assert loaded.router.names == ("small", "large", "new")
    assert isinstance(loaded.router, Priced)
    for table, same in zip(loaded.router.predict(TEXTS), joined.predict(TEXTS), strict=True):
        assert table.tolist() == same.tolist()
    assert loaded.router.predictor.labels == len(TEXTS)  # type: ignore[attr-defined]


def test_one_after_another(served: tuple[Outcomes, Pool]) -> None:
    """A router that one has joined can be joined by the next."""
    table, _ = served
    joined = _served(Linear(), served)
    next_one = join(joined, table, Pool(names=("newer",), usd_per_item=np.ones(1)))
    assert next_one.names == ("small", "large", "new", "newer")
    quality, _ = next_one.predict(TEXTS[:3])
    assert quality[:, :3].tolist() == joined.predict(TEXTS[:3])[0].tolist()
    assert next_one.predict_one(TEXTS[0])[0] == quality[0].tolist()


def test_a_priced_router_is_taken_for_its_predictor(served: tuple[Outcomes, Pool]) -> None:
    """What `turnout.fit` returns can be joined as it is."""
    table, new = served
    router = turnout.fit(Linear(), table.select(("small", "large")))
    assert join(router, table, new).base is router.predictor  # type: ignore[arg-type, attr-defined]


# Refusals.


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"newcomer": Pool(names=("model1",), usd_per_item=np.ones(1))}, "none of the known"),
        ({"newcomer": Pool(names=("x",))}, "newcomer must have a price, or labels with costs"),
        ({"newcomer": Pool(names=("model0",))}, "have a price"),
        ({"newcomer": Pool(names=("x", "y"), usd_per_item=np.ones(2))}, "be one destination"),
        ({"base": object()}, "base must predict quality and cost; got 'object'"),
        ({"predicted": np.full((3, 7), 0.5)}, r"predicted must have shape \(800, 7\)"),
        ({"predicted": np.full((800, 7), 1.5)}, r"predicted.* must be a finite number in \[0, 1"),
        ({"answer_tokens": -1.0}, "answer_tokens must be a finite number >= 0"),
        ({"pool": Pool(names=("other",))}, "destination must be in the pool; got 'model1'"),
        (
            {
                "newcomer": Pool(names=("x",), usd_per_item=np.ones(1), features=np.ones((1, 2))),
                "pool": Pool(names=world(0, 5).table.names, features=np.ones((M, 1))),
            },
            "newcomer.features must have 1 features, as the known destinations do; got 2",
        ),
    ],
)
def test_what_cannot_be_is_refused(planted: World, change: dict, message: str) -> None:
    """Each mistake is named, with what to do."""
    outcomes = planted.labelled(0, ())
    if change.get("newcomer") and change["newcomer"].names == ("model0",):
        outcomes = replace(planted.labelled(0, [1]), cost=np.full((800, M), np.nan))
    given = {"base": planted.base(0), "outcomes": outcomes, "newcomer": planted.price(0)}
    with pytest.raises(InputError, match=message):
        join(**(given | change))


def test_a_known_model_that_the_table_lacks_is_named(planted: World) -> None:
    """The message says which, and what the table holds."""
    table = planted.table.select(("model1", "model2"))
    with pytest.raises(InputError, match="hold every known destination; got 'model3'"):
        join(planted.base(0), table, planted.price(0))


@pytest.mark.parametrize(("value", "rule"), [(1.2, r"\[0, 1\]"), (-0.1, r"\[0, 1\]")])
def test_labels_out_of_range_are_refused(planted: World, value: float, rule: str) -> None:
    """A table with such a label cannot be made."""
    quality = planted.labelled(0, [1]).quality.copy()
    quality[1, -1] = value
    with pytest.raises(InputError, match=rule):
        replace(planted.labelled(0, [1]), quality=quality)


def test_labels_that_are_all_nan_are_refused(planted: World) -> None:
    """A column without a single label is left out instead."""
    quality = planted.labelled(0, [1]).quality.copy()
    quality[:, -1] = np.nan
    with pytest.raises(InputError, match="seen in at least one row"):
        replace(planted.labelled(0, [1]), quality=quality)


def test_a_negative_price_is_refused() -> None:
    """The pool of the new model cannot be made."""
    with pytest.raises(InputError, match=r"usd_per_item.*>= 0"):
        Pool(names=("x",), usd_per_item=np.array([-1.0]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "a"}, "joined.names must be unique"),
        ({"centre": np.zeros(2)}, "joined.centre must have shape"),
        ({"mean": np.zeros(1)}, "joined.mean must have shape"),
        ({"root": np.zeros((2, 3))}, "joined.root must have shape"),
        ({"labels": -1}, "joined.labels must be a whole number >= 0"),
    ],
)
def test_a_joined_router_that_does_not_fit_is_refused(change: dict, message: str) -> None:
    """Such as one from a damaged file."""
    base = Told(("a",), np.full((1, 1), 0.5))
    whole = join(base, _tiny(), Pool(names=("b",), usd_per_item=np.ones(1)))
    with pytest.raises(InputError, match=message):
        replace(whole, **change)
