"""Small traces of routers whose behaviour is known."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from turnout.core import Trace


def even(t: int, layers: int, k: int, e: int, seed: int = 0) -> np.ndarray:
    """A router that draws k different experts evenly: experts (t, l, k)."""
    rng = np.random.default_rng(seed)
    return np.argsort(rng.random((t, layers, e)), axis=2)[:, :, :k]


def sticky(t: int, stay: float, k: int = 4, e: int = 32, seed: int = 0) -> np.ndarray:
    """A router that keeps its set of experts with probability `stay`, else draws a new one."""
    rng = np.random.default_rng(seed)
    fresh = np.argsort(rng.random((t, e)), axis=1)[:, :k]
    moves = rng.random(t) >= stay
    moves[0] = True
    return fresh[np.maximum.accumulate(np.where(moves, np.arange(t), 0))][:, None]


def full(t: int = 240, seed: int = 0, **changes: Any) -> Trace:
    """A trace with every field: 3 layers of 8 experts, skewed, with domains and drops."""
    rng = np.random.default_rng(seed)
    domain = np.arange(t) // 40 % 2
    tokens = rng.integers(0, 5, t)
    logits = rng.gumbel(size=(3, t, 8)) + np.linspace(0, 2, 8)
    logits[1] += 2.0 * (np.arange(8) == 7 * domain[:, None])
    logits[2] += 2.0 * (np.arange(8) == tokens[:, None])
    logits[:, :, 1] = -50.0
    trace = Trace.from_logits(logits, 2)
    experts, weights = trace.experts.copy(), trace.weights.copy()
    dropped = np.zeros(experts.shape, dtype=bool)
    dropped[:, :, 1] = (rng.random((t, 3)) < 0.2) & (np.arange(t) % 40 > 20)[:, None]
    experts[dropped], weights[dropped] = -1, 0.0
    fields: dict[str, Any] = {
        "experts": experts,
        "weights": weights,
        "e": 8,
        "requests": np.arange(0, t + 1, 40),
        "tokens": tokens,
        "phase": (np.arange(t) % 40 > 30).astype(int),
        "dropped": dropped,
        "layers": [1, 3, 5],
        "tags": {"domain": domain},
        "tag_names": {"domain": ("arxiv", "code")},
        "meta": {"model": "tiny <8x>"},
    }
    return Trace(**(fields | changes))


@pytest.fixture(scope="session")
def routers() -> SimpleNamespace:
    """What the tests of this folder share."""
    return SimpleNamespace(even=even, sticky=sticky, full=full)
