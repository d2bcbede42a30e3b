"""One name on several levels: who asks says which is meant."""

from __future__ import annotations

import pytest

from turnout import catalog
from turnout.core import InputError


def test_a_name_of_two_levels_is_told_apart_by_level() -> None:
    """Both levels have a random baseline; without a level neither is guessed."""
    with pytest.raises(InputError, match=r"Choose one of: experts\.random, llms\.random"):
        catalog.find("random")
    assert catalog.find("random", level="llms").name == "llms.random"
    assert catalog.find("random", level="experts").name == "experts.random"


def test_a_level_refuses_no_name_of_another() -> None:
    """A name that only another level has is found, so that the caller can say what is wrong."""
    assert catalog.find("knn", level="experts").name == "llms.knn"
    assert catalog.find("experts.random", level="llms").name == "experts.random"


def test_every_method_of_requests_says_what_its_knobs_are_measured_in() -> None:
    """Prices come first, as budgets are turned into them, and no unit is left to be guessed."""
    for entry in catalog.methods("llms"):
        knobs = dict(entry.card.knobs)
        assert next(iter(knobs), "none") == "price", f"{entry.name} declares {knobs}"
        assert all(" " in unit for unit in knobs.values()), f"{entry.name} declares {knobs}"
