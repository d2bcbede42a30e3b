"""Which destinations to keep, so that each category has a good one and all of them fit.

    maximise sum_c share_c max_{k in S} s_ck    subject to    sum_{k in S} size_k <= limit

over sets S of experts that hold `forced`. The mixed-integer program with a binary for every use of
an expert by a category has the same optimum: given S, each category uses its best expert.
"""

from __future__ import annotations

import math

import numpy as np

from turnout.core import InputError
from turnout.core._check import Bool, Float, Int

__all__ = ["EXACT", "best_set", "possible_sets"]

#: Most experts for which every set is looked at; beyond, sets are grown greedily.
EXACT = 14

#: Values closer than this are equal, and the smaller set is taken.
_SAME = 1e-12


def possible_sets(
    score: Float, share: Float, size: Float, forced: int = -1
) -> tuple[Bool, Float, Float]:
    """The sets worth keeping: each earns more than all that are no larger.

    Parameters
    ----------
    score : array (c, m)
    share : array (c,)
    size : array (m,)
        > 0.
    forced : int
        Expert in every set; -1 = none.

    Returns
    -------
    kept (s, m), size (s,), value (s,)
        In order of size. Exact for `EXACT` experts or fewer; beyond, the sets on the way of the
        greedy growth and the single experts.
    """
    m = len(size)
    member = _every_set(m) if m <= EXACT else _grown(score, share, size, math.inf, forced)
    if forced >= 0:
        member = member[member[:, forced]]
    total = member @ size
    value = _values(score, share, member)
    order = np.lexsort((-value, total))
    kept: list[int] = []
    best = -math.inf
    for row in order.tolist():
        if value[row] > best + _SAME:
            kept.append(row)
            best = float(value[row])
    return member[kept], total[kept], value[kept]


def best_set(score: Float, share: Float, size: Float, limit: float, forced: int = -1) -> Bool:
    """The set (m,) of greatest value within the limit; of equal ones the smallest.

    Raises
    ------
    InputError
        Not even the smallest expert (or the forced one) fits.
    """
    least = float(size[forced] if forced >= 0 else size.min())
    if limit < least:
        rule = f"be at least {least:g}, the size of the smallest set"
        raise InputError("size_budget", rule, limit, "Raise it or add a smaller expert.")
    if len(size) > EXACT:
        member = _grown(score, share, size, limit, forced)
        value = _values(score, share, member)
        return np.asarray(member[int(value.argmax())])
    member, total, _ = possible_sets(score, share, size, forced)
    return np.asarray(member[int(np.flatnonzero(total <= limit * (1 + 1e-12))[-1])])


def _every_set(m: int) -> Bool:
    """All sets of experts but the empty one, (2^m - 1, m)."""
    number = np.arange(1, 1 << m)
    return np.asarray((number[:, None] >> np.arange(m)) & 1, dtype=np.bool_)


def _values(score: Float, share: Float, member: Bool) -> Float:
    """Value of each set, (s,), by a running maximum over the experts."""
    best = np.full((len(member), len(share)), -np.inf)
    for k in range(member.shape[1]):
        best = np.maximum(best, np.where(member[:, k, None], score[:, k], -np.inf))
    return np.asarray(best @ share)


def _grown(score: Float, share: Float, size: Float, limit: float, forced: int) -> Bool:
    """Sets met when growing by most gain, and by most gain a size, and single experts, (s, m)."""
    m = len(size)
    found = [row for row in np.eye(m, dtype=np.bool_) if row @ size <= limit]
    for by_size in (False, True):
        now = np.zeros(m, dtype=np.bool_)
        if forced >= 0:
            now[forced] = True
            found.append(now.copy())
        while True:
            fits: Int = np.flatnonzero(~now & (now @ size + size <= limit))
            if not len(fits):
                break
            tried = np.tile(now, (len(fits), 1))
            tried[np.arange(len(fits)), fits] = True
            before = float(_values(score, share, now[None])[0]) if now.any() else 0.0
            gain = _values(score, share, tried) - before
            if gain.max() <= _SAME:
                break
            now = tried[int((gain / size[fits] if by_size else gain).argmax())]
            found.append(now.copy())
    sets = np.array(found)
    return sets[sets[:, forced]] if forced >= 0 else sets
