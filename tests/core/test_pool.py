"""Pool: what it refuses, and what it answers."""

from __future__ import annotations

import numpy as np
import pytest

from turnout.core import InputError, Pool

REFUSED = [
    # one row a rule: arguments, field at fault, part of the rule
    ({"names": "abc"}, "pool.names", "be a sequence of names"),
    ({"names": []}, "pool.names", "at least one destination"),
    ({"names": ["a", " "]}, "pool.names", "non-empty strings"),
    ({"names": ["a", 3]}, "pool.names", "non-empty strings"),
    ({"names": ["a", "a"]}, "pool.names", "be unique"),
    ({"usd_per_item": [1.0]}, "pool.usd_per_item", "shape (2,)"),
    ({"usd_per_item": [1.0, -1.0]}, "pool.usd_per_item[1]", ">= 0"),
    ({"usd_per_item": [1.0, np.inf]}, "pool.usd_per_item[1]", "finite"),
    ({"usd_per_input_token": [np.nan, 1.0]}, "pool.usd_per_input_token[0]", "not be NaN"),
    ({"usd_per_output_token": ["x", "y"]}, "pool.usd_per_output_token", "be numeric"),
    ({"capacity": [-1.0, 1.0]}, "pool.capacity[0]", ">= 0"),
    ({"up": [1, 0]}, "pool.up", "hold booleans"),
    ({"up": [True]}, "pool.up", "shape (2,)"),
    ({"up": [False, False]}, "pool.up", "at least one destination up"),
    ({"description": ["only one"]}, "pool.description", "hold 2 texts"),
    ({"description": ["one", 2]}, "pool.description", "hold 2 texts"),
    ({"features": [[1.0, 2.0]]}, "pool.features", "shape (2, any)"),
]


@pytest.mark.parametrize(("arguments", "field", "rule"), REFUSED)
def test_refuses_by_name(arguments, field, rule):
    """Every broken rule is refused with the field, the rule and a next step."""
    with pytest.raises(InputError) as caught:
        Pool(**({"names": ["a", "b"]} | arguments))
    assert caught.value.field == field
    assert rule in caught.value.rule
    assert caught.value.hint


def test_expected_cost_adds_prices_up():
    """Prices per item and per token of input and output add up."""
    pool = Pool(
        names=["a", "b"],
        usd_per_item=[1.0, 0.0],
        usd_per_input_token=[0.1, 0.2],
        usd_per_output_token=[1.0, 2.0],
    )
    cost = pool.expected_cost(np.array([10.0, 20.0]), np.array([[3.0, 4.0], [5.0, 6.0]]))
    np.testing.assert_allclose(cost, [[1 + 1 + 3, 2 + 8], [1 + 2 + 5, 4 + 12]])


def test_infinite_capacity_is_no_limit():
    """Infinity passes as a capacity."""
    assert Pool(names=["a"], capacity=[np.inf]).capacity.tolist() == [np.inf]


def test_down_and_select_keep_the_rest():
    """Taking destinations down and selecting some changes nothing else, and not the original."""
    pool = Pool(
        names=["a", "b", "c"],
        usd_per_item=[1.0, 2.0, 3.0],
        description=["x", "y", "z"],
        features=np.eye(3),
        capacity=[1.0, 2.0, 3.0],
    )
    less = pool.with_down(["b"])
    assert less.available.tolist() == [True, False, True]
    assert pool.available.all()
    some = less.select(["c", "b"])
    assert some.names == ("c", "b")
    assert some.usd_per_item.tolist() == [3.0, 2.0]
    assert some.capacity.tolist() == [3.0, 2.0]
    assert some.available.tolist() == [True, False]
    assert some.description == ("z", "y")
    assert some.features.tolist() == [[0, 0, 1], [0, 1, 0]]


def test_unknown_destination_lists_the_known():
    """Asking for a name that is not there says which are."""
    with pytest.raises(InputError, match="a, b"):
        Pool(names=["a", "b"]).index("c")
    with pytest.raises(InputError, match="at least one destination up"):
        Pool(names=["a"]).with_down(["a"])


def test_arrays_cannot_be_written_to():
    """A pool's arrays are read-only, and the caller's stay writable."""
    price = np.array([1.0, 2.0])
    pool = Pool(names=["a", "b"], usd_per_item=price)
    with pytest.raises(ValueError, match="read-only"):
        pool.usd_per_item[0] = 5.0
    price[0] = 1.0


def test_repr_counts_the_down():
    """The repr names the destinations and how many are down."""
    assert repr(Pool(names=["a", "b"]).with_down(["a"])) == "Pool(a, b, 1 down)"
