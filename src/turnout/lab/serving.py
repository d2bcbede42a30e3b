"""Serving in the laboratory: real arrivals, measured models, and rules to hold a policy against.

The queues are those of `turnout.parts.queues`. This module brings what they are fed with: recorded
traces of real services (`read_trace`), the step times of the models here, measured at several batch
sizes (`measure`), the rules of the literature that a learned policy must beat (`always`,
`quickest`, `best_in_time`, `lookahead`), and how a run is judged (`score`).

Late is worth nothing, and every request counts: what was never answered in time is a zero and not
left out. A rule sees the past and the counts in flight; `lookahead` alone sees what is to come,
and is an upper reference and no contestant.

Examples
--------
>>> import numpy as np
>>> from turnout.parts.queues import Servers, serve
>>> servers = Servers(slope=np.array([0.1, 1.0]), slots=np.array([8, 8]))
>>> work = np.tile([0.2, 1.0], (4, 1))
>>> rule = best_in_time(np.tile([0.6, 0.9], (4, 1)), work.mean(axis=0), deadline=2.5)
>>> serve(np.zeros(4), work, servers, rule).choice.tolist()
[1, 1, 0, 0]
"""

from __future__ import annotations

import csv
import gzip
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from time import perf_counter
from typing import Protocol, TypeAlias

import numpy as np
from numpy.random import Generator

from turnout.core import DataError, InputError, Inputs, _check
from turnout.core._check import Float, Int
from turnout.lab.model import LanguageModel
from turnout.parts.queues import Arrivals, Load, Queues, Served

__all__ = [
    "LoadPolicy",
    "Rule",
    "Score",
    "Trace",
    "always",
    "at_random",
    "best_in_time",
    "by_policy",
    "lookahead",
    "measure",
    "quickest",
    "read_trace",
    "score",
]

#: Where request i goes at a time, given the queues: `rule(i, at, queues)`.
Rule: TypeAlias = Callable[[int, float, Queues], int]


@dataclass(frozen=True, eq=False)
class Trace:
    """Requests that a real service received.

    Parameters
    ----------
    arrival : array (n,)
        Seconds since the first, not decreasing.
    read, written : array of int (n,)
        Tokens of the request and of the answer.
    """

    arrival: Float
    read: Int
    written: Int

    @property
    def n(self) -> int:
        """Number of requests."""
        return len(self.arrival)

    def take(self, start: int, stop: int) -> Trace:
        """A stretch of it, with its own beginning of time."""
        part = slice(start, stop)
        return Trace(self.arrival[part] - self.arrival[start], self.read[part], self.written[part])

    def at_rate(self, rate: float) -> Trace:
        """The same requests at another mean rate, in requests a second: time runs faster."""
        rate = _check.number("rate", rate, low=1e-12)
        own = (self.n - 1) / max(float(self.arrival[-1]), 1e-12)
        return Trace(self.arrival * (own / rate), self.read, self.written)


def read_trace(path: str | Path) -> Trace:
    """Read a trace of requests, packed by gzip or not.

    Known are the CSV of Azure's inference traces (TIMESTAMP, ContextTokens, GeneratedTokens) and
    the JSON lines of Mooncake's (timestamp in milliseconds, input_length, output_length).

    Raises
    ------
    DataError
        The file is of neither form, or holds less than two requests.
    """
    source = Path(path)
    opened = gzip.open if source.name.endswith(".gz") else open
    try:
        with opened(source, "rt", encoding="utf-8", newline="") as file:
            if ".jsonl" in source.name:
                rows = [json.loads(line) for line in file if line.strip()]
                found = [
                    (row["timestamp"] / 1000.0, row["input_length"], row["output_length"])
                    for row in rows
                ]
            else:
                found = [
                    (_seconds(row["TIMESTAMP"]), row["ContextTokens"], row["GeneratedTokens"])
                    for row in csv.DictReader(file)
                ]
        table = np.array(found, dtype=np.float64)
        if len(table) < 2:
            raise ValueError(f"{len(table)} requests")
    except (KeyError, ValueError, TypeError, OSError) as error:
        rule = "be a trace of requests in a known form"
        hint = f"{type(error).__name__}: {error}."
        raise DataError("trace", rule, str(source), hint) from error
    table = table[np.argsort(table[:, 0], kind="stable")]
    lengths = table[:, 1:].astype(np.int64)
    return Trace(table[:, 0] - table[0, 0], lengths[:, 0], lengths[:, 1])


