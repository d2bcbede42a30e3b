"""Watching a fit: what it draws from, and what it writes to."""

from __future__ import annotations

import dataclasses
import pickle
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from turnout.core import Outcomes, Pool

__all__ = ["bytes_of", "changed", "global_rng", "other_global_rng"]


def global_rng() -> list[Any]:
    """State of every global random number generator there is."""
    states: list[Any] = [random.getstate(), np.random.get_state()]
    if "torch" in sys.modules:
        states.append(sys.modules["torch"].get_rng_state().numpy().tobytes())
    return states


def changed(before: list[Any], after: list[Any]) -> bool:
    """Whether two such states differ."""
    if len(before) != len(after):  # torch was first imported in between
        after = after[: len(before)]
    return any(pickle.dumps(a) != pickle.dumps(b) for a, b in zip(before, after, strict=True))


@contextmanager
def other_global_rng() -> Iterator[None]:
    """Global generators in another state, so that a draw from them shows."""
    python, numpy = random.getstate(), np.random.get_state()
    random.seed(987654321)
    np.random.seed(987654321)
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def bytes_of(noun: Outcomes | Pool) -> bytes:
    """Everything a table or a pool holds, to compare."""
    return pickle.dumps([getattr(noun, item.name) for item in dataclasses.fields(noun)])
