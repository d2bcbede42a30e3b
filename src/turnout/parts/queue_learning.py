"""Learns whom to send requests to by playing with simulated queues.

Episodes of `turnout.parts.queues` at rates of arrival between two loads, a state at each arrival,
a reward once a request has ended, and `turnout.parts.qlearning` in between. A transition goes to
the learner only when its request has ended and the state of the next arrival is known; at the end
of an episode the queues run empty, so that no request is left out for being slow.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from turnout.core import Outcomes
from turnout.core._check import Float
from turnout.parts.qlearning import DoubleQ, QNetwork, new_network
from turnout.parts.queues import Arrivals, Queues, Servers, bursts

__all__ = ["Play", "at_rest", "train"]

_EPISODE = 2000  # requests between two empty systems
_HOLD = 150.0  # requests between changes of the rate
_LEVELS = 8
_EVERY = 4  # requests a step
_END = 0.05  # share of random choices in the end


@dataclass(frozen=True, kw_only=True)
class Play:
    """How to play and learn.

    Parameters
    ----------
    deadline, soft : float
        Seconds: when an answer is late, and how fast it then loses worth (0 = at once).
    gamma, rate : float
        Worth of the next value in [0, 1), and step size.
    requests, width : int
        Requests played, units of a hidden layer.
    explore : float
        Share of the requests over which random choices become rare.
    loads : tuple of float
        Lowest and highest rate, as shares of what all servers carry together.
    arrivals : tuple of float
        Recorded times to replay; () = drawn.
    """

    deadline: float
    soft: float
    gamma: float
    requests: int
    width: int
    rate: float
    explore: float
    loads: tuple[float, float]
    arrivals: tuple[float, ...]


def at_rest(outcomes: Outcomes) -> Float:
    """Seconds of each answer at rest, (n, m), all above zero; by cost where none were measured."""
    seconds = outcomes.latency
    if seconds is None or bool(np.isnan(seconds).all(axis=0).any()):
        seconds = outcomes.cost
        top = float(outcomes.mean_cost().max())
        seconds = seconds / top if top > 0 else np.ones_like(seconds)
    seen = ~np.isnan(seconds)
    count = seen.sum(axis=0)
    total = np.where(seen, seconds, 0.0).sum(axis=0)
    mean = np.where(count > 0, total / np.maximum(count, 1), 1.0)
    return np.maximum(np.where(seen, seconds, mean), 1e-9 * max(float(mean.max()), 1e-9))


def train(quality: Float, work: Float, servers: Servers, play: Play, *, rng: Generator) -> QNetwork:
    """The network of a policy that has played.

    Parameters
    ----------
    quality : array (n, m)
        Expected quality of each answer, which is also what the policy sees of a request.
    work : array (n, m)
        Seconds of each answer at rest, > 0.
    servers : Servers
    play : Play
    rng : Generator

    Returns
    -------
    QNetwork
        States (2 m + 1,): qualities, in flight over slots (at most 4), log(1 + rate * work).
    """
    m = servers.m
    network = new_network(2 * m + 1, m, play.width, base=True, rng=rng)
    learner = DoubleQ(network, gamma=play.gamma, rate=play.rate, rng=rng)
    carried = float((servers.capacity / work.mean(axis=0)).sum())  # requests a second, all busy
    low, high = play.loads
    levels = carried * np.geomspace(low, high, _LEVELS)
    done = 0
    while done < play.requests:
        k = min(_EPISODE, play.requests - done)
        times = _times(k, levels, play.arrivals, rng)
        rows = rng.integers(len(quality), size=k)
        _episode(learner, quality[rows], work[rows], times, servers, play, done, rng)
        done += k
    return network


def _times(k: int, levels: Float, recorded: tuple[float, ...], rng: Generator) -> Float:
    """Arrivals of one episode: drawn, or a stretch of the record at a speed drawn for it."""
    if not recorded:
        return bursts(k, levels, _HOLD, rng=rng)
    gaps = np.diff(np.asarray(recorded))
    stretch = gaps[(int(rng.integers(len(gaps))) + np.arange(k)) % len(gaps)]
    wanted = math.exp(rng.uniform(math.log(levels[0]), math.log(levels[-1])))
    # the speed is set by the whole record: a busy stretch stays busier than a quiet one
    return np.asarray(np.cumsum(stretch / (gaps.mean() * wanted)))


def _episode(
    learner: DoubleQ,
    quality: Float,
    work: Float,
    times: Float,
    servers: Servers,
    play: Play,
    before: int,
    rng: Generator,
) -> None:
    """Play a stream from empty queues to empty queues, learning as requests end."""
    k, m = quality.shape
    queues, lately = Queues(servers), Arrivals(play.deadline)
    mean = float(work.mean())
    slots = servers.slots.astype(np.float64)
    states = np.empty((k, 2 * m + 1))
    states[:, :m] = quality
    action = np.zeros(k, dtype=np.int64)
    reward = np.full(k, np.nan)
    fall = play.explore * play.requests
    random = rng.random(k) < np.maximum(1.0 - (1.0 - _END) * (before + np.arange(k)) / fall, _END)
    anyone = np.array(rng.integers(m, size=k), dtype=np.int64)
    at = times.tolist()

    def settle(who: int, end: float, known: int) -> None:
        """The reward of a request that ended; learned if the state after it is known already."""
        late = end - at[who] - play.deadline
        worth = 1.0 if late <= 0 else math.exp(-late / play.soft) if play.soft > 0 else 0.0
        reward[who] = worth * quality[who, action[who]]
        if who < known:
            learner.add(states[who], int(action[who]), float(reward[who]), states[who + 1])

    for i in range(k):
        now = at[i]
        for who, end in queues.advance(now):
            settle(who, end, i - 1)
        state = states[i]
        state[m : 2 * m] = np.minimum(np.array(queues.in_flight) / slots, 4.0)
        state[2 * m] = math.log1p(lately.rate(now) * mean)
        lately.came(now)
        if i > 0 and not math.isnan(reward[i - 1]):  # it ended before this one came
            learner.add(states[i - 1], int(action[i - 1]), float(reward[i - 1]), state)
        j = int(anyone[i]) if random[i] else int(learner.network.values(state).argmax())
        action[i] = j
        queues.submit(i, j, float(work[i, j]))
        if i % _EVERY == 0:
            learner.step()
    for who, end in queues.advance(math.inf):
        settle(who, end, k - 1)