def _seconds(stamp: str) -> float:
    """A time stamp with up to seven decimals of a second."""
    whole, _, part = stamp.partition(".")
    return datetime.fromisoformat(whole + "+00:00").timestamp() + float(f"0.{part or 0}")


def measure(
    model: LanguageModel,
    prompts: Sequence[str],
    *,
    batches: Sequence[int] = (1, 4, 16, 32),
    repeats: int = 3,
) -> tuple[float, float]:
    """Time a model at several batch sizes: seconds of an answer at rest, and the slope.

    A batch of b answers takes l(b); the slope of `turnout.parts.queues.Servers` is that of the line
    through the lone answer which is nearest to l(b) / l(1) - 1, in b - 1.

    Parameters
    ----------
    model : LanguageModel
    prompts : sequence of str
        Of similar length, as many as the largest batch or more.
    batches : sequence of int
        Sizes, 1 and another one or more.
    repeats : int
        The quickest of so many counts, >= 1.

    Returns
    -------
    seconds, slope : float
    """
    sizes = sorted({_check.integer("batches", size, low=1) for size in batches})
    if len(sizes) < 2 or sizes[0] != 1 or sizes[-1] > len(prompts):
        hint = "Pass more prompts, or other sizes."
        raise InputError("batches", f"be 1 and other sizes of at most {len(prompts)}", sizes, hint)
    repeats = _check.integer("repeats", repeats, low=1)
    least = []
    for size in sizes:
        taken = []
        for _ in range(repeats):
            start = perf_counter()
            model.generate(list(prompts[:size]))
            taken.append(perf_counter() - start)
        least.append(min(taken))
    more, slower = np.array(sizes) - 1.0, np.array(least) / least[0] - 1.0
    slope = float((more * slower).sum() / (more * more).sum())
    return least[0], float(np.clip(slope, 0.0, 1.0))


class LoadPolicy(Protocol):
    """A policy of the prompt and the load, such as `turnout.llms.best_effort` fits."""

    @property
    def window(self) -> float:
        """Seconds over which it wants arrivals counted."""
        ...

    def quality(self, inputs: Inputs) -> Float:
        """Quality (n, m) it expects whatever the load."""
        ...

    def delivered(self, quality: Float, load: Load) -> Float:
        """Quality delivered (n, m) of such prompts at a load."""
        ...


def by_policy(
    policy: LoadPolicy, inputs: Inputs, *, cost: Float | None = None, price: float = 0.0
) -> Rule:
    """The choice of a learned policy: `argmax_j delivered - price * cost`, as a gateway takes it.

    Parameters
    ----------
    policy : LoadPolicy
    inputs : n prompts
    cost : array (n, m), optional
        Expected costs, where there is a price.
    price : float
        Quality per unit of cost, >= 0.
    """
    quality = policy.quality(inputs)
    paid = np.zeros_like(quality) if cost is None else price * np.asarray(cost)
    lately = Arrivals(policy.window)

    def rule(i: int, at: float, queues: Queues) -> int:
        load = Load(np.array(queues.in_flight, dtype=np.float64), lately.rate(at))
        lately.came(at)
        return int((policy.delivered(quality[i : i + 1], load)[0] - paid[i]).argmax())

    return rule


def always(j: int) -> Rule:
    """Everything to one destination."""
    return lambda i, at, queues: j


def at_random(m: int, *, rng: Generator) -> Rule:
    """Anywhere, all alike."""
    return lambda i, at, queues: int(rng.integers(m))


def quickest(work: Float) -> Rule:
    """Where an answer of mean work (m,) is expected first; ties to the lower column."""
    mean = np.asarray(work, dtype=np.float64).tolist()
    return lambda i, at, queues: int(np.argmin([queues.wait(j, w) for j, w in enumerate(mean)]))


