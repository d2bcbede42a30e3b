"""A policy of queries trained by a minimax game."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from turnout.core import InputError
from turnout.parts.feedback.minimax import (
    BestArm,
    Halving,
    Learned,
    Learning,
    Thresholds,
    Uniform,
    complexity,
    hardest,
    learn,
    play,
    scaled,
)
from turnout.parts.qlearning import QNetwork, new_network

ARMS = BestArm(4, 12)


def _by_grid(theta: np.ndarray, hypotheses: np.ndarray, bins: int = 40) -> float:
    """C of one theta over three arms, by trying all divisions of the answers on a grid."""
    values = hypotheses @ theta
    best = int(values.argmax())
    least = np.inf
    for a, b in itertools.product(range(1, bins), repeat=2):
        if a + b >= bins:
            continue
        lam = np.array([a, b, bins - a - b]) / bins
        worst = max(
            float(((hypotheses[z] - hypotheses[best]) ** 2 / lam).sum())
            / float(values[best] - values[z]) ** 2
            for z in range(len(hypotheses))
            if z != best
        )
        least = min(least, worst)
    return least


@pytest.mark.parametrize("theta", [(1.0, 0.0, 0.0), (0.3, 1.0, 0.7), (2.0, 1.9, -1.0)])
def test_complexity_agrees_with_a_grid(theta: tuple[float, ...]) -> None:
    """The minimum over divisions of the answers, to the width of the grid."""
    found = float(complexity(np.array([theta]), np.eye(3), rounds=300)[0])
    assert found == pytest.approx(_by_grid(np.array(theta), np.eye(3)), rel=0.03)


def test_two_arms_by_hand() -> None:
    """Half of the answers each: (2 + 2) / gap^2; with the square of a scale; a tie is endless."""
    theta = np.array([[1.0, 0.5], [2.0, 1.0], [1.0, 1.0]])
    assert complexity(theta, np.eye(2)) == pytest.approx([16.0, 4.0, np.inf])


def test_problems_are_scaled_to_their_level() -> None:
    """Too hard ones come up to it, easy ones stay unless all are asked for."""
    theta = np.array([[1.0, 0.5], [8.0, 0.0]])
    assert complexity(scaled(theta, 4.0, np.eye(2)), np.eye(2)) == pytest.approx([4.0, 1 / 16])
    exact = scaled(theta, 4.0, np.eye(2), exact=True)
    assert complexity(exact, np.eye(2)) == pytest.approx([4.0, 4.0])


def test_a_game_is_counted_right() -> None:
    """All T answers are counted, the score is what they say beyond theta, the last state fits."""
    theta = np.tile([0.0, 3.0, 0.0, 0.0], (50, 1))
    games = play(Uniform(), theta, ARMS, np.random.default_rng(0))
    assert games.counts.shape == (12, 50, 4)
    assert games.counts[-1].sum(axis=1).tolist() == [11.0] * 50
    rows = np.arange(50)
    last = games.sums[-1].copy()
    noise = games.score - (last - games.counts[-1] * theta)
    asked = games.asked[-1]
    noise[rows, asked] = 0.0
    assert np.abs(noise).max() < 1e-9
    assert games.wrong.mean() < 0.1


def test_the_arms_have_no_order() -> None:
    """Arms in another order have their chances in that order."""
    network = new_network(*ARMS.reads, 8, rng=np.random.default_rng(0))
    rng = np.random.default_rng(1)
    network.weights[4][:] = rng.standard_normal(network.weights[4].shape)
    policy = Learned(ARMS, network)
    counts, sums = rng.integers(1, 4, (5, 4)).astype(float), rng.standard_normal((5, 4))
    order = [2, 0, 3, 1]
    plain, turned = policy.chances(counts, sums), policy.chances(counts[:, order], sums[:, order])
    assert plain[:, order] == pytest.approx(turned)


def test_untrained_it_asks_evenly_and_each_arm_once_first() -> None:
    """Scores of nothing: every arm once, then all alike."""
    network = new_network(*ARMS.reads, 8, rng=np.random.default_rng(0))
    games = play(
        Learned(ARMS, network), np.zeros((40, 4)) + np.arange(4), ARMS, np.random.default_rng(0)
    )
    assert np.sort(games.asked[:4], axis=0).T.tolist() == [[0, 1, 2, 3]] * 40
    share = np.bincount(games.asked[4:].ravel(), minlength=4) / games.asked[4:].size
    assert share == pytest.approx(np.full(4, 0.25), abs=0.1)


def test_halving_drops_the_worse_half() -> None:
    """After the first half of the answers only the two arms ahead are asked about."""
    theta = np.tile([0.0, 50.0, 0.0, 40.0], (10, 1))
    games = play(Halving(12), theta, ARMS, np.random.default_rng(0))
    assert set(games.asked[6:].ravel().tolist()) <= {1, 3}
    assert set(games.asked[:6].ravel().tolist()) == {0, 1, 2, 3}
    assert games.wrong.sum() == 0


def test_thresholds_by_hand() -> None:
    """Answers that turn at the third of four items name it; sizes are kept near."""
    game = Thresholds(4, 4)
    assert game.name(np.ones((1, 4)), np.array([[-1.0, -0.2, 0.5, 1.0]])).tolist() == [2]
    assert game.project(np.array([[-1.0, -1.0, 1.0, -0.5]])).tolist() == [[-1.0, -1.0, 1.0, 0.375]]
    places = (game.draw(8, np.random.default_rng(0)) @ game.hypotheses.T).argmax(axis=1)
    assert np.bincount(places).tolist() == [2, 2, 2, 2]


def test_training_beats_asking_in_turn() -> None:
    """On thresholds a short training does better at the hardest problem of its level."""
    game = Thresholds(6, 8)
    learning = Learning(levels=(4.0,), steps=80, particles=12, rollouts=8, width=16, rate=1e-2)
    found = learn(game, learning, rng=np.random.default_rng(0))
    losses = [
        hardest(rule, game, 4.0, restarts=24, steps=10, games=400, rng=np.random.default_rng(1))
        for rule in (found.policy, Uniform())
    ]
    assert losses[0] < losses[1] - 0.03


def test_the_search_finds_what_a_rule_neglects() -> None:
    """A rule that never asks about the second item is found out; most problems spare it."""
    zeros = [np.zeros(shape) for shape in ((13, 2), (2,), (2, 2), (2,), (2, 4))]
    blind = QNetwork((*zeros, np.array([0.0, -50.0, 0.0, 0.0])))
    game = Thresholds(4, 12)
    rule = Learned(game, blind)
    rng = np.random.default_rng(0)
    assert hardest(rule, game, 1.0, restarts=16, steps=5, games=200, rng=rng) > 0.9
    assert hardest(Uniform(), game, 1.0, restarts=16, steps=5, games=200, rng=rng) < 0.3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BestArm(1, 5), "best_arm.arms"),
        (lambda: BestArm(4, 3), "best_arm.labels"),
        (lambda: Thresholds(1, 5), "thresholds.arms"),
        (lambda: Thresholds(4, 0), "thresholds.labels"),
        (lambda: Learning(levels=()), "learning.levels must hold one or more rising"),
        (lambda: Learning(levels=(2.0, 1.0)), "learning.levels"),
        (lambda: Learning(levels=(1.0,), particles=1), "learning.particles"),
        (lambda: Learning(levels=(1.0,), rate=0.0), "learning.rate"),
    ],
)
def test_what_cannot_be_is_refused(make, message: str) -> None:
    """Each field is named."""
    with pytest.raises(InputError, match=message):
        make()
