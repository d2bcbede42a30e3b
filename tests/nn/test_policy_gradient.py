"""Policy gradients: the equations by hand, and what must never matter."""

from __future__ import annotations

import numpy as np
import pytest

from turnout.core import InputError

torch = pytest.importorskip("torch")

from turnout.nn.policy_gradient import (  # noqa: E402
    Batch,
    Grpo,
    Progress,
    Reinforce,
    StepGrpo,
    group_relative,
    train,
)
from turnout.nn.scorer import Scorer, batch_of  # noqa: E402
from turnout.parts.learners.actor import Decision  # noqa: E402

YES = torch.ones(4, 1, dtype=torch.bool)
GROUP = torch.tensor([0, 0, 1, 1])


def column(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)[:, None]


def test_reinforce_gradient_by_hand() -> None:
    """Two episodes at probability 1/2: d loss / d logit = -mean(A * (1 - p)) of what was done."""
    logits = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    logp = torch.log_softmax(logits, 0)[[0, 1]][:, None]
    mask = torch.ones(2, 1, dtype=torch.bool)
    algorithm = Reinforce("none")
    advantages = algorithm.advantages(column(1.0, 0.0), mask, GROUP[:2])
    algorithm.loss(logp, logp.detach(), None, advantages, mask).backward()
    assert logits.grad is not None
    # A = (1, 0); d log p(0) = (1/2, -1/2); mean over two episodes
    assert logits.grad.tolist() == pytest.approx([-0.25, 0.25])


def test_returns_are_what_follows() -> None:
    """A step answers for its own reward and those after it, not for those before."""
    mask = torch.tensor([[True, True, False]])
    rewards = torch.tensor([[1.0, 2.0, 100.0]])
    found = Reinforce("none").advantages(rewards, mask, torch.zeros(1, dtype=torch.int64))
    assert found.tolist() == [[3.0, 2.0, 0.0]]


def test_grpo_by_hand() -> None:
    """Rewards 0, 1 and 1, 4 become -1, 1 and -1, 1; the loss is minus their clipped mean."""
    advantages = Grpo().advantages(column(0, 1, 1, 4), YES, GROUP)
    assert advantages.flatten().tolist() == pytest.approx([-1, 1, -1, 1])
    logp = column(*np.log([1.5, 1.5, 1.0, 1.0]))
    # ratio 1.5: with A = -1 it is not clipped (-1.5), with A = 1 it is (1.2)
    loss = Grpo(clip=0.2, kl=0.0).loss(logp, torch.zeros_like(logp), None, advantages, YES)
    assert float(loss) == pytest.approx(-(-1.5 + 1.2 - 1 + 1) / 4)


def test_penalty_by_hand() -> None:
    """The estimate of the distance is x - log x - 1 at x = ref / policy, and 0 where they agree."""
    none = torch.zeros(4, 1, dtype=torch.float64)
    algorithm = Grpo(kl=2.0)
    assert float(algorithm.loss(none, none, none, none, YES)) == 0.0
    reference = torch.full((4, 1), np.log(3.0))
    expected = 2.0 * (3.0 - np.log(3.0) - 1.0)
    assert float(algorithm.loss(none, none, reference, none, YES)) == pytest.approx(expected)


@pytest.mark.parametrize("algorithm", [Reinforce(), Grpo(), StepGrpo()])
def test_a_constant_added_to_rewards_changes_nothing(algorithm) -> None:
    """Only differences of rewards teach, where there is a baseline (episodes of one length)."""
    rewards = column(0.3, -1.0, 2.0, 0.0)
    first = algorithm.advantages(rewards, YES, GROUP)
    again = algorithm.advantages(rewards + 7.0, YES, GROUP)
    assert torch.allclose(first, again)


@pytest.mark.parametrize("algorithm", [Grpo(), StepGrpo()])
def test_equal_rewards_teach_nothing(algorithm) -> None:
    """A group that earned the same has advantage 0; so has a group of one."""
    rewards = column(0.1, 0.1, 0.1, 5.0)
    found = algorithm.advantages(rewards, YES, torch.tensor([3, 3, 3, 9]))
    assert found.flatten().tolist() == [0.0] * 4


def test_a_step_is_compared_with_those_who_took_it() -> None:
    """Step-GRPO leaves out episodes that had ended; GRPO gives each episode one number."""
    rewards = torch.tensor([[0.0, 1.0], [1.0, 3.0], [1.0, 999.0]])
    mask = torch.tensor([[True, True], [True, True], [True, False]])
    group = torch.zeros(3, dtype=torch.int64)
    found = group_relative(rewards, mask, group)
    assert found[:, 1].tolist() == pytest.approx([-1.0, 1.0, 0.0])
    assert StepGrpo().advantages(rewards, mask, group).equal(found)
    whole = Grpo().advantages(rewards, mask, group)
    assert whole[0, 0] == whole[0, 1]
    assert whole[2, 1] == 0.0