def best_in_time(quality: Float, work: Float, deadline: float) -> Rule:
    """The best destination that is expected to be in time, else the one expected first.

    The greedy rule. With the same qualities in every row it is "the largest model in time".

    Parameters
    ----------
    quality : array (n, m)
        Expected quality of each answer; ties to the lower column.
    work : array (m,)
        Mean seconds of an answer at rest.
    deadline : float
        Seconds, > 0.
    """
    mean = _check.floats("work", work, (None,), low=0.0).tolist()
    expected = _check.floats("quality", quality, (None, len(mean)))
    orders = np.argsort(-expected, axis=1, kind="stable").tolist()
    limit = _check.number("deadline", deadline, low=1e-12)
    fallback = quickest(work)

    def rule(i: int, at: float, queues: Queues) -> int:
        for j in orders[i]:
            if queues.wait(j, mean[j]) <= limit:
                return int(j)
        return fallback(i, at, queues)

    return rule


def lookahead(
    arrivals: Float, work: Float, worth: Float, deadline: float, then: Rule, *, ahead: int = 30
) -> Rule:
    """An upper reference that sees what is to come: the best of m trials of each choice.

    Each destination is tried on a copy of the queues, the next `ahead` requests, as they really
    come, following the rule `then`; the choice whose requests deliver most is taken. It looks one
    step deep, so that it is no bound.

    Parameters
    ----------
    arrivals : array (n,)
        Seconds since the first.
    work, worth : array (n, m)
        Seconds at rest, and what an answer in time is worth.
    deadline : float
    then : Rule
        Must remember nothing between calls.
    ahead : int
        Requests looked ahead, >= 0.
    """
    times = (np.asarray(arrivals) - arrivals[0]).tolist()
    cells, gains = np.asarray(work).tolist(), np.asarray(worth).tolist()

    def trial(i: int, j: int, queues: Queues) -> float:
        twin = queues.copy()
        chosen = {i: j}
        twin.submit(i, j, cells[i][j])
        total = 0.0
        last = min(i + ahead, len(times) - 1)

        def count(ended: list[tuple[int, float]]) -> float:
            return math.fsum(
                gains[who][chosen[who]]
                for who, when in ended
                if who in chosen and when - times[who] <= deadline
            )

        for k in range(i + 1, last + 1):
            total += count(twin.advance(times[k]))
            chosen[k] = then(k, times[k], twin)
            twin.submit(k, chosen[k], cells[k][chosen[k]])
        return total + count(twin.advance(times[last] + deadline))

    def rule(i: int, at: float, queues: Queues) -> int:
        m = len(cells[i])
        return int(np.argmax([trial(i, j, queues) for j in range(m)]))

    return rule


@dataclass(frozen=True)
class Score:
    """How a run went.

    Parameters
    ----------
    goodput : float
        Worth delivered in time, over the worth of the best single destination at rest.
    in_time : float
        Share of the requests answered by the deadline ("availability").
    above_96, above_98 : float
        Share of the windows that delivered at least so many hundredths of that worth.
    """

    goodput: float
    in_time: float
    above_96: float
    above_98: float


def score(served: Served, worth: Float, deadline: float, *, window: int = 50) -> Score:
    """Judge a run.

    Parameters
    ----------
    served : Served
        Of n requests.
    worth : array (n, m)
        What an answer in time is worth; the column of greatest mean is the peak.
    deadline : float
        Seconds, > 0.
    window : int
        Requests in a row that are judged together, >= 1.
    """
    window = _check.integer("window", window, low=1)
    n = len(served.seconds)
    worth = _check.floats("worth", worth, (n, None), low=0.0)
    timely = served.seconds <= _check.number("deadline", deadline, low=1e-12)
    got = np.where(timely, worth[np.arange(n), served.choice], 0.0)
    peak = worth[:, int(worth.mean(axis=0).argmax())]
    edges = np.arange(0, n, window)
    share = np.add.reduceat(got, edges) / np.maximum(np.add.reduceat(peak, edges), 1e-12)
    return Score(
        goodput=float(got.sum() / max(float(peak.sum()), 1e-12)),
        in_time=float(timely.mean()),
        above_96=float((share >= 0.96).mean()),
        above_98=float((share >= 0.98).mean()),
    )
