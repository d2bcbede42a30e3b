"""Small tables written to disk, and methods too simple to be wrong."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from turnout.core import Assignment, Budget, Outcomes, Pool


def write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
    return path


def two_models(n: int = 40, *, blanks: int = 0) -> Outcomes:
    """Short prompts are answered by both, long ones by the dear model alone; two groups."""
    rng = np.random.default_rng(3)
    long = np.arange(n) % 2 == 1
    inputs = [
        ("long words " * 12 if hard else "short ") + f"number {i}" for i, hard in enumerate(long)
    ]
    quality = np.where(long[:, None], [0.0, 1.0], [1.0, 1.0]) * (rng.random((n, 2)) < 0.95)
    quality[:blanks, 0] = np.nan
    return Outcomes(
        inputs=inputs,
        names=("small", "large"),
        quality=quality,
        cost=np.tile([1.0, 5.0], (n, 1)),
        group=["even" if i % 4 < 2 else "odd" for i in range(n)],
    )


@dataclass(frozen=True)
class Known:
    """Predicts from a table it was handed: a way to plant any predictions."""

    quality: dict[str, tuple[float, ...]]
    cost: tuple[float, ...]
    fitted_on: list[tuple[str, ...]] = field(default_factory=list)

    def fit(self, outcomes: Outcomes, pool: Pool, *, rng: np.random.Generator) -> _Known:
        self.fitted_on.append(tuple(outcomes.inputs))
        return _Known(outcomes.names, self.quality, self.cost)


@dataclass(frozen=True)
class _Known:
    names: tuple[str, ...]
    quality: dict[str, tuple[float, ...]]
    cost: tuple[float, ...]

    def predict(self, inputs: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        rows = [self.quality[text] for text in inputs]
        quality = np.array(rows).reshape(len(inputs), len(self.names))
        return quality, np.tile(self.cost, (len(inputs), 1))


@dataclass(frozen=True)
class Coin:
    """A plain router: meets a mean cost by tossing a coin between the two ends."""

    def fit(self, outcomes: Outcomes, pool: Pool, *, rng: np.random.Generator) -> _Coin:
        return _Coin(outcomes.names, tuple(outcomes.mean_cost()))


@dataclass(frozen=True)
class _Coin:
    names: tuple[str, ...]
    cost: tuple[float, ...]

    def route(
        self, inputs: Sequence[str], pool: Pool, *, budget: Budget, rng: np.random.Generator
    ) -> Assignment:
        share = 1.0
        if budget.mean_cost is not None:
            low, high = min(self.cost), max(self.cost)
            share = (budget.mean_cost - low) / (high - low)
        index = (rng.random(len(inputs)) < share).astype(np.int64)[:, None]
        return Assignment(index, np.ones(index.shape), pool.m)


@dataclass(frozen=True)
class Ladder:
    """A cascade: asks the first, and goes on when its answer is "no" and the price is low."""

    def fit(self, outcomes: Outcomes, pool: Pool, *, rng: np.random.Generator) -> _Ladder:
        return _Ladder(outcomes.names)


@dataclass(frozen=True)
class _Ladder:
    names: tuple[str, ...]

    def route(
        self, inputs: Sequence[str], pool: Pool, *, budget: Budget, rng: np.random.Generator
    ) -> Assignment:
        index = np.tile([0, 1], (len(inputs), 1))
        return Assignment(index, np.full(index.shape, 0.5), pool.m)

    def proceed(
        self,
        inputs: Sequence[str],
        asked: np.ndarray,
        answers: Sequence[Sequence[str]],
        pool: Pool,
        *,
        budget: Budget,
        rng: np.random.Generator,
    ) -> np.ndarray:
        if asked.shape[1] == 0:
            return np.zeros(len(inputs), dtype=np.int64)
        if budget.price is not None and budget.price > 1:
            return np.full(len(inputs), -1)
        return np.array([1 if said[-1] == "no" else -1 for said in answers])


@pytest.fixture(scope="session")
def kit() -> SimpleNamespace:
    """What the tests of this folder share."""
    return SimpleNamespace(
        write_csv=write_csv, two_models=two_models, Known=Known, Coin=Coin, Ladder=Ladder
    )
