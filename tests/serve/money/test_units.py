from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.core import InputError
from turnout.serve.money.periods import FOREVER, PERIODS, bounds, iso
from turnout.serve.money.units import MAX_PICO, MAX_USD, show, to_pico, to_usd


def test_amounts_are_what_their_text_says() -> None:
    """A float stands for its shortest decimal text, so a tenth of a dollar is exactly that."""
    assert to_pico("usd", 0.1) == 100_000_000_000
    assert to_pico("usd", "0.000001") == 1_000_000
    assert to_pico("usd", Decimal("1e-12")) == 1
    assert to_pico("usd", "0.0000000000005") == 0  # half a one, to even
    assert to_pico("usd", "0.0000000000015") == 2
    assert to_pico("usd", MAX_USD) == MAX_USD * 10**12 <= MAX_PICO


@given(st.integers(0, MAX_USD * 10**12))
def test_showing_and_reading_back_is_exact(pico: int) -> None:
    """The text of an amount reads back as the amount; the float is the nearest one."""
    assert to_pico("usd", show(pico)) == pico
    assert to_usd(pico) == float(Decimal(pico) / 10**12)
    assert show(-pico) == ("-" if pico else "") + show(pico)


@pytest.mark.parametrize(
    "value", [-1, math.nan, math.inf, "a lot", True, None, MAX_USD + 1, "1e400", [1]]
)
def test_what_is_no_amount_is_refused(value: Any) -> None:
    """Negative, endless, huge or not a number at all."""
    with pytest.raises(InputError, match="usd must be an amount in"):
        to_pico("usd", value)


@pytest.mark.parametrize(
    ("period", "start", "end"),
    [
        ("minute", "2026-11-28T12:34:00Z", "2026-11-28T12:35:00Z"),
        ("hour", "2026-11-28T12:00:00Z", "2026-11-28T13:00:00Z"),
        ("day", "2026-11-28T00:00:00Z", "2026-11-29T00:00:00Z"),
        ("week", "2026-11-23T00:00:00Z", "2026-11-30T00:00:00Z"),
        ("month", "2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z"),
    ],
)
def test_periods_are_those_of_the_calendar(noon: int, period: str, start: str, end: str) -> None:
    """UTC, weeks from Monday."""
    assert [iso(ms) for ms in bounds(period, noon + 34 * 60_000 + 56_789)] == [start, end]


def test_december_ends_with_the_year(noon: int) -> None:
    """Months carry into the next year; `total` never ends."""
    assert iso(bounds("month", noon + 30 * 86_400_000)[1]) == "2027-01-01T00:00:00Z"
    assert bounds("total", noon) == (0, FOREVER)


@given(st.sampled_from(PERIODS), st.integers(0, 4 * 10**12))
def test_periods_join_without_gaps(period: str, ms: int) -> None:
    """A moment is in its period, and the next period begins where it ends."""
    start, end = bounds(period, ms)
    assert start <= ms < end
    assert bounds(period, start) == bounds(period, end - 1) == (start, end)
    if end < FOREVER:
        assert bounds(period, end)[0] == end
