"""Assignment over numpy and over torch."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from turnout.core import Assignment, InputError


def as_numpy(array):
    return np.asarray(array)


def as_torch(array):
    torch = pytest.importorskip("torch")
    return torch.from_numpy(np.asarray(array))


KINDS = pytest.mark.parametrize("to", [as_numpy, as_torch], ids=["numpy", "torch"])


@KINDS
def test_counts_by_hand(to):
    """Load, count and dense of three items, two choices each, one of them dropped."""
    index = to(np.array([[0, 2], [2, -1], [2, 2]]))
    weight = to(np.array([[0.75, 0.25], [1.0, 0.0], [0.5, 0.25]]))
    assignment = Assignment(index, weight, 4)
    assert (assignment.n, assignment.k, assignment.m) == (3, 2, 4)
    assert assignment.load().tolist() == [0.75, 0, 2.0, 0]
    assert assignment.count().tolist() == [1, 0, 4, 0]
    assert assignment.dense().tolist() == [[0.75, 0, 0.25, 0], [0, 0, 1, 0], [0, 0, 0.75, 0]]
    assert type(assignment.load()) is type(weight)


REFUSED = [
    ([[0, 1]], [[1.0]], "assignment.index and weight", "share one shape"),
    ([0, 1], [1.0, 1.0], "assignment.index and weight", "share one shape"),
    ([[0.0]], [[1.0]], "assignment.index", "hold integers"),
    ([[-2]], [[0.0]], "assignment.index", "lie in [-1, 1]"),
    ([[2]], [[1.0]], "assignment.index", "lie in [-1, 1]"),
    ([[0]], [[-0.5]], "assignment.weight", "finite and >= 0"),
    ([[0]], [[np.nan]], "assignment.weight", "finite and >= 0"),
    ([[0]], [[np.inf]], "assignment.weight", "finite and >= 0"),
    ([[-1]], [[0.5]], "assignment.weight", "0 where index is -1"),
]


@KINDS
@pytest.mark.parametrize(("index", "weight", "field", "rule"), REFUSED)
def test_refuses_by_name(to, index, weight, field, rule):
    """Shapes, types, indices and weights that break a rule are refused."""
    with pytest.raises(InputError) as caught:
        Assignment(to(np.array(index)), to(np.array(weight)), 2)
    assert caught.value.field == field
    assert rule in caught.value.rule


def test_refuses_a_mixture():
    """Index and weight are both numpy or both torch."""
    with pytest.raises(InputError, match="all numpy or all torch"):
        Assignment(np.array([[0]]), as_torch(np.array([[1.0]])), 1)
    with pytest.raises(InputError, match="numpy array or a torch tensor"):
        Assignment([[0]], [[1.0]], 1)


@KINDS
@pytest.mark.parametrize("shape", [(0, 2), (3, 0)])
def test_empty(to, shape):
    """No item, or no choice: everything counts zero."""
    assignment = Assignment(to(np.empty(shape, dtype=np.int64)), to(np.empty(shape)), 3)
    assert assignment.count().tolist() == [0, 0, 0]
    assert assignment.load().tolist() == [0, 0, 0]
    assert tuple(assignment.dense().shape) == (shape[0], 3)


@settings(deadline=None, max_examples=50)
@given(
    arrays(np.int64, st.tuples(st.integers(1, 6), st.integers(1, 4)), elements=st.integers(-1, 3))
)
def test_weight_is_conserved(index):
    """Whatever is sent arrives: dense, load and weight have one sum, numpy and torch agree."""
    weight = np.where(index >= 0, (np.arange(index.size).reshape(index.shape) + 1) / 8, 0.0)
    assignment = Assignment(index, weight, 4)
    assert assignment.dense().sum() == pytest.approx(weight.sum())
    assert assignment.count().sum() == (index >= 0).sum()
    twin = Assignment(as_torch(index), as_torch(weight), 4)
    np.testing.assert_allclose(twin.dense().numpy(), assignment.dense())
    np.testing.assert_allclose(twin.load().numpy(), assignment.load())
    assert twin.count().tolist() == assignment.count().tolist()


def test_torch_weights_carry_gradients():
    """The load of a torch assignment is differentiable in its weights."""
    torch = pytest.importorskip("torch")
    weight = torch.tensor([[0.5, 0.25]], requires_grad=True)
    Assignment(torch.tensor([[1, 0]]), weight, 2).load()[1].backward()
    assert weight.grad.tolist() == [[1.0, 0.0]]
