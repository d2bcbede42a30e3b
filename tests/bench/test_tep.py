"""Token elasticity of performance."""

from __future__ import annotations

import math

import pytest

from turnout.bench.tep import penalised_accuracy, pgr, tep
from turnout.core import InputError


@pytest.mark.parametrize(
    ("quality", "tokens", "value", "quadrant"),
    [
        (55, 2000, 0.1, "better and dearer"),
        (45, 2000, -0.1, "worse and dearer"),
        (55, 500, -0.2, "better and cheaper"),
        (45, 500, 0.2, "worse and cheaper"),
        (50, 500, 0.0, "as good and cheaper"),
    ],
)
def test_elasticities_by_hand(quality: float, tokens: float, value: float, quadrant: str) -> None:
    """Of a base of 50 at 1000 tokens; the sign alone would mislead, the quadrant does not."""
    found = tep(quality, tokens, base_quality=50, base_tokens=1000)
    assert found.value == pytest.approx(value)
    assert found.quadrant == quadrant


def test_without_further_tokens_there_is_no_elasticity() -> None:
    """It is NaN, and never infinite."""
    found = tep(60, 1000, base_quality=50, base_tokens=1000)
    assert math.isnan(found.value)
    assert found.quadrant == "better and as dear"


def test_units_cancel() -> None:
    """Per cent or fractions, tokens or thousands of them."""
    one = tep(0.55, 2.0, base_quality=0.5, base_tokens=1.0).value
    assert one == pytest.approx(tep(55, 2000, base_quality=50, base_tokens=1000).value)


def test_recovered_gap_by_hand() -> None:
    """Half-way from 0.5 to 0.9 is 0.7; without a gap nothing can be recovered."""
    assert pgr(0.7, cheapest=0.5, dearest=0.9) == pytest.approx(0.5)
    assert math.isnan(pgr(0.7, cheapest=0.5, dearest=0.5))


def test_penalised_accuracy_by_hand() -> None:
    """Two of four right; one dearer item was sent to the cheapest, another to the middle."""
    assert penalised_accuracy([0, 1, 2, 2], [0, 0, 2, 1], penalty=0.25) == 0.5 - 0.25 / 4


def test_what_has_no_elasticity_is_refused() -> None:
    """A base of nothing, and figures that are none."""
    with pytest.raises(InputError, match="base_quality must be above 0"):
        tep(1, 1, base_quality=0, base_tokens=1)
    with pytest.raises(InputError, match="base_tokens must be above 0"):
        tep(1, 1, base_quality=1, base_tokens=0)
    with pytest.raises(InputError, match="tokens must be a finite number"):
        tep(1, math.inf, base_quality=1, base_tokens=1)
    with pytest.raises(InputError, match="tier must have the shape"):
        penalised_accuracy([0], [0, 1], penalty=0.1)
