"""The decision every gate gives."""

from __future__ import annotations

import pytest
import torch

from turnout.core import InputError
from turnout.nn.gates import Decision, Slots


def _decision() -> Decision:
    """Three tokens, three experts, two slots; the last slot of token 1 is empty."""
    return Decision(
        experts=torch.tensor([[0, 2], [1, 3], [2, 0]]),
        weights=torch.tensor([[0.75, 0.25], [1.0, 0.0], [0.5, 0.5]]),
        e=3,
    )


def test_load_counts_filled_slots() -> None:
    """Expert 0 has two tokens, 1 has one, 2 has two; the empty slot counts nowhere."""
    assert _decision().load().tolist() == [2, 1, 2]


def test_dense_puts_weights_in_columns() -> None:
    """The matrix (t, e) holds each weight in its expert's column."""
    expected = [[0.75, 0.0, 0.25], [0.0, 1.0, 0.0], [0.5, 0.0, 0.5]]
    assert _decision().dense().tolist() == expected


def test_pairs_round_trip() -> None:
    """A decision made from its own pairs is the same matrix."""
    first = _decision()
    token, expert, weight = first.pairs()
    again = Decision.from_pairs(token, expert, weight, t=3, e=3)
    assert torch.equal(again.dense(), first.dense())
    assert again.k == 2


def test_pairs_of_nothing() -> None:
    """No pairs give a decision without slots."""
    none = torch.empty(0, dtype=torch.int64)
    empty = Decision.from_pairs(none, none, torch.empty(0), t=4, e=3)
    assert (empty.t, empty.k) == (4, 0)
    assert empty.load().tolist() == [0, 0, 0]


def test_masked_tokens_go_nowhere() -> None:
    """A masked row has only the sentinel and weight 0."""
    masked = _decision().masked(torch.tensor([True, False, True])).check()
    assert masked.experts[1].tolist() == [3, 3]
    assert masked.weights[1].tolist() == [0.0, 0.0]
    assert masked.load().tolist() == [2, 0, 2]


def test_capacity_by_position_by_hand() -> None:
    """One place an expert: token 0 takes 0 and 2, token 1 takes 1, token 2 finds both full."""
    limited = _decision().limited(1).check()
    assert limited.experts.tolist() == [[0, 2], [1, 3], [3, 3]]
    assert limited.dropped is not None
    assert limited.dropped.tolist() == [[False, False], [False, False], [True, True]]


def test_capacity_by_choice_by_hand() -> None:
    """First choices of all tokens come first: 0, 1, 2; the second choices find 2 and 0 full."""
    limited = _decision().limited(1, policy="choice").check()
    assert limited.experts.tolist() == [[0, 3], [1, 3], [2, 3]]


def test_by_position_no_later_token_displaces_an_earlier() -> None:
    """Another last token changes nothing before it; by choice and by weight it can."""
    weights = torch.tensor([[0.6, 0.4], [0.6, 0.4], [0.9, 0.1]])
    last = ([0, 1], [1, 2])
    kept: dict[str, list[list[list[int]]]] = {"position": [], "choice": [], "weight": []}
    for policy, found in kept.items():
        for choice in last:
            experts = torch.tensor([[1, 0], [2, 0], choice])
            decision = Decision(experts=experts, weights=weights, e=3)
            found.append(decision.limited(2, policy=policy).experts[:2].tolist())  # type: ignore[arg-type]
    assert kept["position"][0] == kept["position"][1]
    assert kept["choice"][0] != kept["choice"][1]
    assert kept["weight"][0] != kept["weight"][1]


def test_capacity_by_weight_by_hand() -> None:
    """The heavier of two claims to one place stays, whatever its position."""
    decision = Decision(
        experts=torch.tensor([[0], [0], [0]]), weights=torch.tensor([[0.2], [0.9], [0.5]]), e=1
    )
    assert decision.limited(2, policy="weight").experts.tolist() == [[1], [0], [0]]
    assert decision.limited(2, policy="position").experts.tolist() == [[0], [0], [1]]


def test_capacity_is_never_exceeded() -> None:
    """Whatever the load, no expert keeps more than its places, and full ones keep all of them."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(50, 6, generator=generator)
    order = scores.argsort(dim=1, descending=True)[:, :3]
    decision = Decision(experts=order, weights=scores.gather(1, order), e=6)
    for policy in ("position", "choice", "weight"):
        limited = decision.limited(11, policy=policy)  # type: ignore[arg-type]
        assert torch.equal(limited.load(), decision.load().clamp(max=11))


def test_assignment_is_the_noun_of_the_house() -> None:
    """None is -1 there, and the weights are the same."""
    assignment = _decision().assignment()
    assert assignment.index.tolist() == [[0, 2], [1, -1], [2, 0]]
    assert assignment.m == 3


@pytest.mark.parametrize(
    ("experts", "weights", "field"),
    [
        ([[0, 4]], [[0.5, 0.5]], "decision.experts"),  # beyond the sentinel
        ([[-1, 0]], [[0.5, 0.5]], "decision.experts"),  # -1 is for traces
        ([[1, 1]], [[0.5, 0.5]], "decision.experts[0]"),  # twice
        ([[0, 3]], [[0.5, 0.5]], "decision.weights"),  # weight on the sentinel
        ([[0, 1]], [[0.5, float("nan")]], "decision.weights"),
    ],
)
def test_check_refuses(experts: list[list[int]], weights: list[list[float]], field: str) -> None:
    """What breaks a rule is named."""
    decision = Decision(experts=torch.tensor(experts), weights=torch.tensor(weights), e=3)
    with pytest.raises(InputError) as caught:
        decision.check()
    assert caught.value.field == field


def test_shapes_are_checked_when_made() -> None:
    """Experts and weights share a shape; rows of everything else are the tokens."""
    experts = torch.zeros(2, 1, dtype=torch.int64)
    with pytest.raises(InputError, match="share one shape"):
        Decision(experts=experts, weights=torch.zeros(2, 2), e=2)
    with pytest.raises(InputError, match=r"decision\.mask must have 2 rows"):
        Decision(experts=experts, weights=torch.zeros(2, 1), e=2, mask=torch.ones(3).bool())


def test_slots_know_their_shape() -> None:
    """Soft decisions have four axes, and every expert the same load."""
    one = torch.full((2, 5, 3, 4), 0.1)
    slots = Slots(dispatch=one, combine=one, logits=one)
    assert (slots.e, slots.t, slots.load().tolist()) == (3, 10, [8, 8, 8])
    with pytest.raises(InputError, match="share one shape"):
        Slots(dispatch=one[0], combine=one[0], logits=one[0])
