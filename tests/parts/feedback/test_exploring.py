"""Learning while serving, committees of halves, and out-of-fold predictions."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from turnout.core import InputError, Inputs, Outcomes, Pool
from turnout.llms.knn import Knn
from turnout.llms.linear import Linear
from turnout.parts.feedback.exploring import Epsilon, Explorer, Thompson
from turnout.parts.feedback.logged import Log
from turnout.parts.feedback.offpolicy import ips, snips
from turnout.parts.learners.committee import fit_predictor, half, half_samples
from turnout.parts.learners.crossfit import crossfit, identities
from turnout.testing import planted

POOL = Pool(names=("small", "large"))


@dataclass(frozen=True)
class Means:
    """A recipe that predicts the mean of each destination, and remembers its table."""

    def fit(self, outcomes: Outcomes, pool: Pool, *, rng: np.random.Generator) -> FittedMeans:
        return FittedMeans(outcomes.names, outcomes)


@dataclass(frozen=True, eq=False)
class FittedMeans:
    names: tuple[str, ...]
    table: Outcomes

    def predict(self, inputs: Inputs) -> tuple[np.ndarray, np.ndarray]:
        shape = (len(inputs), 1)
        return np.tile(self.table.mean_quality(), shape), np.tile(self.table.mean_cost(), shape)


def explorer(explore: object = None, **fields: object) -> Explorer:
    settings: dict[str, object] = {"price": 0.0, "refit": 40, **fields}
    how = Epsilon(0.2) if explore is None else explore
    return Explorer(Means(), POOL, explore=how, **settings)  # type: ignore[arg-type]


def feed(
    stream: Explorer, rounds: int, rng: np.random.Generator, quality: tuple[float, float]
) -> None:
    """Serve batches of 20 in which each destination always earns the same."""
    for _ in range(rounds):
        asked = [f"question {i}" for i in range(20)]
        sent = stream.choose(asked, rng=rng)
        earned, paid = np.array(quality)[sent.index], np.array([1.0, 5.0])[sent.index]
        stream.learn(asked, sent, earned, paid, rng=rng)


def test_before_it_has_learnt_all_are_alike() -> None:
    """Every destination has the chance 1 / m, and is drawn about as often."""
    sent = explorer().choose(["x"] * 4000, rng=np.random.default_rng(0))
    assert (sent.propensity == 0.5).all()
    assert sent.index.mean() == pytest.approx(0.5, abs=0.03)


def test_epsilon_by_hand() -> None:
    """The better has 1 - rate + rate / m, the other rate / m; draws follow."""
    rng = np.random.default_rng(0)
    stream = explorer()
    feed(stream, 2, rng, (0.3, 0.6))
    sent = stream.choose(["x"] * 4000, rng=rng)
    assert sent.propensity == pytest.approx(np.tile([0.1, 0.9], (4000, 1)))
    assert sent.index.mean() == pytest.approx(0.9, abs=0.02)


def test_the_price_decides() -> None:
    """0.3 more for 4 more is worth it below a price of 0.075 only."""
    rng = np.random.default_rng(0)
    for price, best in ((0.07, 1), (0.08, 0)):
        stream = explorer(price=price)
        feed(stream, 2, rng, (0.3, 0.6))
        assert stream.probabilities(["x"])[0].argmax() == best


def test_thompson_counts_its_members() -> None:
    """Each member that prefers a destination adds a share to its chance."""
    stream = explorer(Thompson(members=4, rate=0.1))
    rng = np.random.default_rng(3)
    feed(stream, 2, rng, (0.3, 0.6))
    assert len(stream.predictors) == 4
    votes = [
        FittedMeans(POOL.names, replace_quality(stream.log(), row))
        for row in ([0.9, 0.1], [0.1, 0.9], [0.2, 0.9], [0.3, 0.9])
    ]
    stream._predictors = tuple(votes)
    assert stream.probabilities(["x"])[0] == pytest.approx([0.9 * 0.25 + 0.05, 0.9 * 0.75 + 0.05])


def replace_quality(table: Outcomes, means: list[float]) -> Outcomes:
    return replace(table, quality=np.where(table.seen, np.array(means), np.nan))


def test_it_fits_again_every_so_often() -> None:
    """After each `refit` requests with feedback, and on all of them."""
    rng = np.random.default_rng(0)
    stream = explorer(refit=40)
    sizes = []
    for _ in range(6):
        feed(stream, 1, rng, (0.3, 0.6))
        sizes.append(stream.predictors[0].table.n if stream.predictors else 0)
    assert sizes == [0, 40, 40, 80, 80, 120]


def test_requests_without_feedback_teach_nothing() -> None:
    """They neither count nor stand in the log."""
    rng = np.random.default_rng(0)
    stream = explorer(refit=20)
    asked = ["x"] * 20
    sent = stream.choose(asked, rng=rng)
    stream.learn(asked, sent, np.full(20, np.nan), np.ones(20), rng=rng)
    assert stream.predictors == ()
    feed(stream, 1, rng, (0.3, 0.6))
    assert len(stream.predictors) == 1
    assert stream.log().n == 20


def test_a_destination_without_an_example_is_waited_for() -> None:
    """No method can be fitted without it, so all stay alike."""
    rng = np.random.default_rng(0)
    stream = explorer(refit=1)
    sent = replace(stream.choose(["x"] * 5, rng=rng), index=np.zeros(5, dtype=np.int64))
    stream.learn(["x"] * 5, sent, np.ones(5), np.ones(5), rng=rng)
    assert stream.predictors == ()
    assert (stream.probabilities(["x"]) == 0.5).all()


def test_the_log_judges() -> None:
    """What is logged has the propensities that off-policy estimates need, and they are true."""
    rng = np.random.default_rng(5)
    stream = explorer(Epsilon(0.3))
    feed(stream, 100, rng, (0.3, 0.6))
    log = Log.of(stream.log())
    for column, mean in enumerate((0.3, 0.6)):
        policy = np.tile(np.eye(2)[column], (len(log), 1))
        assert snips(log, policy).quality.value == pytest.approx(mean)
        found = ips(log, policy).quality
        assert abs(found.value - mean) < 4 * found.error


@pytest.mark.parametrize("recipe", [Linear(), Knn(k=20)], ids=["linear", "knn"])
@pytest.mark.parametrize(
    "explore", [Epsilon(0.2), Thompson(members=2)], ids=["epsilon", "thompson"]
)
def test_real_methods_learn_a_planted_rule(recipe, explore) -> None:
    """On the planted problem the later half earns more than always the best single one."""
    rng = np.random.default_rng(0)
    problem = planted.easy(600, rng)
    table = problem.outcomes
    stream = Explorer(recipe, table.pool(), price=0.0, explore=explore, refit=150)
    earned = []
    for start in range(0, 600, 50):
        rows = np.arange(start, start + 50)
        batch = table.take(rows)
        sent = stream.choose(batch.inputs, rng=rng)
        at = np.arange(50)
        earned.append(problem.expected[rows, sent.index])
        stream.learn(
            batch.inputs, sent, batch.quality[at, sent.index], batch.cost[at, sent.index], rng=rng
        )
    assert np.concatenate(earned[6:]).mean() > problem.expected[300:].mean(axis=0).max() + 0.1


def test_inputs_may_be_arrays() -> None:
    """Batches of vectors come back as one table of vectors."""
    rng = np.random.default_rng(0)
    stream = explorer(refit=5)
    for _ in range(3):
        x = rng.random((4, 2))
        sent = stream.choose(x, rng=rng)
        stream.learn(
            x, replace(sent, index=np.array([0, 1, 0, 1])), np.ones(4), np.ones(4), rng=rng
        )
    log = stream.log()
    assert isinstance(log.inputs, np.ndarray)
    assert log.inputs.shape == (12, 2)


def test_the_same_generator_the_same_stream() -> None:
    """Nothing else is random."""
    logs = []
    for _ in range(2):
        rng = np.random.default_rng(7)
        stream = explorer(Thompson(members=2))
        feed(stream, 4, rng, (0.3, 0.6))
        logs.append(stream.log())
    assert logs[0].fingerprint() == logs[1].fingerprint()
    assert (logs[0].propensity == logs[1].propensity).all()


def test_an_empty_batch() -> None:
    """Nothing in, nothing out."""
    sent = explorer().choose([], rng=np.random.default_rng(0))
    assert sent.index.shape == (0,)
    assert sent.propensity.shape == (0, 2)


def test_wrong_settings_are_refused() -> None:
    """Each is named."""
    with pytest.raises(InputError, match=r"epsilon\.rate must be .* in \[1e-09, 1\]; got 0"):
        Epsilon(0.0)
    with pytest.raises(InputError, match=r"thompson\.members"):
        Thompson(members=1)
    with pytest.raises(InputError, match=r"thompson\.rate"):
        Thompson(rate=0.0)
    with pytest.raises(InputError, match=r"explorer\.price"):
        explorer(price=-1.0)
    with pytest.raises(InputError, match=r"explorer\.refit"):
        explorer(refit=0)
    with pytest.raises(InputError, match=r"explorer\.pool must have every destination up"):
        Explorer(Means(), POOL.with_down(["large"]), price=0.0)
    with pytest.raises(InputError, match="the log must hold a request"):
        explorer().log()


def test_wrong_feedback_is_refused() -> None:
    """A grade out of range, a cost below zero, and lengths that differ."""
    rng = np.random.default_rng(0)
    stream = explorer()
    sent = stream.choose(["x", "y"], rng=rng)
    with pytest.raises(InputError, match="quality"):
        stream.learn(["x", "y"], sent, np.array([2.0, 0.0]), np.ones(2), rng=rng)
    with pytest.raises(InputError, match="cost"):
        stream.learn(["x", "y"], sent, np.ones(2), np.array([-1.0, 0.0]), rng=rng)
    with pytest.raises(InputError, match=r"sent\.propensity"):
        stream.learn(["x"], sent, np.ones(1), np.ones(1), rng=rng)


def test_a_router_without_figures_is_refused() -> None:
    """Exploring needs predictions, not only choices."""

    class Choosy:
        def fit(self, outcomes: Outcomes, pool: Pool, *, rng: np.random.Generator) -> object:
            return object()

    table = planted.easy(20, np.random.default_rng(0)).outcomes
    with pytest.raises(InputError, match="recipe must fit a predictor; got 'object'"):
        fit_predictor(Choosy(), table, table.pool(), np.random.default_rng(0))


def test_half_holds_half_and_every_destination() -> None:
    """Half of the rows, none twice, and a row more for a destination that only few rows saw."""
    rng = np.random.default_rng(0)
    seen = np.ones((40, 3), dtype=bool)
    seen[1:, 2] = False
    for _ in range(30):
        rows = half(seen, rng)
        assert len(np.unique(rows)) == len(rows)
        assert len(rows) in (20, 21)
        assert 0 in rows
    assert half(np.ones((1, 2), dtype=bool), rng).tolist() == [0]


def test_halves_differ_as_much_as_tables_do() -> None:
    """The spread over halves is the standard error of a mean on all rows, to within a fifth."""
    rng = np.random.default_rng(0)
    quality = rng.random((200, 1))
    table = Outcomes(inputs=["x"] * 200, names=("a",), quality=quality, cost=np.ones((200, 1)))
    members = half_samples(Means(), table, table.pool(), 400, rng)
    spread = np.std([member.predict(["x"])[0][0, 0] for member in members])
    assert spread == pytest.approx(quality.std() / np.sqrt(200), rel=0.2)


def test_members_are_counted() -> None:
    """At least one."""
    table = planted.easy(20, np.random.default_rng(0)).outcomes
    with pytest.raises(InputError, match="members"):
        half_samples(Means(), table, table.pool(), 0, np.random.default_rng(0))


def test_crossfit_never_saw_the_row() -> None:
    """Predictions of a row are means of the other folds: its own outcome is not among them."""
    table = Outcomes(
        inputs=[str(i) for i in range(10)],
        names=("a",),
        quality=np.eye(10)[:, :1] + 0.0,
        cost=np.ones((10, 1)),
    )
    quality, cost = crossfit(Means(), table, folds=10, rng=np.random.default_rng(0))
    assert quality[0, 0] == 0.0
    assert quality[1:, 0] == pytest.approx(np.full(9, 1 / 9))
    assert (cost == 1.0).all()


def test_equal_inputs_share_a_fold() -> None:
    """A prompt that stands twice is never predicted by its copy."""
    table = Outcomes(
        inputs=["twice", "twice", "b", "c"],
        names=("a",),
        quality=np.array([[1.0], [1.0], [0.0], [0.0]]),
        cost=np.ones((4, 1)),
    )
    for seed in range(5):
        quality, _ = crossfit(Means(), table, folds=3, rng=np.random.default_rng(seed))
        assert quality[:2, 0] == pytest.approx([0.0, 0.0])
    assert identities(["x", "y", "x"]).tolist() == [0, 1, 0]
    assert identities(np.array([[1.0], [2.0], [1.0]])).tolist() == [0, 1, 0]


def test_crossfit_refuses_what_it_cannot_cut() -> None:
    """A destination seen in one row, one input, more folds than inputs."""
    once = Outcomes(
        inputs=["a", "b", "c"],
        names=("x", "rare"),
        quality=np.array([[1.0, 1.0], [1.0, np.nan], [1.0, np.nan]]),
        cost=np.ones((3, 2)),
    )
    with pytest.raises(InputError, match="'rare' must be seen in rows of two folds"):
        crossfit(Means(), once, folds=3, rng=np.random.default_rng(0))
    one = once.take([0])
    with pytest.raises(InputError, match="hold two different inputs"):
        crossfit(Means(), one, folds=2, rng=np.random.default_rng(0))
    with pytest.raises(InputError, match="folds"):
        crossfit(Means(), once, folds=4, rng=np.random.default_rng(0))
