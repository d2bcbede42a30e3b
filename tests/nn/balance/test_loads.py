"""Loads in a few numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from turnout.bench.traces import measures
from turnout.core import InputError
from turnout.nn.balance import report, total_over


def test_report_by_hand() -> None:
    """Loads 6, 2, 0, 0: mean 2, deviation sqrt(6), entropy of 3/4 and 1/4 over ln 4."""
    told = report(torch.tensor([6, 2, 0, 0]), dropped=2)
    entropy = (0.75 * math.log(4 / 3) + 0.25 * math.log(4)) / math.log(4)
    assert told.pairs == 8
    assert told.max_over_mean == pytest.approx(3.0)
    assert told.max_violation == pytest.approx(2.0)
    assert told.cv == pytest.approx(math.sqrt(6) / 2)
    assert told.entropy == pytest.approx(entropy)
    assert told.dead == 2
    assert told.dropped == pytest.approx(0.2)


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=20))
def test_bounds(load: list[int]) -> None:
    """Max over mean lies in [1, e], entropy in [0, 1], and even is even."""
    told = report(torch.tensor(load))
    if not sum(load):
        assert math.isnan(told.max_over_mean)
        assert math.isnan(told.entropy)
        assert told.dead == len(load)
    else:
        assert 1.0 - 1e-9 <= told.max_over_mean <= len(load) + 1e-9
        assert -1e-9 <= told.entropy <= 1.0 + 1e-9
        assert told.cv == pytest.approx(0.0) or len(set(load)) > 1
        assert told.dropped == 0.0


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=20), st.integers(0, 50))
def test_same_definitions_as_for_traces(load: list[int], dropped: int) -> None:
    """A layer while it is trained and a trace of it afterwards are told in the same numbers."""
    told, table = report(torch.tensor(load), dropped=dropped), np.array(load)
    assert told.max_over_mean == pytest.approx(float(measures.max_over_mean(table)), nan_ok=True)
    assert told.cv == pytest.approx(float(measures.variation(table)), nan_ok=True)
    assert told.entropy == pytest.approx(float(measures.entropy(table)), nan_ok=True)
    assert told.dead == int(measures.dead(table))


def test_one_expert_is_even() -> None:
    """A single expert has all and is balanced."""
    told = report(torch.tensor([5]))
    assert (told.max_over_mean, told.entropy, told.cv, told.dead) == (1.0, 1.0, 0.0, 0)


def test_without_processes_the_sum_is_a_copy() -> None:
    """The value is left alone."""
    value = torch.tensor([1, 2])
    total = total_over(value)
    total += 1
    assert value.tolist() == [1, 2]


@pytest.mark.parametrize("load", [torch.zeros(2, 2), torch.zeros(0), torch.tensor([-1, 2])])
def test_refusals(load: torch.Tensor) -> None:
    """A load is one number >= 0 an expert."""
    with pytest.raises(InputError, match="load must"):
        report(load)
    with pytest.raises(InputError, match="dropped must"):
        report(torch.ones(2), dropped=-1)
