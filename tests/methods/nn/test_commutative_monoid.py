"""The learnt commutative monoid."""

from __future__ import annotations

import importlib
import importlib.util
import math

import pytest
import torch

from turnout.core import InputError
from turnout.nn.commutative_monoid import CommutativeMonoid, order_error, shuffled, tree


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _drawn(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(shape, generator=_generator(seed))


def _monoid(d: int = 3, h: int = 5, seed: int = 0) -> CommutativeMonoid:
    return CommutativeMonoid(d, h, generator=_generator(seed))


SIZES = torch.tensor([3, 1, 0, 8, 5])


def test_a_pair_by_hand() -> None:
    """One unit, weights all one and no shifts: the mean of two gated units worked out here."""
    monoid = CommutativeMonoid(1, 1, generator=_generator(), project=False)
    with torch.no_grad():
        for name, weight in monoid.cell.named_parameters():
            weight.fill_(1.0 if "weight" in name else 0.0)

    def unit(a: float, b: float) -> float:
        gate = 1 / (1 + math.exp(-(a + b)))  # reset and update see the same sum
        return (1 - gate) * math.tanh(a + gate * b) + gate * b

    found = monoid.combine(torch.tensor([[0.5]]), torch.tensor([[-2.0]]))
    assert float(found.detach()) == pytest.approx((unit(0.5, -2.0) + unit(-2.0, 0.5)) / 2, abs=1e-6)


def test_it_commutes_to_the_bit() -> None:
    """For many pairs, whatever the weights."""
    monoid = _monoid(h=16)
    a, b = 3 * _drawn(400, 16, seed=1), 3 * _drawn(400, 16, seed=2)
    assert torch.equal(monoid.combine(a, b), monoid.combine(b, a))


@pytest.mark.parametrize("n", [1, 2, 3, 7, 8, 33])
def test_a_tree_of_sums_is_the_sum(n: int) -> None:
    """And of maxima the maximum, in any order: the tree loses nothing and counts nothing twice."""
    x, sizes = _drawn(n + 4, 2), torch.tensor([n, 4])
    for operator, whole in (
        (torch.add, lambda rows: rows.sum(0)),
        (torch.maximum, lambda rows: rows.max(0).values),
    ):
        found = tree(operator, x, sizes)
        assert torch.allclose(found, torch.stack([whole(x[:n]), whole(x[n:])]), atol=1e-5)
        again = tree(operator, x[shuffled(sizes, generator=_generator(n))], sizes)
        assert torch.allclose(found, again, atol=1e-5)


def test_the_depth_is_the_logarithm() -> None:
    """One level more for each doubling, and an odd last one waits."""
    for n, depth in ((1, 0), (2, 1), (3, 2), (8, 3), (9, 4), (64, 6)):
        assert len(_monoid().levels(_drawn(n, 3), torch.tensor([n]))) == depth + 1


def test_pairs_are_neighbours_and_the_odd_one_waits() -> None:
    """Five: ((1 2) (3 4)) 5."""
    monoid = _monoid(d=5)
    u = _drawn(5, 5)
    x = monoid.project(u).relu()
    one, two, three, four, five = x[:, None]
    met = monoid.combine(
        monoid.combine(monoid.combine(one, two), monoid.combine(three, four)), five
    )
    assert torch.allclose(monoid(u, torch.tensor([5])), met, atol=1e-6)


def test_sets_of_a_batch_do_not_touch_each_other() -> None:
    """Each alone gives what it gives beside others, and no padding is combined."""
    monoid, u = _monoid(), _drawn(17, 3)
    together = monoid(u, SIZES)
    for row, part in enumerate(u.split(SIZES.tolist())):
        alone = monoid(part, torch.tensor([len(part)]))
        assert torch.allclose(together[row], alone[0], atol=1e-6)


def test_the_empty_set_is_the_unit_and_one_element_is_itself() -> None:
    """Also where all sets are empty, and where there is none."""
    monoid = _monoid()
    with torch.no_grad():
        monoid.unit.copy_(torch.arange(5.0))
    u = _drawn(17, 3)
    found = monoid(u, SIZES)
    assert torch.equal(found[2], monoid.unit)
    assert torch.allclose(found[1], monoid.project(u[3]).relu())
    assert torch.equal(monoid(u[:0], torch.tensor([0, 0])), monoid.unit.expand(2, 5))
    assert monoid(u[:0], torch.tensor([], dtype=torch.int64)).shape == (0, 5)


def test_a_shuffle_stays_within_its_set() -> None:
    """Rows keep their set, and every row comes once."""
    order = shuffled(SIZES, generator=_generator())
    owner = torch.arange(5).repeat_interleave(SIZES)
    assert torch.equal(owner[order], owner)
    assert sorted(order.tolist()) == list(range(17))
    assert order.tolist() != list(range(17))


def test_laws_are_losses_that_vanish_where_they_hold() -> None:
    """With the sum for the operator and zero for the unit both are zero; as drawn they are not."""
    x = _drawn(60, 5)
    drawn = _monoid()
    assert float(drawn.associativity(x, generator=_generator()).detach()) > 1e-4
    assert float(drawn.identity(x).detach()) > 1e-4
    lawful = _monoid()
    lawful.combine = torch.add  # type: ignore[method-assign]
    assert float(lawful.associativity(x, generator=_generator())) == pytest.approx(0.0, abs=1e-9)
    assert float(lawful.identity(x).detach()) == 0.0


def test_the_law_can_be_taught_and_the_order_then_matters_less() -> None:
    """A few steps on the law, the width of the elements kept, and two orders differ far less."""
    monoid, sizes = _monoid(h=8), torch.full((40,), 8)
    u = 4 * _drawn(320, 3)
    adam = torch.optim.Adam(monoid.cell.parameters(), lr=0.02)  # elements stay as they are
    before = order_error(monoid, u, sizes, generator=_generator(3))
    draw = _generator(4)
    for _ in range(60):
        loss = monoid.associativity(
            torch.cat(monoid.levels(u, sizes, generator=draw)), generator=draw
        )
        adam.zero_grad()
        loss.backward()
        adam.step()
    after = order_error(monoid, u, sizes, generator=_generator(3))
    print(before, after)
    assert after < 0.5 * before


def test_averaging_over_orders_brings_them_together() -> None:
    """Sixteen orders differ less than one."""
    monoid, sizes = _monoid(), torch.full((20,), 9)
    u, draw = 3 * _drawn(180, 3), _generator(2)
    once = order_error(monoid, u, sizes, generator=_generator(3))
    many = order_error(
        lambda v, s: monoid.averaged(v, s, orders=16, generator=draw), u, sizes,
        generator=_generator(3),
    )  # fmt: skip
    assert many < 0.5 * once


def test_gradients_reach_every_weight() -> None:
    """Through trees of several levels, and to the unit by an empty set."""
    monoid = _monoid()
    monoid(_drawn(17, 3), SIZES).square().sum().backward()
    (monoid(_drawn(17, 3), SIZES) - 1).square().sum().backward()
    assert all(bool((weight.grad != 0).any()) for weight in monoid.parameters())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CommutativeMonoid(2, 3, generator=_generator(), project=False), "d must be h = 3"),
        (lambda: _monoid()(_drawn(4, 3), torch.tensor([3])), "sizes must add up to the 4"),
        (
            lambda: _monoid()(_drawn(4, 3), torch.tensor([5, -1])),
            "sizes must be whole numbers >= 0",
        ),
        (lambda: _monoid()(_drawn(4, 3), torch.tensor([4.0])), "sizes must be whole numbers >= 0"),
        (lambda: tree(torch.add, _drawn(4, 3), torch.tensor([4, 0])), "whole numbers >= 1"),
        (
            lambda: _monoid().averaged(_drawn(1, 3), SIZES[1:2], orders=0, generator=_generator()),
            "orders must be at least 1",
        ),
    ],
)
def test_what_does_not_fit_is_refused(make: object, message: str) -> None:
    """By name."""
    with pytest.raises(InputError, match=message):
        make()  # type: ignore[operator]


@pytest.mark.filterwarnings("ignore")
def test_as_the_peer_with_equal_weights() -> None:
    """`LCMAggregation` gives the same for sets of one size, which it does not pad; back, too."""
    if importlib.util.find_spec("torch_geometric") is None:
        pytest.skip("torch_geometric is not installed: it is compared with where it is")
    peer = importlib.import_module("torch_geometric.nn.aggr")
    ours, theirs = _monoid(), peer.LCMAggregation(3, 5)
    theirs.lin.load_state_dict(ours.project.state_dict())
    theirs.gru_cell.load_state_dict(ours.cell.state_dict())
    for size in (7, 8):  # some wait, and nobody does
        u, sizes = _drawn(3 * size, 3).requires_grad_(), torch.full((3,), size)
        told = ours(u, sizes)
        found = theirs(u, torch.arange(3).repeat_interleave(sizes))
        assert torch.allclose(told, found, atol=1e-6)
        back, other = (torch.autograd.grad(each.square().sum(), u)[0] for each in (told, found))
        assert torch.allclose(back, other, atol=1e-5)
