"""All measures of one trace, ready to be told, drawn and written as JSON."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from turnout.bench.traces import measures, pairs
from turnout.bench.traces.consistency import (
    WINDOWS,
    cache_hits,
    segment_routing,
)
from turnout.bench.traces.results import (
    Analysis,
    Caches,
    Group,
    Positions,
    Routing,
    TokenUse,
    Transition,
)
from turnout.core import InputError, Trace
from turnout.core._check import Int

__all__ = [
    "CACHE_WINDOWS",
    "LEAST",
    "SAMPLE",
    "analyse",
    "token_use",
]

#: Tokens in which a token id must be seen to count, as in arXiv:2505.16056.
LEAST = 20

#: Longest piece of a request whose consistency is measured, in tokens, as there.
SAMPLE = 512

#: Tokens that a cache knows ahead; 0 is the cache that knows nothing (LRU).
CACHE_WINDOWS = (0, 16, 64, 256)

#: Most token-experts of a sample: what takes some seconds. Tokens x layers x experts, and for
#: caches x choices.
_ROUTING_WORK, _CACHE_WORK = 130_000_000, 40_000_000

#: Position ranges, and tokens kept for each expert.
_RANGES, _TOP = 16, 5

Tick = Callable[[str, int, int], None]


def analyse(
    trace: Trace,
    name: str = "trace",
    *,
    rng: np.random.Generator,
    tick: Tick = lambda label, done, total: None,
) -> Analysis:
    """Measure a trace.

    SRP and cache hit rates are measured on a sample of the requests, cut to pieces of at most
    512 tokens, where the whole would take more than some seconds; the sample's size is told.

    Parameters
    ----------
    trace : Trace
    name : str
        What to call it.
    rng : numpy Generator
        For bootstrap samples and the shuffled order.
    tick : callable, optional
        Told of progress: label, done, total.

    Raises
    ------
    InputError
        No token is left to look at, or k > e.
    """
    if trace.t == 0:
        raise InputError(name, "hold at least one token", 0, "Record some text first.")
    real = trace.real()
    if real.t == 0:
        rule = "hold at least one token that is not masked"
        raise InputError(name, rule, f"{trace.t} masked tokens", "Look at how it was recorded.")
    if real.k > real.e:
        hint = "A token chooses an expert once; check the number of experts."
        raise InputError(name, f"have k <= e = {real.e}", real.k, hint)
    counts = measures.counts(real.experts, real.e)
    if counts.sum() == 0:
        raise InputError(name, "hold at least one choice", 0, "Every slot is empty or dropped.")
    k = float(counts.sum()) / (real.t * real.l)
    tick("pairs of experts", 0, real.t)
    found = pairs.count_pairs(real.experts, real.e, tick=partial(tick, "pairs of experts"))
    numbers = real.layer_numbers
    notes = _notes(trace, real)
    positions, told = _positions(real, k, tick)
    weights = real.weights
    return Analysis(
        name=name,
        t=real.t,
        e=real.e,
        k=k,
        layers=numbers,
        counts=counts,
        groups=_groups(real, k, tick),
        tokens=_tokens(real, k, tick),
        positions=positions,
        top_weight=None if weights is None else measures.top_weight(weights),
        effective=None if weights is None else measures.effective_experts(weights),
        drops=None if real.dropped is None else measures.drop_share(real.experts, real.dropped),
        together=found.together if real.k > 1 else None,
        overlap=found.overlap if real.l > 1 else None,
        transitions=tuple(
            Transition(
                source=int(numbers[layer]),
                target=int(numbers[layer + 1]),
                matrix=matrix,
                bits=pairs.dependence(matrix, t=real.t, k=k),
            )
            for layer, matrix in enumerate(found.follows)
        ),
        routing=_routing(real, rng, tick),
        caches=_caches(real, tick),
        notes=(*notes, *told),
        meta=dict(trace.meta),
    )


def token_use(layers: Int, tables: Sequence[tuple[Int, Int]], k: float) -> TokenUse:
    """What each expert's tokens tell, from tables of choices.

    The tokens of an expert are ranked by their part in how its tokens differ from all tokens,
    `p(v | j) log2(p(v | j) / p(v))`: frequent ones that go there more than elsewhere. Only ids
    seen in at least 20 tokens count.

    Parameters
    ----------
    layers : int array (n,)
        Places of the layers counted.
    tables : sequence of (int array (v,), int array (v, e))
        Token ids and choices by id and expert, one pair a layer.
    k : float
        Choices of a token, on average.
    """
    bits, covered, ids, shares, leaning = [], [], [], [], []
    for names, table in tables:
        found = measures.specialisation(table, k=k, least=LEAST)
        bits.append(found.bits)
        covered.append(found.covered)
        often = table.sum(axis=1) >= LEAST * k
        kept, known = table[often].astype(np.float64), names[often]
        row, column = kept.sum(axis=1), kept.sum(axis=0)
        part = kept / np.maximum(column, 1)
        lift = part / np.maximum(row / max(float(row.sum()), 1.0), 1e-300)[:, None]
        own = part * np.log2(np.where(lift > 0, lift, 1.0))
        leaning.append(np.where(column > column.mean() / 4, own.sum(axis=0), np.nan))
        n = min(_TOP, len(known))
        best = np.argsort(-own, axis=0, kind="stable")[:n]
        there = np.take_along_axis(own, best, axis=0) > 0
        top = np.full((_TOP, table.shape[1]), -1, dtype=np.int64)
        top[:n] = np.where(there, known[best], -1)
        share = np.zeros(top.shape)
        share[:n] = np.take_along_axis(kept, best, axis=0) / np.maximum(row / k, 1)[best]
        ids.append(top.T)
        shares.append(share.T)
    return TokenUse(
        layers=layers,
        bits=np.array(bits),
        covered=np.array(covered),
        ids=np.stack(ids),
        shares=np.stack(shares),
        leaning=np.stack(leaning),
    )


def _notes(trace: Trace, real: Trace) -> list[str]:
    notes = []
    if trace.t > real.t:
        notes.append(f"{trace.t - real.t:,} of {trace.t:,} tokens are masked and left out")
    if "experts" in trace.meta:
        notes.append(f"the number of experts ({trace.e}) is {trace.meta['experts']}")
    if "left out" in trace.meta:
        notes.append(f"left out: {trace.meta['left out']}")
    if trace.requests is None:
        notes.append(f"no request boundaries: consistency is measured on pieces of {SAMPLE} tokens")
    return notes


def _groups(trace: Trace, k: float, tick: Tick) -> dict[str, Group]:
    tags = dict(trace.tags)
    names = {tag: tuple(values) for tag, values in trace.tag_names.items()}
    if trace.phase is not None and {0, 1} <= set(np.unique(trace.phase).tolist()):
        tags.setdefault("phase", trace.phase)
        names.setdefault("phase", ("prefill", "decode"))
    groups = {}
    for place, (tag, values) in enumerate(tags.items()):
        tick("tags", place, len(tags))
        v = int(values.max(initial=-1)) + 1
        if v < 1:
            continue
        counts = np.stack(
            [
                measures.counts_by(trace.experts[:, layer], trace.e, values, v)
                for layer in range(trace.l)
            ],
            axis=1,
        )
        bits = [measures.specialisation(counts[:, layer], k=k).bits for layer in range(trace.l)]
        known = names.get(tag, tuple(str(value) for value in range(v)))[:v]
        groups[tag] = Group(names=known, counts=counts, bits=np.array(bits))
    return groups


def _tokens(trace: Trace, k: float, tick: Tick) -> TokenUse | None:
    if trace.tokens is None or not bool((trace.tokens >= 0).any()):
        return None
    names, labels = np.unique(trace.tokens, return_inverse=True)
    if names[0] < 0:
        names, labels = names[1:], labels - 1
    tables = (
        (names, measures.counts_by(trace.experts[:, layer], trace.e, labels, len(names)))
        for layer in range(trace.l)
    )
    parts = []
    for layer, table in enumerate(tables):
        parts.append(token_use(np.array([layer]), [table], k))
        tick("token ids", layer + 1, trace.l)
    return TokenUse(
        layers=np.arange(trace.l),
        bits=np.concatenate([part.bits for part in parts]),
        covered=np.concatenate([part.covered for part in parts]),
        ids=np.concatenate([part.ids for part in parts]),
        shares=np.concatenate([part.shares for part in parts]),
        leaning=np.concatenate([part.leaning for part in parts]),
    )


def _positions(trace: Trace, k: float, tick: Tick) -> tuple[Positions | None, list[str]]:
    told = []
    positions = trace.positions
    if positions is None and trace.requests is not None:
        starts = np.repeat(trace.requests[:-1], np.diff(trace.requests))
        positions = np.arange(trace.t) - starts
        told.append("positions are counted from the start of each request")
    if positions is None or int(positions.max(initial=-1)) < 1:
        return None, []
    known = positions[positions >= 0]
    cuts = np.quantile(known, np.linspace(0, 1, _RANGES + 1)[1:-1], method="nearest")
    # A range begins at each cut; equal cuts make one range.
    starts = np.unique(np.concatenate(([known.min()], cuts)))
    ends = np.append(starts[1:] - 1, known.max())
    labels = np.where(positions < 0, -1, np.searchsorted(starts, positions, side="right") - 1)
    bits = np.empty((trace.l, len(starts)))
    drops = None if trace.dropped is None else np.empty(bits.shape)
    for layer in range(trace.l):
        tick("positions", layer, trace.l)
        table = measures.counts_by(trace.experts[:, layer], trace.e, labels, len(starts))
        bits[layer] = measures.specialisation(table, k=k).by_label
        if drops is not None and trace.dropped is not None:
            where = labels >= 0
            lost = trace.dropped[:, layer].sum(axis=1)[where]
            gone = np.bincount(labels[where], lost, minlength=len(starts))
            drops[layer] = gone / np.maximum(gone + table.sum(axis=1), 1)
    return Positions(starts=starts, ends=ends, bits=bits, drops=drops), told


def _pieces(trace: Trace, most: int) -> tuple[NDArray[np.int32], Int]:
    """Experts and offsets of pieces of requests, spread evenly, of about `most` tokens in all."""
    requests = np.array([0, trace.t]) if trace.requests is None else trace.requests
    cut = [
        (start, min(start + SAMPLE, int(end)))
        for begin, end in pairwise(requests)
        for start in range(int(begin), int(end), SAMPLE)
    ]
    size = sum(end - start for start, end in cut) / max(len(cut), 1)
    keep = min(len(cut), max(2, int(most / max(size, 1))))
    chosen = [cut[place] for place in np.linspace(0, len(cut) - 1, keep).astype(int)]
    experts = np.concatenate([trace.experts[start:end] for start, end in chosen])
    return experts, np.concatenate(([0], np.cumsum([end - start for start, end in chosen])))


def _routing(trace: Trace, rng: np.random.Generator, tick: Tick) -> Routing | None:
    experts, offsets = _pieces(trace, _ROUTING_WORK // (trace.l * trace.e))
    windows = tuple(m for m in WINDOWS if m <= int(np.diff(offsets).max(initial=0)))
    if not windows:
        return None
    measured = []
    for label, order in (
        ("consistency", np.arange(len(experts))),
        ("consistency by chance", rng.permutation(len(experts))),
    ):
        rows = segment_routing(
            experts[order],
            trace.e,
            offsets,
            windows=windows,
            rng=rng,
            tick=partial(tick, label),
        )
        measured.append(tuple(rows))
    return Routing(rows=measured[0], shuffled=measured[1], tokens=len(experts))


def _caches(trace: Trace, tick: Tick) -> Caches | None:
    if trace.e < 2:
        return None
    work = trace.l * trace.e * trace.k
    experts, offsets = _pieces(trace, _CACHE_WORK // work)
    rates = {
        m: cache_hits(experts, trace.e, offsets, m, tick=partial(tick, f"cache, {m} ahead"))
        for m in CACHE_WINDOWS
    }
    return Caches(rates=rates, tokens=len(experts))
