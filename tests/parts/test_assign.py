"""Rules of assignment: hand-worked values, properties, and numpy against torch."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnout.core import Assignment, InputError
from turnout.parts.assign import sinkhorn, threshold, top_k, top_p, with_capacity


def as_numpy(array):
    return np.asarray(array)


def as_torch(array):
    torch = pytest.importorskip("torch")
    return torch.from_numpy(np.array(array))


KINDS = pytest.mark.parametrize("to", [as_numpy, as_torch], ids=["numpy", "torch"])
INF = np.inf


def cases(max_n=6, max_m=5, ties=True):
    """Scores (with -inf where `ties`), prices and a mask."""

    @st.composite
    def draw_cases(draw):
        n, m = draw(st.integers(0, max_n)), draw(st.integers(1, max_m))
        rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        score = rng.normal(size=(n, m))
        if ties:
            score = np.round(score * 2) / 2
            score[rng.random((n, m)) < 0.15] = -INF
        up = rng.random(m) < 0.8
        up[rng.integers(m)] = True
        return score, np.round(rng.random(m) * 4) / 4, up

    return draw_cases()


RULES = {
    "top_k": lambda s, **kw: top_k(s, min(2, s.shape[1]), **kw),
    "top_p": lambda s, **kw: top_p(s, 0.6, **kw),
    "threshold": lambda s, **kw: threshold(s, 0.0, at_least=1, **kw),
}


def check_same(one, two):
    """Equal choices and weights, whatever the kind of array."""
    assert np.asarray(two.index).tolist() == np.asarray(one.index).tolist()
    np.testing.assert_allclose(np.asarray(two.weight), np.asarray(one.weight), atol=1e-12)
    assert one.m == two.m


@KINDS
def test_top_k_by_hand(to):
    """Best first; softmax over the chosen, over all, or equal shares; ties to the lower column."""
    score = to(np.log([[1.0, 2.0, 1.0, 4.0]]))
    two = top_k(score, 2)
    assert two.index.tolist() == [[3, 1]]
    np.testing.assert_allclose(np.asarray(two.weight), [[4 / 6, 2 / 6]])
    np.testing.assert_allclose(np.asarray(top_k(score, 2, weigh="gate").weight), [[0.5, 0.25]])
    np.testing.assert_allclose(np.asarray(top_k(score, 3, weigh="equal").weight), [[1 / 3] * 3])
    assert top_k(score, 4).index.tolist() == [[3, 1, 0, 2]]


@KINDS
def test_prices_choose_but_do_not_weigh(to):
    """A price moves the choice; the weights are those of the scores as they were."""
    score, price = to(np.log([[1.0, 2.0, 4.0]])), to(np.array([0.0, 0.0, 2.0]))
    two = top_k(score, 2, price=price)
    assert two.index.tolist() == [[1, 0]]
    np.testing.assert_allclose(np.asarray(two.weight), [[2 / 3, 1 / 3]])


@KINDS
def test_top_p_by_hand(to):
    """Masses 0.6, 0.3, 0.1: reached by one up to 0.6, by two up to 0.9, by three beyond."""
    score = to(np.log([[0.3, 0.6, 0.1]]))
    assert top_p(score, 0.0).index.tolist() == [[1]]
    assert top_p(score, 0.59).index.tolist() == [[1]]
    assert top_p(score, 0.61).index.tolist() == [[1, 0]]
    assert top_p(score, 0.91).index.tolist() == [[1, 0, 2]]
    assert top_p(score, 1.0).index.tolist() == [[1, 0, 2]]


@KINDS
def test_threshold_by_hand(to):
    """Those at or above the level, the best first; `at_least` in any case."""
    score = to(np.array([[0.5, 0.9, 0.1], [0.0, 0.1, 0.2]]))
    assert threshold(score, 0.5).index.tolist() == [[1, 0], [-1, -1]]
    assert threshold(score, 0.5, at_least=1).index.tolist() == [[1, 0], [2, -1]]
    assert threshold(score, 5.0).index.tolist() == [[-1], [-1]]


@KINDS
def test_nothing_to_be_had_is_minus_one(to):
    """A row of -inf has no choice and no weight, and does not disturb the others."""
    score = to(np.array([[-INF, -INF], [0.0, -INF]]))
    for rule in RULES.values():
        for weigh in ("softmax", "gate", "equal"):
            assignment = rule(score, weigh=weigh)
            assert assignment.index[:, 0].tolist() == [-1, 0]
            assert assignment.weight[:, 0].tolist() == [0.0, 1.0]


@KINDS
def test_capacity_by_hand(to):
    """Two places at destination 0, one at 1: first choices come first, then items in order.

    By weight the second item's first choice (0.9) and the third's (0.8) go before the first's.
    """
    index = to(np.array([[0, 1], [0, 1], [0, 1]]))
    weight = to(np.array([[0.6, 0.4], [0.9, 0.1], [0.8, 0.2]]))
    full = Assignment(index, weight, 2)
    capacity = np.array([2.0, 1.0])
    by_position = with_capacity(full, capacity)
    assert by_position.index.tolist() == [[0, 1], [0, -1], [-1, -1]]
    assert by_position.weight.tolist() == [[0.6, 0.4], [0.9, 0.0], [0.0, 0.0]]
    by_weight = with_capacity(full, capacity, by="weight")
    assert by_weight.index.tolist() == [[-1, 1], [0, -1], [0, -1]]


@KINDS
def test_first_choices_go_before_second_ones(to):
    """A later item's first choice takes the place before an earlier item's second."""
    full = Assignment(to(np.array([[1, 0], [0, 1]])), to(np.array([[0.5, 0.5], [0.5, 0.5]])), 2)
    assert with_capacity(full, 1).index.tolist() == [[1, -1], [0, -1]]


@settings(deadline=None, max_examples=60)
@given(cases(), st.sampled_from(sorted(RULES)), st.sampled_from(["softmax", "gate", "equal"]))
def test_numpy_and_torch_agree(case, rule, weigh):
    """Every rule gives the same choices and weights on both kinds of array."""
    score, price, up = case
    one = RULES[rule](score, price=price, up=up, weigh=weigh)
    two = RULES[rule](as_torch(score), price=as_torch(price), up=as_torch(up), weigh=weigh)
    check_same(one, two)
    if score.shape[0]:
        for by in ("position", "weight"):
            check_same(with_capacity(one, 2, by=by), with_capacity(two, 2, by=by))


@settings(deadline=None, max_examples=60)
@given(cases(), st.sampled_from(sorted(RULES)), st.sampled_from(["softmax", "gate", "equal"]))
def test_conservation(case, rule, weigh):
    """Rows with a choice weigh one (a gate at most one), others none; nobody down or twice."""
    score, price, up = case
    assignment = RULES[rule](score, price=price, up=up, weigh=weigh)
    total = assignment.weight.sum(axis=1)
    some = (assignment.index >= 0).any(axis=1)
    assert (total[~some] == 0).all()
    if weigh == "gate":
        assert (total <= 1 + 1e-12).all()
    else:
        np.testing.assert_allclose(total[some], 1.0)
    for row, chosen in enumerate(assignment.index):
        kept = chosen[chosen >= 0]
        assert len(set(kept.tolist())) == len(kept)
        assert up[kept].all()
        assert np.isfinite(score[row, kept]).all()


@settings(deadline=None, max_examples=60)
@given(cases(ties=False), st.sampled_from(sorted(RULES)), st.integers(0, 2**32 - 1))
def test_relabelling_relabels(case, rule, seed):
    """Permuting destinations permutes the choices; permuting items permutes the rows."""
    score, price, up = case
    rng = np.random.default_rng(seed)
    columns, rows = rng.permutation(score.shape[1]), rng.permutation(score.shape[0])
    one = RULES[rule](score, price=price, up=up)
    two = RULES[rule](score[rows][:, columns], price=price[columns], up=up[columns])
    named = np.where(two.index < 0, -1, columns[two.index])
    assert named.tolist() == one.index[rows].tolist()
    np.testing.assert_allclose(two.weight, one.weight[rows])


@settings(deadline=None, max_examples=60)
@given(cases(), st.floats(0.0, 1.0))
def test_top_p_is_the_smallest_set_with_the_mass(case, p):
    """The chosen reach the mass p; without the last of them they do not."""
    score, _, up = case
    assignment = top_p(score, p, up=up)
    for row, chosen in zip(np.where(up, score, -INF), assignment.index, strict=True):
        kept = chosen[chosen >= 0]
        if not np.isfinite(row).any():
            assert len(kept) == 0
            continue
        mass = np.exp(row - row[np.isfinite(row)].max())
        mass /= mass.sum()
        assert mass[kept].sum() >= p - 1e-9
        assert len(kept) == 1 or mass[kept[:-1]].sum() < p + 1e-9


@settings(deadline=None, max_examples=60)
@given(cases(), st.integers(0, 2**32 - 1), st.sampled_from(["position", "weight"]))
def test_capacity_is_never_exceeded_nor_wasted(case, seed, by):
    """No destination is over its capacity, and one that dropped anything is full."""
    score, _, up = case
    before = top_k(score, min(2, score.shape[1]), up=up)
    capacity = np.floor(np.random.default_rng(seed).random(score.shape[1]) * 4)
    after = with_capacity(before, capacity, by=by)
    assert (after.count() <= capacity).all()
    np.testing.assert_array_equal(after.count(), np.minimum(before.count(), capacity))
    kept = after.index >= 0
    assert (after.index[kept] == before.index[kept]).all()
    assert (after.weight[kept] == before.weight[kept]).all()


@KINDS
def test_infinite_capacity_drops_nothing(to):
    """No limit, no change."""
    full = top_k(to(np.random.default_rng(0).normal(size=(7, 3))), 2)
    check_same(full, with_capacity(full, INF))


@settings(deadline=None, max_examples=30)
@given(cases(ties=False), st.sampled_from([0.05, 0.5, 5.0]), st.integers(0, 2**32 - 1))
def test_sinkhorn_marginals(case, temperature, seed):
    """Rows sum to one and columns to their shares; prices reproduce the plan; torch agrees."""
    score, _, up = case
    share = np.random.default_rng(seed).random(score.shape[1]) + 0.2
    got = sinkhorn(score, temperature=temperature, share=share, up=up, iterations=5000)
    n = len(score)
    wanted = n * np.where(up, share, 0.0) / share[up].sum()
    if n:
        assert got.error <= 1e-6
        np.testing.assert_allclose(got.plan.sum(axis=1), 1.0)
        np.testing.assert_allclose(got.plan.sum(axis=0), wanted, rtol=1e-5, atol=1e-12)
        logits = np.where(up, (score - got.price) / temperature, -INF)
        again = np.exp(logits - logits.max(axis=1, keepdims=True))
        again /= again.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(got.plan, again, atol=1e-9)
        assert up[got.assignment.index].all()
    twin = sinkhorn(
        as_torch(score),
        temperature=temperature,
        share=as_torch(share),
        up=as_torch(up),
        iterations=5000,
    )
    np.testing.assert_allclose(twin.plan.numpy(), got.plan, atol=1e-9)
    check_same(got.assignment, twin.assignment)


def test_sinkhorn_by_hand():
    """Two items that both prefer 0 by one unit, one of them by two: symmetric up to a price."""
    got = sinkhorn(np.array([[1.0, 0.0], [1.0, 0.0]]), temperature=1.0)
    np.testing.assert_allclose(got.plan, 0.5, atol=1e-6)
    assert got.price[0] - got.price[1] == pytest.approx(1.0, abs=1e-5)


def test_sinkhorn_survives_low_temperatures():
    """Where exponentials of the scores would underflow, the log domain does not."""
    score = np.array([[0.0, -3000.0], [0.0, -1000.0]])
    got = sinkhorn(score, temperature=1.0, iterations=1000)
    assert got.error <= 1e-3
    assert got.assignment.index.ravel().tolist() == [0, 1]


def test_sinkhorn_says_when_it_is_not_balanced():
    """A destination that nobody may have stays empty, and the error says so."""
    got = sinkhorn(np.array([[0.0, -INF], [0.0, -INF]]), temperature=1.0, iterations=10)
    assert got.error == 1.0
    assert got.plan.tolist() == [[1.0, 0.0], [1.0, 0.0]]


@KINDS
def test_empty_batch(to):
    """No item, no choice, no error."""
    empty = to(np.empty((0, 3)))
    for rule in RULES.values():
        assert rule(empty).n == 0
    assert sinkhorn(empty, temperature=1.0).assignment.n == 0
    assert with_capacity(top_k(empty, 2), 1).n == 0


def test_scores_are_not_written_to():
    """Read-only scores are fine, and stay what they were."""
    score = np.random.default_rng(1).normal(size=(5, 3))
    score.flags.writeable = False
    for rule in RULES.values():
        rule(score, up=np.array([True, False, True]))
    sinkhorn(score, temperature=1.0)


def test_gates_carry_gradients():
    """Weights of a torch top-k are differentiable in the scores."""
    torch = pytest.importorskip("torch")
    score = torch.tensor([[0.0, 1.0, 2.0]], dtype=torch.float64, requires_grad=True)
    top_k(score, 2).weight[0, 0].backward()
    slope = np.exp(1) / (1 + np.exp(1)) ** 2
    np.testing.assert_allclose(score.grad.numpy(), [[0, -slope, slope]], atol=1e-12)


def bad(**changes):
    fields = {"score": np.zeros((2, 3)), "k": 1}
    return fields | changes


@KINDS
@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"score": np.zeros(3)}, "score"),
        ({"score": np.zeros((2, 0))}, "score"),
        ({"score": np.array([[0.0, np.nan, 1.0]])}, "score"),
        ({"score": np.array([[0.0, INF, 1.0]])}, "score"),
        ({"k": 4}, "k"),
        ({"k": 0}, "k"),
        ({"k": 1.0}, "k"),
        ({"price": np.zeros(2)}, "price"),
        ({"price": np.array([0.0, INF, 0.0])}, "price"),
        ({"up": np.array([True, False])}, "up"),
        ({"up": np.array([1, 0, 1])}, "up"),
        ({"up": np.array([False, False, False])}, "up"),
        ({"weigh": "fairly"}, "weigh"),
    ],
)
def test_refuses_by_name(to, changes, field):
    """Every broken rule names its field, on both kinds of array."""
    fields = bad(**changes)
    fields = {k: to(v) if isinstance(v, np.ndarray) else v for k, v in fields.items()}
    with pytest.raises(InputError) as caught:
        top_k(fields.pop("score"), fields.pop("k"), **fields)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda s: top_p(s, 1.5), "p"),
        (lambda s: top_p(s, np.nan), "p"),
        (lambda s: threshold(s, np.inf), "level"),
        (lambda s: threshold(s, 0.0, at_least=4), "at_least"),
        (lambda s: sinkhorn(s, temperature=0.0), "temperature"),
        (lambda s: sinkhorn(s, temperature=-1.0), "temperature"),
        (lambda s: sinkhorn(s, temperature=1.0, iterations=0), "iterations"),
        (lambda s: sinkhorn(s, temperature=1.0, share=np.zeros(3)), "share"),
        (lambda s: sinkhorn(s, temperature=1.0, share=np.ones(2)), "share"),
        (lambda s: sinkhorn(s - INF, temperature=1.0), "score[0]"),
        (lambda s: with_capacity(top_k(s, 1), -1), "capacity[0]"),
        (lambda s: with_capacity(top_k(s, 1), np.ones(2)), "capacity"),
        (lambda s: with_capacity(top_k(s, 1), 1, by="luck"), "by"),
    ],
)
def test_refuses_other_arguments_by_name(call, field):
    """Levels, masses, temperatures, shares and capacities out of range are refused."""
    with pytest.raises(InputError) as caught:
        call(np.zeros((2, 3)))
    assert caught.value.field == field


def test_refuses_a_mixture_of_kinds():
    """Scores of one kind and prices of the other are refused."""
    with pytest.raises(InputError, match="all numpy or all torch"):
        top_k(np.zeros((2, 3)), 1, price=as_torch(np.zeros(3)))
