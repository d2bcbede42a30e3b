"""SRP and SCH: against their definitions written as loops, and published behaviour."""

from __future__ import annotations

import math
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnout.bench.traces import consistency
from turnout.bench.traces.consistency import cache_hits, segment_routing
from turnout.core import InputError


def srp(experts: np.ndarray, e: int, requests: list[int], m: int) -> float:
    """Every window, every threshold, as the definition says."""
    counts = []
    for start, end in pairwise(requests):
        for at in range(start, end - m + 1):
            for layer in range(experts.shape[1]):
                window = [set(row.tolist()) - {-1} for row in experts[at : at + m, layer]]
                counts += [sum(j in chosen for chosen in window) for j in range(e)]
    if not counts:
        return math.nan
    best = 0.0
    for theta in range(m + 1):
        matches = sum(c for c in counts if c >= theta)
        predictions = m * sum(c >= theta for c in counts)
        if predictions + sum(counts):
            best = max(best, 2 * matches / (predictions + sum(counts)))
    return best


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1))
def test_srp_is_its_definition(seed: int) -> None:
    """Sliding windows that stay in their request, pooled, at the best threshold."""
    rng = np.random.default_rng(seed)
    e, t, k = int(rng.integers(1, 5)), int(rng.integers(1, 25)), int(rng.integers(1, 4))
    experts = rng.integers(-1, e, (t, 2, k))
    requests = np.array([0, *np.sort(rng.integers(0, t + 1, 2)), t])
    for found in segment_routing(
        experts, e, requests, windows=(1, 3, 4), resamples=5, rng=np.random.default_rng(0)
    ):
        expected = srp(experts, e, requests.tolist(), found.m)
        assert found.value == pytest.approx(expected, nan_ok=True)
        assert found.windows == sum(max(n - found.m + 1, 0) for n in np.diff(requests))
        for layer, value in enumerate(found.by_layer):
            one = srp(experts[:, [layer]], e, requests.tolist(), found.m)
            assert value == pytest.approx(one, nan_ok=True)


@pytest.mark.parametrize(
    ("stay", "expected"),
    [(0.0, (0.464, 0.322, 0.254)), (0.8, (0.847, 0.604, 0.386)), (0.95, (0.959, 0.858, 0.639))],
)
def test_srp_of_sticky_routers(
    routers: SimpleNamespace, stay: float, expected: tuple[float, ...]
) -> None:
    """Known values for 4 of 32 experts kept with a probability; rises with it, falls with m."""
    experts = routers.sticky(12_000, stay)
    requests = np.arange(0, 12_001, 1000)
    rng = np.random.default_rng(0)
    found = segment_routing(experts, 32, requests, windows=(4, 16, 64), resamples=200, rng=rng)
    for row, value in zip(found, expected, strict=True):
        assert row.value == pytest.approx(value, abs=0.03)
        assert row.low <= row.value <= row.high
        assert row.high - row.low < 0.06


def test_the_interval_is_the_basic_bootstrap(routers: SimpleNamespace) -> None:
    """Whole requests are drawn anew; twice the value less the quantiles of what they give."""
    parts = [routers.even(30, 1, 2, 8), np.tile([[[1, 3]]], (50, 1, 1)), routers.even(20, 1, 1, 8)]
    parts[2] = np.pad(parts[2], ((0, 0), (0, 0), (0, 1)), constant_values=-1)
    experts, requests = np.concatenate(parts), np.array([0, 30, 80, 100])
    args: dict[str, Any] = {"windows": (4,), "rng": np.random.default_rng(9)}
    (found,) = segment_routing(experts, 8, requests, resamples=40, **args)
    drawn = []
    for weights in np.random.default_rng(9).multinomial(3, [1 / 3] * 3, size=40):
        chosen = [part for part, times in zip(parts, weights, strict=True) for _ in range(times)]
        offsets = np.cumsum([0, *map(len, chosen)])
        (one,) = segment_routing(np.concatenate(chosen), 8, offsets, resamples=0, **args)
        drawn.append(one.value)
    upper, lower = np.quantile(drawn, [0.975, 0.025])
    expected = (2 * found.value - upper, 2 * found.value - lower)
    assert (found.low, found.high) == pytest.approx(expected)


def test_srp_of_a_constant_router_is_one() -> None:
    """One set for ever fits perfectly, and is as large as what is in use."""
    experts = np.tile([[[2, 5]]], (40, 3, 1))
    rng = np.random.default_rng(0)
    (found,) = segment_routing(experts, 8, np.array([0, 40]), windows=(16,), rng=rng)
    assert (found.value, found.size) == (1.0, 1.0)
    assert math.isnan(found.low)  # one request has no interval


def test_srp_of_an_even_router_nears_calling_all_active(routers: SimpleNamespace) -> None:
    """2 k / (k + e) is the floor, reached by predicting every expert."""
    experts = routers.even(3000, 1, 2, 8)
    rng = np.random.default_rng(0)
    (found,) = segment_routing(experts, 8, np.array([0, 3000]), windows=(256,), rng=rng)
    assert 0.4 <= found.value < 0.42


