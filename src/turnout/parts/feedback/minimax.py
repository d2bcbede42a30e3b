"""Learns to ask: a policy of queries that is nearly as good at every difficulty as any could be.

N things can be asked about, each answer is noisy, T answers may be had, and then one of h
hypotheses is to be named. Which hypothesis is right, z*(theta) = argmax_z <z, theta>, depends on
an unknown theta (N,) of a family: an answer about i is y ~ Normal(theta_i, 1). How hard a theta is,
is told by the least number of answers that any method needs, up to logarithms::

    C(theta) = min_lambda max_{z != z*} sum_i (z_i - z*_i)^2 / lambda_i / <z* - z, theta>^2

with lambda on the simplex, and C falls with the square of a scale of theta. With Theta_r the
thetas of C <= r, at levels r_1 < ... < r_K, and l the chance of naming a wrong hypothesis,
the policy sought is (Zhang, Jain and Jamieson, "Learning to Actively Learn: A Robust Approach",
2020, arXiv:2010.15382)::

    argmin_pi max_k [ max_{Theta_r_k} l(pi, theta)  -  min_pi' max_{Theta_r_k} l(pi', theta) ]

Training (`learn`): for each level a policy of its own is trained against an adversary, each from
the one before, and its worst loss is kept; then one policy against the worst of the gaps. The
adversary is a set of particles theta_j with weights softmax(w): w climbs on the losses, theta_j on
the score of the answers, sum_t (y_t - theta_{I_t}), times the loss; after a step a particle that
is too hard is scaled up to its level, and the one that does least harm is drawn anew now and then
(unless it is the last for which its hypothesis is right).
The policy descends by REINFORCE, its baseline the mean loss at the same particle.

The state of a policy is counts and sums of the answers. `BestArm` treats all arms alike (one
network reads each arm beside the mean of all); `Thresholds` knows the order of its items.

Cost: a step of training plays particles * rollouts games of T steps and one pass back over them.

Examples
--------
>>> import numpy as np
>>> arms = BestArm(3, 10)
>>> bool(abs(complexity(np.array([[1.0, 0.0, 0.0]]), arms.hypotheses)[0] - 5.83) < 0.02)
True
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.random import Generator

from turnout.core import InputError, _check
from turnout.core._check import Float, Int
from turnout.parts.learners.descent import Adam
from turnout.parts.qlearning import QNetwork, new_network

__all__ = [
    "Asker",
    "BestArm",
    "Game",
    "Halving",
    "Learned",
    "Learning",
    "Minimax",
    "Thresholds",
    "Uniform",
    "complexity",
    "hardest",
    "learn",
    "play",
    "scaled",
]


class Game(Protocol):
    """What can be asked, what is to be named, and how a network reads the state."""

    @property
    def arms(self) -> int:
        """Things that can be asked about, N."""
        ...

    @property
    def labels(self) -> int:
        """Answers that may be had, T."""
        ...

    @property
    def hypotheses(self) -> Float:
        """What may be named, (h, N)."""
        ...

    @property
    def reads(self) -> tuple[int, int]:
        """Inputs and outputs of the network for one row of `states`."""
        ...

    def states(self, counts: Float, sums: Float) -> Float:
        """Rows of the network for b games, (b r, d); its outputs are b N scores in order."""
        ...

    def draw(self, p: int, rng: Generator) -> Float:
        """Some thetas (p, N) to begin with."""
        ...

    def project(self, theta: Float) -> Float:
        """The nearest thetas (p, N) that may be, up to scale."""
        ...

    def name(self, counts: Float, sums: Float) -> Int:
        """The hypothesis named in the end, (b,)."""
        ...


@dataclass(frozen=True)
class BestArm:
    """Which of m arms has the highest mean.

    Parameters
    ----------
    arms, labels : int
        m >= 2, and T >= m: every arm is asked about once before a policy is heard.
    """

    arms: int
    labels: int

    def __post_init__(self) -> None:
        _check.integer("best_arm.arms", self.arms, low=2)
        _check.integer("best_arm.labels", self.labels, low=self.arms)

    @property
    def hypotheses(self) -> Float:
        """One arm each."""
        return np.eye(self.arms)

    @property
    def reads(self) -> tuple[int, int]:
        """Six numbers of one arm, one score."""
        return 6, 1

    def states(self, counts: Float, sums: Float) -> Float:
        """Each arm: its share of the answers, the spread of its mean, how far that lies behind."""
        mean = sums / np.maximum(counts, 1.0)
        error = 1.0 / np.sqrt(np.maximum(counts, 0.5))
        lead = mean - mean.max(axis=1, keepdims=True)
        second = np.sort(mean, axis=1)[:, -2, None]
        ahead = np.where(lead == 0, mean - second, lead)
        left = 1.0 - counts.sum(axis=1, keepdims=True) / self.labels
        columns = (
            counts / self.labels * self.arms - 1.0,
            error,
            ahead,
            np.clip(ahead / error, -6.0, 6.0) / 2.0,
            (lead == 0).astype(np.float64),
            np.broadcast_to(left, counts.shape),
        )
        return np.stack(columns, axis=2).reshape(-1, 6)

    def draw(self, p: int, rng: Generator) -> Float:
        """Normal means, or one ahead of equal others, or two ahead."""
        theta = rng.standard_normal((p, self.arms))
        kind = rng.integers(3, size=(p, 1))
        ahead = (np.arange(self.arms) == 0) * 1.0 + (
            (np.arange(self.arms) == 1) & (kind == 2)
        ) * 0.7
        shaped = np.where(kind == 0, theta, ahead + 0.1 * theta)
        return np.asarray(rng.permuted(shaped, axis=1))

    def project(self, theta: Float) -> Float:
        """Any; only differences matter, so the mean is taken off."""
        return np.asarray(theta - theta.mean(axis=1, keepdims=True))

    def name(self, counts: Float, sums: Float) -> Int:
        """The arm of the greatest mean answer."""
        return np.asarray((sums / np.maximum(counts, 1.0)).argmax(axis=1))


@dataclass(frozen=True)
class Thresholds:
    """Where along n items the answers turn from minus to plus.

    Parameters
    ----------
    arms, labels : int
        Items >= 2, answers >= 1.
    """

    arms: int
    labels: int

    def __post_init__(self) -> None:
        _check.integer("thresholds.arms", self.arms, low=2)
        _check.integer("thresholds.labels", self.labels, low=1)

    @property
    def hypotheses(self) -> Float:
        """Plus from item k on, minus before, for k = 0 .. n - 1."""
        place = np.arange(self.arms)
        return np.where(place[None, :] >= place[:, None], 1.0, -1.0)

    @property
    def reads(self) -> tuple[int, int]:
        """All counts, sums and agreements of the answers with each hypothesis; a score an item."""
        return 3 * self.arms + 1, self.arms

    def states(self, counts: Float, sums: Float) -> Float:
        """One row a game."""
        agree = sums @ self.hypotheses.T
        agree = (agree - agree.max(axis=1, keepdims=True)) / math.sqrt(self.labels)
        left = 1.0 - counts.sum(axis=1, keepdims=True) / self.labels
        return np.hstack([counts, sums / 2.0, agree, left])

    def draw(self, p: int, rng: Generator) -> Float:
        """Steps with noise, each place as often as another."""
        step = self.hypotheses[rng.permutation(np.arange(p) % self.arms)]
        return self.project(step + 0.4 * rng.standard_normal(step.shape))

    def project(self, theta: Float) -> Float:
        """Signs of one hypothesis, and sizes within a factor of two of their mean."""
        step = self.hypotheses[(theta @ self.hypotheses.T).argmax(axis=1)]
        size = np.maximum(theta * step, 0.0)
        mean = np.maximum(size.mean(axis=1, keepdims=True), 1e-9)
        return np.asarray(step * np.clip(size, 0.5 * mean, 2.0 * mean))

    def name(self, counts: Float, sums: Float) -> Int:
        """The hypothesis that the answers agree with most."""
        return np.asarray((sums @ self.hypotheses.T).argmax(axis=1))


def complexity(theta: Float, hypotheses: Float, *, rounds: int = 60) -> Float:
    """C (p,) of thetas (p, N): see the module. Infinite where the best hypothesis is tied.

    The minimum over lambda is taken by multiplicative weights on the rivals: for weights q the
    best lambda is proportional to sqrt(sum_z q_z (z - z*)^2 / gap_z^2). What is returned is the
    value at the best lambda met, so never below C.
    """
    values = theta @ hypotheses.T
    best = values.argmax(axis=1)
    away = (hypotheses[None] - hypotheses[best][:, None]) ** 2  # (p, h, N)
    gap = values[np.arange(len(theta)), best][:, None] - values
    rival = away.sum(axis=2) > 0
    tied = (rival & (gap <= 1e-9)).any(axis=1)
    hard = np.where(rival, 1.0 / np.maximum(gap, 1e-9) ** 2, 0.0)
    weight = hard * rival
    weight = weight / np.maximum(weight.sum(axis=1, keepdims=True), 1e-300)
    found = np.full(len(theta), np.inf)
    for step in range(rounds):
        lam = np.sqrt(np.einsum("ph,phn->pn", weight * hard, away)) + 1e-9
        lam /= lam.sum(axis=1, keepdims=True)
        each = np.einsum("phn,pn->ph", away, 1.0 / lam) * hard
        top = each.max(axis=1)
        found = np.minimum(found, top)
        rise = each / np.maximum(top, 1e-300)[:, None]
        weight = weight * np.exp(4.0 / math.sqrt(step + 1) * (rise - 1.0))
        weight /= np.maximum(weight.sum(axis=1, keepdims=True), 1e-300)
    return np.where(tied, np.inf, found)


def scaled(theta: Float, level: float, hypotheses: Float, *, exact: bool = False) -> Float:
    """Thetas (p, N) made easy enough: those of C > `level` scaled up to it (`exact`: all)."""
    hard = complexity(theta, hypotheses)
    factor = np.sqrt(np.where(np.isfinite(hard), hard, 1e12) / level)
    return np.asarray(theta * (factor if exact else np.maximum(factor, 1.0))[:, None])


class Asker(Protocol):
    """A rule of queries over many games at once."""

    def choose(self, counts: Float, sums: Float, t: int, rng: Generator) -> Int:
        """What to ask next, (b,), given counts and sums (b, N) of t answers."""
        ...


@dataclass(frozen=True)
class Uniform:
    """Everything in turn, in an order of its own in each game."""

    def choose(self, counts: Float, sums: Float, t: int, rng: Generator) -> Int:
        """One of those least asked about."""
        return np.asarray((counts + rng.random(counts.shape)).argmin(axis=1))


@dataclass(frozen=True)
class Halving:
    """Sequential halving of arms: rounds of equal answers, and half the arms out after each.

    Source: Karnin, Koren and Somekh, "Almost Optimal Exploration in Multi-Armed Bandits", 2013,
    algorithm 1; answers of earlier rounds are kept.

    Parameters
    ----------
    labels : int
        Answers in all, >= 1.
    """

    labels: int

    def choose(self, counts: Float, sums: Float, t: int, rng: Generator) -> Int:
        """One of the least asked about among those still in."""
        arms = counts.shape[1]
        rounds = max(1, math.ceil(math.log2(arms)))
        stage = min(rounds - 1, t * rounds // self.labels)
        kept = arms
        for _ in range(stage):
            kept = math.ceil(kept / 2)
        mean = sums / np.maximum(counts, 1.0)
        order = np.argsort(-mean + 1e-9 * rng.random(mean.shape), axis=1)
        # an arm that is out has few answers; it stays out because those ahead have more
        alive = np.zeros(counts.shape, dtype=np.bool_)
        np.put_along_axis(alive, order[:, :kept], True, axis=1)
        return np.asarray(np.where(alive, counts + rng.random(counts.shape), np.inf).argmin(axis=1))


@dataclass(frozen=True, eq=False)
class Learned:
    """A network that scores what to ask; drawn by the softmax of its scores.

    Parameters
    ----------
    game : Game
    network : QNetwork
    """

    game: Game
    network: QNetwork

    def chances(self, counts: Float, sums: Float) -> Float:
        """Chance (b, N) of asking each."""
        b, arms = counts.shape
        scores = self.network.values(self.game.states(counts, sums)).reshape(b, arms)
        scores = np.exp(scores - scores.max(axis=1, keepdims=True))
        return np.asarray(scores / scores.sum(axis=1, keepdims=True))

    def choose(self, counts: Float, sums: Float, t: int, rng: Generator) -> Int:
        """Drawn by the chances; arms never asked about come first where all are alike."""
        chance = self.chances(counts, sums)
        if isinstance(self.game, BestArm):
            fresh = counts == 0
            some = fresh.any(axis=1, keepdims=True)
            chance = np.where(some, fresh / np.maximum(fresh.sum(axis=1, keepdims=True), 1), chance)
        ladder = chance.cumsum(axis=1)
        return np.asarray((ladder < rng.random((len(chance), 1)) * ladder[:, -1:]).sum(axis=1))


@dataclass(frozen=True, eq=False)
class _Played:
    """b games: what was seen before each question, what was asked, and how they ended."""

    counts: Float  # (T, b, N)
    sums: Float
    asked: Int  # (T, b)
    wrong: Float  # (b,)
    score: Float  # (b, N): derivative of the answers' log-likelihood in theta


def play(asker: Asker, theta: Float, game: Game, rng: Generator) -> _Played:
    """One game for each row of theta (b, N)."""
    b, arms = theta.shape
    counts, sums, score = (np.zeros((b, arms)) for _ in range(3))
    rows = np.arange(b)
    before, heard, asked = [], [], []
    for t in range(game.labels):
        before.append(counts.copy())
        heard.append(sums.copy())
        i = asker.choose(counts, sums, t, rng)
        noise = rng.standard_normal(b)
        counts[rows, i] += 1.0
        sums[rows, i] += theta[rows, i] + noise
        score[rows, i] += noise
        asked.append(i)
    right = (theta @ game.hypotheses.T).argmax(axis=1)
    wrong = game.name(counts, sums) != right
    return _Played(
        np.array(before), np.array(heard), np.array(asked), wrong.astype(np.float64), score
    )


@dataclass(frozen=True, kw_only=True)
class Learning:
    """How to train.

    Parameters
    ----------
    levels : tuple of float
        r_1 < ... < r_K, each > 0.
    steps : int
        Updates for each level, and twice as many in the end; >= 1.
    particles, rollouts : int
        Thetas of an adversary, and games a theta and update; each >= 2.
    width : int
        Units of each hidden layer, >= 1.
    rate, rate_theta, rate_w : float
        Step sizes of the policy, of the particles and of their weights; each > 0.
    """

    levels: tuple[float, ...]
    steps: int = 150
    particles: int = 32
    rollouts: int = 8
    width: int = 32
    rate: float = 3e-3
    rate_theta: float = 0.05
    rate_w: float = 0.3

    def __post_init__(self) -> None:
        levels = tuple(_check.number("learning.levels", r, low=1e-9) for r in self.levels)
        if not levels or any(a >= b for a, b in itertools.pairwise(levels)):
            hint = "Such as (2.0, 8.0, 32.0)."
            raise InputError("learning.levels", "hold one or more rising numbers", levels, hint)
        object.__setattr__(self, "levels", levels)
        for name in ("steps", "width"):
            _check.integer(f"learning.{name}", getattr(self, name), low=1)
        for name in ("particles", "rollouts"):
            _check.integer(f"learning.{name}", getattr(self, name), low=2)
        for name in ("rate", "rate_theta", "rate_w"):
            _check.number(f"learning.{name}", getattr(self, name), low=1e-9)


class _Adversary:
    """Particles of one level and their weights."""

    def __init__(self, game: Game, level: float, learning: Learning, rng: Generator) -> None:
        self.game, self.level, self.learning, self.rng = game, level, learning, rng
        self.theta = self._fresh(learning.particles)
        self.w = np.zeros(learning.particles)
        self.harm = np.zeros(learning.particles)

    def _fresh(self, p: int) -> Float:
        return scaled(self.game.draw(p, self.rng), self.level, self.game.hypotheses, exact=True)

    @property
    def mix(self) -> Float:
        """Weights, each at least a hundredth of the even one, so that none is lost."""
        chance = np.exp(self.w - self.w.max())
        return np.asarray(0.99 * chance / chance.sum() + 0.01 / len(chance))

    @property
    def worst(self) -> float:
        """Loss under the weights."""
        return float(self.mix @ self.harm)

    def answer(self, wrong: Float, score: Float, step: int) -> None:
        """Climb: wrong (p, s) and score (p, s, N) of s games a particle."""
        mean = wrong.mean(axis=1)
        self.harm = mean if step == 0 else 0.8 * self.harm + 0.2 * mean
        slope = ((wrong - mean[:, None])[:, :, None] * score).mean(axis=1)
        size = np.sqrt((slope**2).mean(axis=1, keepdims=True)) + 1e-3
        moved = self.game.project(self.theta + self.learning.rate_theta * slope / size)
        hard = complexity(moved, self.game.hypotheses, rounds=20)
        # a step that all but ties two hypotheses would be scaled without end: it is not taken
        near = hard <= 4.0 * self.level
        factor = np.sqrt(np.maximum(np.where(near, hard, 0.0) / self.level, 1.0))
        self.theta = np.where(near[:, None], moved * factor[:, None], self.theta)
        self.w = 0.98 * self.w + self.learning.rate_w * (mean - mean.mean())
        if step % 10 == 9:
            # the last theta for which a hypothesis is right is kept: what no particle stands for,
            # the policy would give up
            right = (self.theta @ self.game.hypotheses.T).argmax(axis=1)
            spare = np.bincount(right)[right] > 1
            least = int(np.where(spare, self.harm, np.inf).argmin())
            self.theta[least] = self._fresh(1)[0]
            self.w[least], self.harm[least] = float(self.w.mean()), float(self.harm.mean())


@dataclass(frozen=True, eq=False)
class Minimax:
    """What training gives.

    Parameters
    ----------
    policy : Learned
        The one that is nearly as good as each of the others at its level.
    each : tuple of Learned
        The policies of the levels.
    worst : tuple of float
        Their losses against their adversaries.
    """

    policy: Learned
    each: tuple[Learned, ...]
    worst: tuple[float, ...]


def learn(game: Game, learning: Learning, *, rng: Generator) -> Minimax:
    """Train a policy for each level, then the one against the worst gap ("MAPO").

    Parameters
    ----------
    game : Game
    learning : Learning
    rng : Generator
    """
    d, out = game.reads
    network = new_network(d, out, learning.width, rng=rng)
    each, worst, adversaries = [], [], []
    for level in learning.levels:
        network = network.copy()
        adversary = _Adversary(game, level, learning, rng)
        _train(network, game, [adversary], [0.0], learning.steps, learning, rng)
        each.append(Learned(game, network))
        worst.append(adversary.worst)
        adversaries.append(_Adversary(game, level, learning, rng))
    last = each[len(each) // 2].network.copy()
    _train(last, game, adversaries, worst, 2 * learning.steps, learning, rng)
    return Minimax(Learned(game, last), tuple(each), tuple(worst))


def _train(
    network: QNetwork,
    game: Game,
    adversaries: Sequence[_Adversary],
    known: Sequence[float],
    steps: int,
    learning: Learning,
    rng: Generator,
) -> None:
    """Descend on max_k (loss of adversary k - known_k), and end at the mean of the last third."""
    adam = Adam(list(network.weights), rate=learning.rate)
    asker = Learned(game, network)
    p, s = learning.particles, learning.rollouts
    mean = [np.zeros_like(weight) for weight in network.weights]
    late = steps - max(1, steps // 3)
    tilt = np.zeros(len(adversaries))
    for step in range(steps):
        theta = np.concatenate([np.repeat(a.theta, s, axis=0) for a in adversaries])
        games = play(asker, theta, game, rng)
        wrong = games.wrong.reshape(len(adversaries), p, s)
        score = games.score.reshape(len(adversaries), p, s, -1)
        chance = np.exp(tilt - tilt.max())
        chance /= chance.sum()
        weight = [c * np.repeat(a.mix, s) / s for c, a in zip(chance, adversaries, strict=True)]
        gain = (wrong - wrong.mean(axis=2, keepdims=True)).reshape(-1) * np.concatenate(weight)
        adam.step(_slopes(asker, games, gain))
        for k, adversary in enumerate(adversaries):
            adversary.answer(wrong[k], score[k], step)
        gaps = np.array([a.worst - o for a, o in zip(adversaries, known, strict=True)])
        tilt = 0.95 * tilt + 2.0 * (gaps - gaps.mean())
        if step >= late:
            for total, array in zip(mean, network.weights, strict=True):
                total += array / (steps - late)
    # the game is no descent: the mean of late policies plays better than the last
    for total, array in zip(mean, network.weights, strict=True):
        array[...] = total


def _slopes(asker: Learned, games: _Played, gain: Float) -> list[Float]:
    """Gradient of the expected loss, `gain` (b,) being what each game adds to it."""
    t, b, arms = games.counts.shape
    counts, sums = games.counts.reshape(-1, arms), games.sums.reshape(-1, arms)
    error = asker.chances(counts, sums)
    error[np.arange(t * b), games.asked.reshape(-1)] -= 1.0
    error *= -np.tile(gain, t)[:, None]
    if isinstance(asker.game, BestArm):
        error[(counts == 0).any(axis=1)] = 0.0  # there the policy was not heard
    states = asker.game.states(counts, sums)
    return asker.network.slopes(states, error.reshape(len(states), -1))


def hardest(
    asker: Asker,
    game: Game,
    level: float,
    *,
    restarts: int = 64,
    steps: int = 30,
    rollouts: int = 16,
    games: int = 2000,
    rng: Generator,
) -> float:
    """Loss of a rule at the hardest theta of a level that a search of its own finds.

    Fresh particles climb as an adversary's do; the eight worst are then played anew, so that luck
    of the search is no loss of the rule.

    Parameters
    ----------
    asker : Asker
    game : Game
    level : float
    restarts, steps, rollouts, games : int
        Particles, steps they climb, games a particle and step, games of each of the last eight.
    rng : Generator
    """
    learning = Learning(levels=(level,), particles=restarts, rollouts=rollouts, rate_theta=0.1)
    adversary = _Adversary(game, level, learning, rng)
    for step in range(steps):
        # restarts are not drawn anew while they climb: step 9 of ten is left out
        found = play(asker, np.repeat(adversary.theta, rollouts, axis=0), game, rng)
        wrong = found.wrong.reshape(restarts, rollouts)
        adversary.answer(wrong, found.score.reshape(restarts, rollouts, -1), min(step, 8))
    last = np.argsort(-adversary.harm)[: min(8, restarts)]
    again = play(asker, np.repeat(adversary.theta[last], games, axis=0), game, rng)
    return float(again.wrong.reshape(len(last), games).mean(axis=1).max())
