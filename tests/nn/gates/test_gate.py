"""Gates put together from parts."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from turnout.core import InputError
from turnout.nn.gates import (
    Bias,
    Capacity,
    ExpertChoice,
    Gate,
    GroupLimit,
    HashTable,
    LearnedNoise,
    LinearScorer,
    NoScorer,
    Plain,
    Positive,
    Relu,
    Renormalised,
    RouteContext,
    Scores,
    Sigmoid,
    Softmax,
    SoftmaxOfChosen,
    TopK,
    Uniform,
    top_columns,
)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def linear(logits: list[list[float]]) -> tuple[LinearScorer, torch.Tensor]:
    """A scorer and hidden states that score exactly `logits`: unit tokens, logits as columns."""
    wanted = torch.tensor(logits)
    t, e = wanted.shape
    scorer = LinearScorer(t, e, generator=rng())
    with torch.no_grad():
        scorer.weight.copy_(wanted.t())
    return scorer, torch.eye(t)


def test_softmax_before_or_after_the_choice_by_hand() -> None:
    """Logits ln 1, ln 2, ln 3, ln 4, two chosen: raw 0.4 and 0.3; renormalised 4/7 and 3/7."""
    scorer, x = linear([[0.0, 0.6931472, 1.0986123, 1.3862944]])
    plain = Gate(scorer, TopK(2), Plain(), e=4, processors=[Softmax()])(x)
    assert plain.experts.tolist() == [[3, 2]]
    assert plain.weights[0].tolist() == pytest.approx([0.4, 0.3])
    before = Gate(scorer, TopK(2), Renormalised(), e=4, processors=[Softmax()])(x)
    after = Gate(scorer, TopK(2), SoftmaxOfChosen(), e=4)(x)
    for gate in (before, after):
        assert gate.weights[0].tolist() == pytest.approx([4 / 7, 3 / 7])


def test_a_bias_chooses_and_does_not_weigh() -> None:
    """With +1 on expert 0 it is chosen, at the weight of its unbiased sigmoid, 1/2."""
    scorer, x = linear([[0.0, 1.0, 2.0]])
    bias = Bias(3)
    bias.bias.copy_(torch.tensor([1.0, 0.0, 0.0]))
    decision = Gate(scorer, TopK(1), Plain(), e=3, processors=[Sigmoid(), bias])(x)
    assert decision.experts.item() == 0
    assert decision.weights.item() == pytest.approx(0.5)
    assert decision.logits is not None
    assert decision.logits.tolist() == [[0.0, 1.0, 2.0]]


def test_groups_by_their_best_two_by_hand() -> None:
    """Groups (5, 0) and (3, 3): the first has the best expert, the second the best two."""
    scorer, x = linear([[5.0, 0.0, 3.0, 3.0]])
    one = Gate(scorer, TopK(2), Plain(), e=4, processors=[GroupLimit(2, 1)])(x)
    two = Gate(scorer, TopK(2), Plain(), e=4, processors=[GroupLimit(2, 1, best=2)])(x)
    assert one.experts.tolist() == [[0, 1]]
    assert two.experts.tolist() == [[2, 3]]


def test_what_is_barred_is_not_chosen() -> None:
    """Three chosen where one group of two is allowed leaves a slot empty."""
    scorer, x = linear([[5.0, 0.0, 3.0, 1.0]])
    decision = Gate(scorer, TopK(3), Plain(), e=4, processors=[GroupLimit(2, 1)])(x).check()
    assert decision.experts.tolist() == [[0, 1, 4]]
    assert decision.weights.tolist() == [[5.0, 0.0, 0.0]]


def test_null_columns_are_no_expert() -> None:
    """The best column is null: its slot is empty and takes no share."""
    scorer, x = linear([[1.0, 2.0, 9.0]])
    scorer.e = 2
    decision = Gate(scorer, TopK(2), Renormalised(), e=2, processors=[Softmax()])(x).check()
    assert decision.experts.tolist() == [[2, 1]]
    assert decision.weights.tolist() == [[0.0, 1.0]]


def test_relu_chooses_what_is_positive() -> None:
    """Two, none and one expert; k is the most any token has."""
    scorer, x = linear([[1.0, -1.0, 2.0], [-1.0, -2.0, -3.0], [-1.0, 4.0, 0.0]])
    decision = Gate(scorer, Positive(), Plain(), e=3, processors=[Relu()])(x).check()
    assert decision.experts.tolist() == [[0, 2], [3, 3], [1, 3]]
    assert decision.weights.tolist() == [[1.0, 2.0], [0.0, 0.0], [4.0, 0.0]]


def test_expert_choice_fills_every_expert() -> None:
    """Two experts, four tokens, factor 1: each takes the two that score highest for it."""
    scorer, x = linear([[4.0, 1.0], [3.0, 2.0], [2.0, 9.0], [1.0, 0.0]])
    decision = Gate(scorer, ExpertChoice(1.0), Plain(), e=2)(x).check()
    assert decision.experts.tolist() == [[0], [0], [1], [2]] or decision.k == 2
    assert decision.load().tolist() == [2, 2]
    assert decision.dense().tolist() == [[4.0, 0.0], [3.0, 2.0], [0.0, 9.0], [0.0, 0.0]]


def test_expert_choice_leaves_masked_tokens_out() -> None:
    """Masked tokens take no place, however high they score."""
    scorer, x = linear([[9.0, 9.0], [3.0, 2.0], [2.0, 3.0]])
    mask = torch.tensor([False, True, True])
    gate = Gate(scorer, ExpertChoice(1.0), Plain(), e=2)
    decision = gate(x, RouteContext(mask=mask)).check()
    assert decision.load().tolist() == [1, 1]
    assert (decision.experts[0] == 2).all()


def test_a_gate_that_looks_ahead_is_refused_where_tokens_are_predicted() -> None:
    """The error says what to do; the same gate serves a model that is not causal."""
    scorer, x = linear([[4.0, 1.0], [3.0, 2.0]])
    gate = Gate(scorer, ExpertChoice(1.0), Plain(), e=2)
    assert not gate.causal_safe
    assert gate.batch_coupled
    with pytest.raises(InputError, match="look_ahead=True"):
        gate(x, RouteContext(causal=True))
    gate(x, RouteContext(causal=False))


def test_capacity_by_weight_looks_ahead() -> None:
    """A later token can displace an earlier one by weight or choice, not by position."""
    scorer, _ = linear([[1.0, 0.0]])
    for policy, safe in (("position", True), ("choice", False), ("weight", False)):
        limit = Capacity(1.0, policy=policy)  # type: ignore[arg-type]
        assert Gate(scorer, TopK(1), Plain(), e=2, limits=[limit]).causal_safe is safe


def test_capacity_counts_real_tokens_only() -> None:
    """Four of eight tokens are real: two experts at factor 1 have two places each."""
    scorer, x = linear([[1.0, 0.0]] * 8)
    gate = Gate(scorer, TopK(1), Plain(), e=2, limits=[Capacity(1.0)])
    mask = torch.tensor([False, True] * 4)
    decision = gate(x, RouteContext(mask=mask)).check()
    assert decision.load().tolist() == [2, 0]
    assert decision.dropped is not None
    assert int(decision.dropped.sum()) == 2


def test_noise_is_drawn_from_the_context_in_training_only() -> None:
    """Same generator, same route; no generator, no noise; evaluation draws nothing."""
    scorer, x = linear([[0.0, 0.01, 0.02, 0.03]] * 3)
    gate = Gate(scorer, TopK(2), SoftmaxOfChosen(), e=4, processors=[LearnedNoise(3, 4)])
    one = gate(x, RouteContext(generator=rng(1)))
    assert torch.equal(one.experts, gate(x, RouteContext(generator=rng(1))).experts)
    with pytest.raises(InputError, match=r"context\.generator"):
        gate(x)
    gate.eval()
    assert gate(x).experts.tolist() == [[3, 2]] * 3


def test_hash_reads_token_ids() -> None:
    """The table decides; without ids, or beyond the table, it is refused by name."""
    gate = Gate(NoScorer(3), HashTable(torch.tensor([[2], [0]])), Plain(), e=3)
    decision = gate(torch.zeros(2, 4), RouteContext(tokens=torch.tensor([1, 0])))
    assert decision.experts.tolist() == [[0], [2]]
    with pytest.raises(InputError, match=r"context\.tokens must be given"):
        gate(torch.zeros(2, 4))
    with pytest.raises(InputError, match=r"context\.tokens must lie in \[0, 1\]; got 5"):
        gate(torch.zeros(1, 4), RouteContext(tokens=torch.tensor([5])))


def test_uniform_draws_different_experts() -> None:
    """No expert twice in a row, and the generator decides."""
    gate = Gate(NoScorer(5), Uniform(3), Plain(), e=5)
    one = gate(torch.zeros(40, 2), RouteContext(generator=rng(3))).check()
    assert torch.equal(
        one.experts, gate(torch.zeros(40, 2), RouteContext(generator=rng(3))).experts
    )
    assert len({tuple(row) for row in one.experts.tolist()}) > 10


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_logits_that_are_not_finite_are_refused_where_they_count(bad: float) -> None:
    """The error names token and expert; a masked token may hold anything."""
    gate = Gate(LinearScorer(3, 4, generator=rng()), TopK(2), Renormalised(), e=4)
    x = torch.ones(3, 3)
    x[1, 2] = bad
    with pytest.raises(InputError, match=r"logits\[1, "):
        gate(x)
    decision = gate(x, RouteContext(mask=torch.tensor([True, False, True]))).check()
    assert (decision.experts[1] == 4).all()


def test_more_choices_than_experts_are_refused() -> None:
    """K > E names both."""
    gate = Gate(LinearScorer(3, 4, generator=rng()), TopK(5), Plain(), e=4)
    with pytest.raises(InputError, match=r"k must lie in \[1, 4\].*got 5"):
        gate(torch.ones(2, 3))


def test_no_tokens() -> None:
    """An empty batch gives an empty decision from every selector."""
    for selector in (TopK(2), Positive(), ExpertChoice(1.0)):
        decision = Gate(LinearScorer(3, 4, generator=rng()), selector, Plain(), e=4)(
            torch.empty(0, 3)
        )
        assert decision.t == 0


def test_all_tokens_masked() -> None:
    """Nothing is routed and no load is counted."""
    for selector in (TopK(2), Positive(), ExpertChoice(1.0)):
        gate = Gate(LinearScorer(3, 4, generator=rng()), selector, Plain(), e=4)
        decision = gate(torch.ones(5, 3), RouteContext(mask=torch.zeros(5, dtype=torch.bool)))
        assert decision.load().tolist() == [0] * 4


def test_scores_are_full_precision_under_autocast() -> None:
    """A bfloat16 host gets the routes of float32 scores."""
    gate = Gate(LinearScorer(16, 8, generator=rng()), TopK(2), Renormalised(), e=8)
    x = torch.randn(32, 16, generator=rng(1)).bfloat16()
    plain = gate(x.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = gate(x)
    assert torch.equal(plain.experts, cast.experts)
    assert cast.weights.dtype == torch.float32


def test_the_budget_of_the_context_overrides_k() -> None:
    """One experts a token instead of two."""
    gate = Gate(LinearScorer(3, 4, generator=rng()), TopK(2), Plain(), e=4)
    assert gate(torch.ones(2, 3), RouteContext(budget=1.0)).k == 1


def test_weights_move_before_the_choice_alone_does() -> None:
    """A softmax behind a bias would lose the bias: the order is refused."""
    gate = Gate(
        LinearScorer(3, 4, generator=rng()),
        TopK(1),
        Plain(),
        e=4,
        processors=[Bias(4), Softmax()],
    )
    with pytest.raises(InputError, match="Put biases and limits last"):
        gate(torch.ones(2, 3))


def test_gradient_reaches_scorer_and_input() -> None:
    """Through the weights of the chosen, and not through who is chosen."""
    gate = Gate(LinearScorer(6, 4, generator=rng()), TopK(2), Plain(), e=4, processors=[Softmax()])
    x = torch.randn(5, 6, generator=rng(1), requires_grad=True)
    gate(x).weights.pow(2).sum().backward()
    assert x.grad is not None
    assert gate.scorer.weight.grad.abs().sum() > 0


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_ties_go_to_the_lower_column(data: st.DataObject) -> None:
    """The order is that of a stable sort, whatever ties there are."""
    t = data.draw(st.integers(0, 6))
    e = data.draw(st.integers(1, 9))
    k = data.draw(st.integers(1, e))
    entries = st.lists(st.integers(0, 2), min_size=e, max_size=e)
    rows = data.draw(st.lists(entries, min_size=t, max_size=t))
    values = torch.tensor(rows, dtype=torch.float32).reshape(t, e)
    expected = [sorted(range(e), key=lambda j, row=row: (-row[j], j))[:k] for row in rows]
    assert top_columns(values, k).tolist() == expected


def test_scores_need_a_column_an_expert() -> None:
    """Fewer columns than experts are refused."""
    with pytest.raises(InputError, match="logits must have shape"):
        Scores.raw(torch.zeros(2, 3), 4)