def test_srp_without_windows_is_not_told(routers: SimpleNamespace) -> None:
    """Requests shorter than the window leave NaN, not 0."""
    rng = np.random.default_rng(0)
    (found,) = segment_routing(
        routers.even(6, 2, 1, 4), 4, np.array([0, 3, 6]), windows=(4,), rng=rng
    )
    assert found.windows == 0
    assert math.isnan(found.value)
    assert np.isnan(found.by_layer).all()


def test_bootstrap_goes_in_steps(routers: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many requests are resampled in parts, to the same interval by the same generator."""
    experts, requests = routers.sticky(400, 0.5), np.arange(0, 401, 20)
    args = (experts, 32, requests)
    whole = segment_routing(*args, windows=(4,), resamples=64, rng=np.random.default_rng(3))
    monkeypatch.setattr(consistency, "_WEIGHTS", 100)
    parts = segment_routing(*args, windows=(4,), resamples=64, rng=np.random.default_rng(3))
    assert (parts[0].low, parts[0].high) == (whole[0].low, whole[0].high)


def cache(tokens: list[list[int]], e: int, m: int, size: int) -> tuple[int, int]:
    """Hits and uses of one cache on one request, as the definition says."""
    held: list[int] = []
    seen: set[int] = set()
    last: dict[int, int] = {}
    hits = uses = clock = 0
    for at, slots in enumerate(tokens):
        needed = list(dict.fromkeys(j for j in slots if j >= 0))
        free = size - len(seen)
        for j in needed:
            uses += 1
            if j in held:
                hits += 1
            elif j not in seen:
                hits += free > 0
                free -= 1
        coming = [
            sum(j in tokens[f] for f in range(at, min(at + m, len(tokens)))) for j in range(e)
        ]
        for j in needed:
            if j not in held:
                if len(held) >= size:
                    held.remove(min(held, key=lambda i: (coming[i], last[i])))
                held.append(j)
            seen.add(j)
            clock += 1
            last[j] = clock
            coming[j] = max(coming[j] - 1, 0)
    return hits, uses


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1))
def test_all_cache_sizes_at_once_are_each_cache(seed: int) -> None:
    """The stack gives, for every size, the hits of that one cache simulated alone."""
    rng = np.random.default_rng(seed)
    e, t = int(rng.integers(2, 7)), int(rng.integers(1, 25))
    k = int(rng.integers(1, min(e, 3) + 1))
    experts = np.argsort(rng.random((t, 2, e)), axis=2)[:, :, :k]
    if rng.random() < 0.5:
        experts = np.where(rng.random(experts.shape) < 0.2, rng.integers(-1, e), experts)
    requests = np.array([0, *np.sort(rng.integers(0, t + 1, 2)), t])
    for m in (0, 1, 3, 50):
        found = cache_hits(experts, e, requests, m)
        for layer, size in np.ndindex(2, e):
            runs = [
                cache(experts[start:end, layer].tolist(), e, m, size + 1)
                for start, end in pairwise(requests)
            ]
            hits, uses = np.sum(runs, axis=0)
            expected = hits / uses if uses else math.nan
            assert found[layer, size] == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize("stay", [0.0, 0.8, 0.95])
def test_knowing_a_few_tokens_ahead_is_no_worse(routers: SimpleNamespace, stay: float) -> None:
    """SCH rises with room to 1; while routes outlast the window it is at least LRU, at any size.

    The window knows counts, not order: one far longer than routes last is worse than LRU.
    """
    experts = routers.sticky(600, stay, e=16, k=2)
    requests = np.arange(0, 601, 300)
    lru = cache_hits(experts, 16, requests, 0)[0]
    hits = cache_hits(experts, 16, requests, 4)[0]
    assert (np.diff(hits) >= 0).all()
    assert hits[-1] == 1.0
    assert (hits >= lru - 1e-12).all()
    if stay == 0.8:
        assert cache_hits(experts, 16, requests, 256)[0, 1] < lru[1]


def test_relabelling_experts_changes_no_rate(routers: SimpleNamespace) -> None:
    """Ties are broken by time, never by number."""
    experts = routers.sticky(200, 0.7, k=3, e=9)
    names = np.random.default_rng(5).permutation(9)
    requests = np.array([0, 120, 200])
    for m in (0, 8):
        before = cache_hits(experts, 9, requests, m)
        np.testing.assert_allclose(cache_hits(names[experts], 9, requests, m), before)


def test_caches_refuse_what_they_cannot_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """A negative look ahead, and experts or requests beyond the counters, are refused."""
    experts = np.zeros((3, 1, 1), dtype=int)
    with pytest.raises(InputError, match="m must be >= 0"):
        cache_hits(experts, 2, np.array([0, 3]), -1)
    with pytest.raises(InputError, match="e must be <"):
        cache_hits(experts, 1 << 16, np.array([0, 3]), 1)
    monkeypatch.setattr(consistency, "_TIME_BITS", 1)
    with pytest.raises(InputError, match="longest request x k must be < 2; got 3"):
        cache_hits(experts, 2, np.array([0, 3]), 1)


def test_nothing_at_all_is_not_told() -> None:
    """No tokens, or no choices, leave NaN."""
    empty = cache_hits(np.zeros((0, 1, 1), dtype=int), 3, np.array([0]), 4)
    assert np.isnan(empty).all()
    blank = cache_hits(np.full((4, 1, 2), -1), 3, np.array([0, 4]), 4)
    assert np.isnan(blank).all()
