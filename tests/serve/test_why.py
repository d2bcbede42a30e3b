"""Why a request goes where it goes: the sentences are right, and read as sentences."""

from __future__ import annotations

import json
import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.core import InputError
from turnout.parts import prices
from turnout.serve.why import explain, plain

NAMES = ("small", "middle", "large")


def test_three_candidates_by_hand() -> None:
    """Value, lead and both turning prices of quality .5 .7 .8 at cost 1 3 9, price .05."""
    told = explain(NAMES, [0.5, 0.7, 0.8], [1.0, 3.0, 9.0], 0.05)
    assert told.chosen.name == "middle"
    assert told.compared == ("middle", "small")
    assert [one.value for one in told.candidates] == pytest.approx([0.55, 0.45, 0.35])
    assert told.reasons == (
        "middle gives the most for its cost at a price of 0.05.",
        "It is 0.1 of quality ahead of small, cost counted.",
        "large would add 0.1 of quality for 6 more; that pays at prices below 0.01667.",
        "small would save 2 and lose 0.2 of quality; that pays at prices above 0.1.",
    )


def test_what_no_price_changes_is_said_to_be_so() -> None:
    """A candidate that is best and cheapest stays at every price."""
    told = explain(("a", "b"), [0.9, 0.5], [1.0, 2.0], 0.0)
    assert told.reasons == (
        "a is predicted to be the best, and nothing is cheaper.",
        "It is 0.4 of quality ahead of b.",
        "No other price would change that.",
    )
    assert (told.low, told.high) == (0.0, math.inf)
    assert told.record()["holds_to_price"] is None


def test_level_candidates_are_said_to_be_level() -> None:
    """Equal quality and cost: nobody is told that one is ahead."""
    told = explain(("a", "b"), [0.5, 0.5], [1.0, 1.0], 0.1)
    assert "It is level with b, cost counted: the choice could as well be that one." in told.reasons


def test_a_lone_candidate_has_nothing_to_beat() -> None:
    """One sentence, and nothing to compare it with."""
    told = explain(("only",), [0.5], [1.0], 0.1)
    assert told.reasons == ("only is the only candidate.",)
    assert told.compared == ("only",)


@pytest.mark.parametrize(
    ("went", "propensity", "said"),
    [
        ("small", 0.05, "Exploration sent it to small, to learn what it does with it."),
        ("small", 1.0, "It went to small: large was not open to it at that moment."),
    ],
)
def test_going_elsewhere_has_its_reason(went: str, propensity: float, said: str) -> None:
    """By exploration, or because the best was not open."""
    told = explain(NAMES, [0.1, 0.2, 0.9], [1, 2, 3], 0.0, went=went, propensity=propensity)
    assert told.chosen.name == went
    assert told.reasons[-1] == said
    assert told.compared == ("small", "large")


quality = st.floats(0, 1).map(lambda value: round(value, 3))
cost = st.floats(0, 10).map(lambda value: round(value, 2))


@given(
    st.lists(st.tuples(quality, cost), min_size=1, max_size=6),
    st.floats(0, 5).map(lambda value: round(value, 2)),
)
def test_the_choice_holds_between_the_prices_told_and_nowhere_else(
    figures: list[tuple[float, float]], price: float
) -> None:
    """Just inside each bound the choice is the same, just outside it is another."""
    names = [f"m{j}" for j in range(len(figures))]
    q, c = (np.array(column, dtype=float) for column in zip(*figures, strict=True))
    told = explain(names, q.tolist(), c.tolist(), price)
    best = names.index(told.chosen.name)
    assert best == int(prices.choose(q[None], c[None], price)[0])
    assert told.low <= price * (1 + 1e-9) + 1e-12
    assert price <= told.high * (1 + 1e-9)

    def at(p: float) -> int:
        return int(prices.choose(q[None], c[None], p)[0])

    if told.low > 0:
        assert at(told.low * 0.99) != best
        assert told.low * 1.001 > price or at(told.low * 1.001) == best
    elif price > 0:
        assert at(price * 1e-6) == best
    if math.isfinite(told.high):
        assert at(told.high * 1.01 + 1e-9) != best
        assert told.high * 0.999 < price or at(told.high * 0.999) == best
    else:
        assert at(price * 10 + 1) == best
    for sentence in told.reasons:
        assert re.fullmatch(r"[A-Za-z].*\.", sentence)
        assert not re.search(r"\de[+-]\d|nan|  ", sentence), sentence


@given(st.floats(1e-6, 1e8), st.integers(2, 5))
def test_plain_numbers_have_no_exponent(value: float, digits: int) -> None:
    """And are right to the digits asked for."""
    text = plain(value, digits)
    assert "e" not in text
    assert float(text.replace(",", "")) == pytest.approx(value, rel=0.5 * 10 ** (1 - digits) * 1.01)


def test_the_record_is_json_and_has_everything() -> None:
    """Sentences, candidates and bounds, as plain values."""
    record = json.loads(json.dumps(explain(NAMES, [0.5, 0.7, 0.8], [1, 3, 9], 0.05).record()))
    assert record["destination"] == "middle"
    assert record["holds_from_price"] == pytest.approx(0.1 / 6)
    assert record["because"] == []
    assert len(record["candidates"]) == 3
    assert len(record["reasons"]) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["a"], [0.5, 0.6], [1.0], 1.0), r"quality\S* must"),
        ((["a"], [1.5], [1.0], 1.0), r"quality\S* must"),
        ((["a"], [0.5], [-1.0], 1.0), r"cost\S* must"),
        ((["a"], [0.5], [1.0], -1.0), "price must"),
        ((["a"], [0.5], [1.0], math.inf), "price must"),
    ],
)
def test_wrong_figures_are_refused(arguments: tuple, message: str) -> None:
    """Each is named."""
    with pytest.raises(InputError, match=message):
        explain(*arguments)
    with pytest.raises(InputError, match="went must be one of a"):
        explain(["a"], [0.5], [1.0], 1.0, went="b")
