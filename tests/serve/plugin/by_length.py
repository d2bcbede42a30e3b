"""A third party's predictor: past a length, only the dear destination is any good."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class ByLength:
    names: tuple[str, ...]
    short: NDArray[np.float64]
    long: NDArray[np.float64]
    cost: NDArray[np.float64]
    limit: int = 20

    def predict(self, inputs: Sequence[str]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        quality = [self.long if len(text) > self.limit else self.short for text in inputs]
        shape = (len(inputs), len(self.names))
        return np.reshape(quality, shape), np.tile(self.cost, (len(inputs), 1))


@dataclass(frozen=True, eq=False)
class NoFigures:
    names: tuple[str, ...]

    def route(self, inputs, pool, *, budget, rng):  # type: ignore[no-untyped-def]
        from turnout.parts.priced import one_choice

        return one_choice(np.zeros(len(inputs), dtype=np.int64), pool.m)


@dataclass(frozen=True, eq=False)
class Cascade:
    names: tuple[str, ...]

    def route(self, inputs, pool, *, budget, rng):  # type: ignore[no-untyped-def]
        raise NotImplementedError

    def proceed(self, inputs, asked, answers, pool, *, budget, rng):  # type: ignore[no-untyped-def]
        raise NotImplementedError
