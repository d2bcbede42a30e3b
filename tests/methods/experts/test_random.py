"""The random gate."""

from __future__ import annotations

import pytest
import torch

from turnout.core import InputError
from turnout.experts.random import Random
from turnout.nn.gates import RouteContext
from turnout.testing.gates import GateCase

CASE = GateCase(Random(k=2))


def _decide(k: int, e: int, t: int, seed: int = 0):
    gate = Random(k=k).build(2, e, generator=torch.Generator().manual_seed(0))
    context = RouteContext(generator=torch.Generator().manual_seed(seed))
    return gate(torch.zeros(t, 2), context)


def test_shares_by_hand() -> None:
    """Two experts a token weigh a half each."""
    assert _decide(2, 4, 3).weights.tolist() == [[0.5, 0.5]] * 3


def test_every_pair_is_equally_likely() -> None:
    """Of 12,000 tokens each of the 6 pairs of 4 experts has 2,000, within 5 deviations."""
    pairs = _decide(2, 4, 12_000).experts.sort(dim=1).values
    counts = (pairs[:, 0] * 4 + pairs[:, 1]).bincount()
    seen = counts[counts > 0]
    assert len(seen) == 6
    assert int((seen - 2000).abs().max()) < 5 * 41


def test_it_draws_from_the_context_alone() -> None:
    """No generator is refused, and another one gives another route."""
    gate = Random(k=1).build(2, 4, generator=torch.Generator())
    with pytest.raises(InputError, match=r"context.generator must be given: uniform choice draws"):
        gate(torch.zeros(3, 2))
    assert not torch.equal(_decide(1, 8, 50).experts, _decide(1, 8, 50, seed=1).experts)


def test_wrong_recipes_are_refused() -> None:
    """The field is named, alone and against the experts there are."""
    with pytest.raises(InputError, match=r"random\.k must be a whole number >= 1; got 0"):
        Random(k=0)
    with pytest.raises(InputError, match=r"k must be a whole number in \[1, 2\]; got 3"):
        Random(k=3).build(2, 2, generator=torch.Generator())
