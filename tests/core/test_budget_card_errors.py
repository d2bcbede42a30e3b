"""Budget, Card and the error tree."""

from __future__ import annotations

import pickle

import pytest

from turnout import core
from turnout.core import (
    Budget,
    BudgetExceededError,
    Card,
    ConfigError,
    DataError,
    InputError,
    MissingExtraError,
    RouterFileError,
    TurnoutError,
    UpstreamError,
)
from turnout.core.card import KINDS, PROPERTIES


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"mean_cost": 1.0, "price": 2.0}, "budget"),
        ({"mean_cost": 1.0, "mean_quality": 0.5, "price": 2.0}, "budget"),
        ({"mean_cost": -1.0}, "budget.mean_cost"),
        ({"mean_cost": float("nan")}, "budget.mean_cost"),
        ({"mean_cost": "1"}, "budget.mean_cost"),
        ({"mean_cost": True}, "budget.mean_cost"),
        ({"mean_quality": 1.5}, "budget.mean_quality"),
        ({"price": float("inf")}, "budget.price"),
    ],
)
def test_budget_refuses_by_name(arguments, field):
    """Two targets at once, and values out of range, are refused."""
    with pytest.raises(InputError) as caught:
        Budget(**arguments)
    assert caught.value.field == field


def test_budget_prints_what_it_limits():
    """The repr shows the one target, or none."""
    assert repr(Budget(mean_quality=0.75)) == "Budget(mean_quality=0.75)"
    assert repr(Budget(price=0)) == "Budget(price=0)"
    assert repr(Budget()) == "Budget()"


def card(**changes):
    fields = {
        "name": "llms.example",
        "system": "Example",
        "title": "An Example",
        "authors": "A. Author",
        "year": 2024,
        "id": "arXiv:2401.00001",
        "routes": "requests to models",
        "kind": "score",
        "recipe": "Example",
        "signal": ("outcomes",),
        "covers": ("equation 1",),
        "differs": (),
    }
    return Card(**(fields | changes))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"title": " "}, "card.title"),
        ({"id": ""}, "card.id"),
        ({"name": "example"}, "card.name"),
        ({"name": "llms.example.more"}, "card.name"),
        ({"year": 1800}, "card.year"),
        ({"year": "2024"}, "card.year"),
        ({"kind": "guess"}, "card.kind"),
        ({"signal": "outcomes"}, "card.signal"),
        ({"covers": ["a list"]}, "card.covers"),
        ({"properties": ("flies",)}, "card.properties"),
        ({"knobs": "price"}, "card.knobs"),
        ({"knobs": ("price", "quality per dollar")}, "card.knobs"),
        ({"knobs": (("price", " "),)}, "card.knobs"),
    ],
)
def test_card_refuses_by_name(changes, field):
    """A card with a field missing, misspelt or of the wrong type is refused."""
    with pytest.raises(InputError) as caught:
        card(**changes)
    assert caught.value.field == field


def test_card_says_where_it_lives_and_how_to_cite_it():
    """Level and citation follow from the fields; every kind and property is accepted."""
    assert card().level == "llms"
    assert card().citation == "A. Author (2024). An Example. arXiv:2401.00001"
    for kind in KINDS:
        card(kind=kind, properties=tuple(PROPERTIES))


@pytest.mark.parametrize(
    "kind",
    [InputError, DataError, ConfigError, RouterFileError, BudgetExceededError, UpstreamError],
)
def test_errors_read_as_a_sentence(kind):
    """Field, rule, value, next step; and they survive a process boundary."""
    error = kind("pool.names", "be unique", "gpt", "Rename one.")
    assert str(error) == "pool.names must be unique; got 'gpt'. Rename one."
    assert isinstance(error, TurnoutError)
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), type(again)) == (str(error), kind)
    assert str(kind("x", "be y", 1)) == "x must be y; got 1."


def test_errors_are_what_python_expects():
    """Bad values are ValueErrors, missing packages ImportErrors."""
    assert issubclass(DataError, InputError)
    assert issubclass(InputError, ValueError)
    error = MissingExtraError("torch", "torch")
    assert isinstance(error, ImportError)
    assert "pip install 'turnout[torch]'" in str(error)
    again = pickle.loads(pickle.dumps(error))
    assert (again.package, again.extra, str(again)) == ("torch", "torch", str(error))


def test_errors_shorten_long_values():
    """A long value is cut, and its length told."""
    text = str(InputError("x", "be short", "y" * 1000))
    assert len(text) < 200
    assert "(1002 characters)" in text


def test_public_names_are_sorted_and_there():
    """`turnout.core.__all__` is sorted, complete and importable."""
    assert core.__all__ == sorted(core.__all__)
    for name in core.__all__:
        assert getattr(core, name) is not None
    public = {
        name
        for name, value in vars(core).items()
        if not name.startswith("_") and getattr(value, "__module__", "").startswith("turnout.")
    }
    assert public == set(core.__all__) - {"Inputs", "Play"}  # an alias has no home module
