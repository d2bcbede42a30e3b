"""A pool of two destinations, budgets over it, and stores of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from turnout.serve.money.budgets import BudgetRule
from turnout.serve.money.prices import Price, Tariff
from turnout.serve.money.store import Store

#: 2026-11-28 12:00:00 UTC, a Saturday.
NOON = 1_795_867_200_000


@pytest.fixture
def noon() -> int:
    return NOON


@pytest.fixture
def tariffs() -> dict[str, Tariff]:
    """`cheap` costs 1 and 4 USD per million tokens, `dear` ten times as much."""
    return {
        "cheap": Tariff([(0, Price(1, 4, version="v1"))]),
        "dear": Tariff([(0, Price(10, 40, version="v1"))]),
    }


@pytest.fixture
def make_store(tmp_path: Path, tariffs: dict[str, Tariff]) -> Iterator[Callable[..., Store]]:
    """Open a store of the pool; closed at the end."""
    made: list[Store] = []

    def make(*rules: BudgetRule, path: Path | None = None, **more: Any) -> Store:
        more = {"tariffs": tariffs, "slots": 64, "ms": NOON, **more}
        made.append(Store(path or tmp_path / "ledger.sqlite", rules=rules, **more))
        return made[-1]

    yield make
    for store in made:
        store.close()