@pytest.mark.parametrize("algorithm", [Reinforce(), Grpo(kl=0.5), StepGrpo(kl=0.5)])
def test_masked_steps_count_nothing(algorithm) -> None:
    """Whatever stands in a masked step, infinities among it, the loss and gradient are the same."""
    mask = torch.tensor([[True, True], [True, False]])
    group = torch.zeros(2, dtype=torch.int64)
    found = []
    for junk in (0.0, -5.0, float("-inf")):
        base = torch.tensor([[-0.2, -1.0], [-0.5, 0.0]], dtype=torch.float64, requires_grad=True)
        logp = torch.where(mask, base, junk)
        rewards = torch.where(mask, torch.tensor([[1.0, 0.0], [0.5, 0.0]]), junk)
        advantages = algorithm.advantages(rewards, mask, group)
        old = logp.detach() - 0.1
        loss = algorithm.loss(logp, old, old, advantages, mask)
        loss.backward()
        assert base.grad is not None
        found.append((float(loss.detach()), base.grad.tolist()))
    assert found[0] == found[1] == found[2]


def bandit(scorer: Scorer, seed: int):
    """Three arms of which the last pays most, seen as one-hot actions."""
    rng = np.random.default_rng(seed)
    arms, state, every = np.eye(3), np.ones(1), np.ones(3, dtype=bool)

    def collect(update: int) -> Batch:
        actor = scorer.actor()
        chosen = [actor.pick(state, arms, every, rng=rng) for _ in range(24)]
        steps = [[Decision(state, arms, every, a, (0.0, 0.2, 1.0)[a])] for a in chosen]
        return batch_of(steps, [i // 8 for i in range(24)])

    return collect


@pytest.mark.parametrize("algorithm", [Reinforce(), Grpo(passes=2), StepGrpo()])
def test_it_learns_the_better_arm_and_repeats_itself(algorithm) -> None:
    """The best of three arms is found; two trainings from one seed end at the same weights."""
    ends, told = [], []
    for _ in range(2):
        scorer = Scorer(1, 3, 8, generator=torch.Generator().manual_seed(1))
        train(scorer, bandit(scorer, 5), algorithm, updates=60, rate=0.05, progress=told.append)
        logs = scorer.actor().log_probs(np.ones(1), np.eye(3), np.ones(3, dtype=bool))
        ends.append(logs)
    assert np.exp(ends[0][2]) > 0.9
    assert ends[0].tolist() == ends[1].tolist()
    assert isinstance(told[0], Progress)
    assert [item.update for item in told[:60]] == list(range(1, 61))
    assert told[59].reward > told[0].reward


def test_numpy_and_torch_agree() -> None:
    """The actor that plays gives the log-probabilities the scorer is trained on."""
    rng = np.random.default_rng(0)
    scorer = Scorer(4, 3, 5, generator=torch.Generator().manual_seed(0))
    allowed = np.array([True, False, True])
    step = Decision(rng.standard_normal(4), rng.standard_normal((3, 3)), allowed, 2)
    batch = batch_of([[step], [step, step]], [0, 0])
    logs = scorer.actor().log_probs(step.state, step.actions, allowed)
    assert float(scorer(batch.data)[0, 0].detach()) == pytest.approx(logs[2])
    assert logs[1] == -np.inf
    assert np.exp(logs).sum() == pytest.approx(1.0)
    assert batch.mask.tolist() == [[True, False], [True, True]]


def test_global_generators_are_left_alone() -> None:
    """Training draws from nothing of its own."""
    before = torch.get_rng_state()
    scorer = Scorer(1, 3, 4, generator=torch.Generator().manual_seed(1))
    train(scorer, bandit(scorer, 0), Grpo(), updates=2, rate=0.01)
    assert torch.equal(before, torch.get_rng_state())


def test_wrong_values_are_named() -> None:
    """Each refusal says which field."""
    with pytest.raises(InputError, match=r"reinforce\.baseline must be 'mean' or 'none'"):
        Reinforce("best")
    with pytest.raises(InputError, match=r"grpo\.clip"):
        Grpo(clip=1.0)
    with pytest.raises(InputError, match=r"grpo\.kl"):
        StepGrpo(kl=-1.0)
    with pytest.raises(InputError, match=r"batch\.rewards must be finite"):
        Batch(None, column(float("nan")), YES[:1], GROUP[:1])
    with pytest.raises(InputError, match="batch must have rewards and mask"):
        Batch(None, column(1.0), YES, GROUP)
