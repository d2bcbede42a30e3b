"""Whether neighbouring tokens use the same experts: SRP and SCH.

Both are from "Not All Models Suit Expert Offloading: On Local Routing Consistency of
Mixture-of-Experts Models" (2025, arXiv:2505.16056). SRP asks how well one fixed set of experts
could serve a window of m tokens; SCH asks how often a cache that knows the next m tokens holds
the expert that is needed. Neither looks past the end of a request.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from turnout.bench.traces.pairs import multihot
from turnout.core import InputError
from turnout.core._check import Bool, Float, Int

__all__ = ["WINDOWS", "SegmentRouting", "cache_hits", "segment_routing"]

#: Window lengths of the publication, in tokens.
WINDOWS = (4, 16, 64, 256)

#: Most weights of a bootstrap held at once.
_WEIGHTS = 10_000_000

#: Bits of a cache's priority that hold the expert, and the time of its last use.
_EXPERT_BITS, _TIME_BITS = 16, 22


@dataclass(frozen=True, eq=False, kw_only=True)
class SegmentRouting:
    """Segment routing best performance for one window length.

    Parameters
    ----------
    m : int
        Tokens in a window.
    windows : int
        Windows counted in a layer; where there are none, every figure is NaN.
    value, low, high : float
        SRP of the whole model (one threshold for all layers), and its 95 % interval over
        requests; NaN ends where there is one request only.
    by_layer : array (l,)
        SRP of each layer by its own threshold.
    size : float
        Experts in the best fixed sets over experts in use, `preds / acts` at the optimum.
    """

    m: int
    windows: int
    value: float
    low: float
    high: float
    by_layer: Float
    size: float


def segment_routing(
    experts: NDArray[np.integer],
    e: int,
    requests: Int,
    *,
    windows: tuple[int, ...] = WINDOWS,
    resamples: int = 1000,
    rng: np.random.Generator,
    tick: Callable[[int, int], None] | None = None,
) -> list[SegmentRouting]:
    """SRP(m): the best F1 of a fixed set of experts for a window of m tokens.

    Let c be the tokens of a window that use an expert, and n_c how many pairs of a window
    (sliding by one token) and an expert have c. Calling an expert active for the whole window
    where c >= theta, over all pairs

    ::

        matches = sum_{c >= theta} c n_c      preds = m sum_{c >= theta} n_c
        acts    = sum_c c n_c                 F1 = 2 matches / (preds + acts)
        SRP     = max_theta F1

    (section 3 of arXiv:2505.16056). 1 = every window keeps to one set. A router that draws k of
    e evenly for each token falls with m towards `2 k / (k + e)`, which calling all of them
    active gives. The interval is the basic bootstrap over whole requests, as there.

    Parameters
    ----------
    experts : integer array (t, l, k)
        -1 = no choice; an expert that a token names twice counts once.
    e : int
    requests : int array (r + 1,)
        Token offsets of the requests; a window never leaves its own.
    windows : tuple of int
        Window lengths, in tokens.
    resamples : int
        Bootstrap samples; 0 = no interval.
    rng : numpy Generator
        Draws the bootstrap samples.
    tick : callable, optional
        Told how many layers of how many are done.

    Returns
    -------
    list of SegmentRouting
        One for each window length.
    """
    t, layers, _ = experts.shape
    lengths = np.diff(requests)
    owner = np.repeat(np.arange(len(lengths)), lengths)
    left = requests[1:][owner] - np.arange(t)
    # found[m][l] counts (request, c).
    found = {m: np.zeros((layers, len(lengths), m + 1), dtype=np.int64) for m in windows}
    for layer in range(layers):
        used = multihot(experts[:, layer], e)
        total = np.zeros((t + 1, e), dtype=np.int32)
        np.cumsum(used, axis=0, dtype=np.int32, out=total[1:])
        for m in windows:
            starts = np.flatnonzero(left >= m)
            inside = total[starts + m] - total[starts]
            inside += (owner[starts] * (m + 1)).astype(np.int32)[:, None]
            tally = np.bincount(inside.ravel(), minlength=len(lengths) * (m + 1))
            found[m][layer] = tally.reshape(len(lengths), m + 1)
        if tick is not None:
            tick(layer + 1, layers)
    return [_segment(m, found[m], e, resamples, rng) for m in windows]


def _segment(
    m: int, tally: Int, e: int, resamples: int, rng: np.random.Generator
) -> SegmentRouting:
    layers = len(tally)
    pooled = tally.sum(axis=0)
    score, sizes = _f1(pooled.sum(axis=0))
    best = int(np.argmax(score))
    with_windows = pooled[pooled.sum(axis=1) > 0]
    low = high = math.nan
    if resamples and len(with_windows) > 1:
        drawn = _resampled(with_windows, resamples, rng)
        # Basic (reverse percentile) interval.
        upper, lower = np.quantile(drawn, [0.975, 0.025])
        low, high = 2 * score[best] - upper, 2 * score[best] - lower
    return SegmentRouting(
        m=m,
        windows=int(pooled.sum()) // (layers * e),
        value=float(score[best]),
        low=float(low),
        high=float(high),
        by_layer=_f1(tally.sum(axis=1))[0].max(axis=-1),
        size=float(sizes[best]),
    )


def _f1(tally: NDArray[np.generic]) -> tuple[Float, Float]:
    """F1 and preds / acts for every threshold, from n_c (..., m + 1)."""
    n = tally.astype(np.float64)
    m = n.shape[-1] - 1
    c = np.arange(m + 1)
    matches = np.cumsum((c * n)[..., ::-1], axis=-1)[..., ::-1]
    preds = m * np.cumsum(n[..., ::-1], axis=-1)[..., ::-1]
    acts = matches[..., :1]
    both = preds + acts
    blank = np.full(both.shape, np.nan)
    score = np.divide(2 * matches, both, out=blank, where=both > 0)
    # Where no window was counted there is nothing to score; elsewhere 0 predictions score 0.
    empty = n.sum(axis=-1, keepdims=True) == 0
    score = np.where(empty, np.nan, np.nan_to_num(score))
    size = np.divide(preds, acts, out=np.full(preds.shape, np.nan), where=acts > 0)
    return score, size


def _resampled(tally: Int, resamples: int, rng: np.random.Generator) -> Float:
    requests = len(tally)
    best = []
    step = max(1, _WEIGHTS // requests)
    for start in range(0, resamples, step):
        draws = min(step, resamples - start)
        weights = rng.multinomial(requests, np.full(requests, 1 / requests), size=draws)
        best.append(_f1(weights.astype(np.float64) @ tally.astype(np.float64))[0].max(axis=-1))
    return np.concatenate(best)


def cache_hits(
    experts: NDArray[np.integer],
    e: int,
    requests: Int,
    m: int,
    *,
    tick: Callable[[int, int], None] | None = None,
) -> Float:
    """SCH(m, c): hit rate of a cache of c experts a layer that knows the next m tokens.

    At each token the experts it needs are looked up; then each of them, in order of its slot, is
    brought in, and the expert that the coming m tokens use least (of equals the one used longest
    ago) makes way. A first use counts as a hit while the cache has a free place, so that the
    rate reaches 1 at c = e. m = 0 knows nothing and is the plain cache that forgets what was
    used longest ago (LRU). Section 3 of arXiv:2505.16056; each layer has its own cache, and a
    cache starts empty with each request.

    The cache knows how often each expert is used in the window, not when, so that it is no
    upper bound: where routes change within the window it falls below LRU.

    All sizes at once, by the stack of Mattson et al., "Evaluation techniques for storage
    hierarchies" (1970, doi:10.1147/sj.92.0078): the experts stand in a stack whose first c are
    what a cache of c holds. A use of the expert at depth d puts it on top; above d, walking
    down, the expert of lower priority of the one carried and the one met is carried on. All
    requests and layers walk together. Time grows as tokens x l x k x e.

    Parameters
    ----------
    experts : integer array (t, l, k)
        -1 = no choice.
    e : int
    requests : int array (r + 1,)
        Token offsets of the requests.
    m : int
        Tokens known ahead, >= 0.
    tick : callable, optional
        Told how many steps of how many are done.

    Returns
    -------
    array (l, e)
        Hit rate for caches of 1 to e experts; NaN in a layer without choices.

    Raises
    ------
    InputError
        m is negative, or a request or e is too long for the counters.
    """
    layers, k = experts.shape[1:]
    order = np.argsort(-np.diff(requests), kind="stable")
    lengths = np.diff(requests)[order]
    longest = int(lengths[0]) if len(lengths) else 0
    if m < 0:
        raise InputError("m", "be >= 0", m, "0 is the cache that knows nothing.")
    if e >= (1 << _EXPERT_BITS) - 1:
        hint = "Leave experts out."
        raise InputError("e", f"be < {(1 << _EXPERT_BITS) - 1}", e, hint)
    if longest * k >= 1 << _TIME_BITS:
        hint = "Cut the requests shorter."
        raise InputError("longest request x k", f"be < {1 << _TIME_BITS}", longest * k, hint)
    padded = np.full((longest, len(lengths), layers, k), -1, dtype=np.int64)
    for place, request in enumerate(order):
        padded[: lengths[place], place] = experts[requests[request] : requests[request + 1]]
    needed = padded.reshape(longest, len(lengths) * layers, k)
    for slot in range(1, k):  # an expert that a token names twice is needed once
        again = (needed[:, :, :slot] == needed[:, :, slot : slot + 1]).any(axis=2)
        needed[:, :, slot][again] = -1
    # Requests are in falling order of length, so the ones still running come first.
    running = (lengths[None, :] > np.arange(longest)[:, None]).sum(axis=1) * layers
    stacks = _Stacks(needed.shape[1], e)
    for step in range(min(m, longest)):
        stacks.expect(needed[step])
    for step in range(longest):
        stacks.use(needed[step, : running[step]])
        if m and step + m < longest:
            stacks.expect(needed[step + m])
        if tick is not None and step % 16 == 15:
            tick(step + 1, longest)
    hits = stacks.hits.reshape(len(lengths), layers, e).sum(axis=0)
    used = hits.sum(axis=1, keepdims=True)
    rate = np.cumsum(hits, axis=1) / np.maximum(used, 1)
    return np.where(used > 0, rate, np.nan)


class _Stacks:
    """One priority stack for each of s pairs of request and layer, as keys (s, e).

    A key packs the coming uses of an expert, the time of its last use and its number, in this
    order, so that comparing two keys compares priorities and no second look is needed. An empty
    place is above all keys.
    """

    def __init__(self, s: int, e: int) -> None:
        self.unit = 1 << (_EXPERT_BITS + _TIME_BITS)
        self.number = (1 << _EXPERT_BITS) - 1
        self.keys = np.full((s, e), np.iinfo(np.int64).max)
        self.ahead = np.zeros((s, e), dtype=np.int64)
        self.seen = np.zeros(s, dtype=np.int64)
        self.hits = np.zeros((s, e), dtype=np.int64)
        self.place = np.arange(1, e)[None, :]
        self.clock = 0

    def _find(self, needed: Int) -> tuple[Int, Bool]:
        """Depth (s, k) of each expert in its stack, and whether it is there."""
        numbers = self.keys[: len(needed)] & self.number
        same = numbers[:, None, :] == needed[:, :, None]
        depth = same.argmax(axis=2)
        return depth, np.take_along_axis(same, depth[:, :, None], axis=2)[:, :, 0]

    def expect(self, needed: Int) -> None:
        """One more coming use of each expert in `needed` (s, k), all different or -1."""
        depth, there = self._find(needed)
        rows, slots = np.nonzero(there)
        self.keys[rows, depth[rows, slots]] += self.unit
        rows, slots = np.nonzero(needed >= 0)
        self.ahead[rows, needed[rows, slots]] += 1

    def use(self, needed: Int) -> None:
        """Look the experts of one token up, then bring them in."""
        depth, there = self._find(needed)
        fresh = ~there & (needed >= 0)
        free = self.seen[: len(needed), None] + np.cumsum(fresh, axis=1) - fresh
        depth = np.where(there, depth, free)
        rows, slots = np.nonzero(needed >= 0)
        # Two experts of a token never stand at one depth, so adding by index counts each.
        self.hits[rows, depth[rows, slots]] += 1
        for slot in range(needed.shape[1]):
            rows = np.flatnonzero(needed[:, slot] >= 0)
            if len(rows):
                self._bring_in(rows, needed[rows, slot])

    def _bring_in(self, rows: Int, expert: Int) -> None:
        everyone = len(rows) == len(self.keys)
        keys = self.keys if everyone else self.keys[rows]
        row = np.arange(len(rows))
        same = (keys & self.number) == expert[:, None]
        at = same.argmax(axis=1)
        there = same[row, at]
        at = np.where(there, at, self.seen[rows])
        least = np.minimum.accumulate(keys, axis=1)
        moves = (keys[:, 1:] == least[:, 1:]) & (self.place < at[:, None])
        carried = np.where(at > 0, least[row, at - 1], 0)
        np.copyto(keys[:, 1:], least[:, :-1], where=moves)
        keys[row, at] = carried
        self.clock += 1
        self.ahead[rows, expert] = ahead = np.maximum(self.ahead[rows, expert] - 1, 0)
        keys[:, 0] = ahead * self.unit + (self.clock << _EXPERT_BITS) + expert
        if not everyone:
            self.keys[rows] = keys
        self.seen[rows] += ~there
