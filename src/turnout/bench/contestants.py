"""Which methods to judge, by name."""

from __future__ import annotations

from collections.abc import Sequence

from turnout import catalog
from turnout.core import InputError, Outcomes, Recipe

__all__ = ["choose", "default"]

_LEVEL = "llms"


def default(outcomes: Outcomes) -> tuple[dict[str, Recipe], list[tuple[str, str]]]:
    """Every method of requests that needs no extra, at its own settings, and what was left out.

    Cascades are left out of a table without answers: they decide by reading them.
    """
    chosen: dict[str, Recipe] = {}
    left: list[tuple[str, str]] = []
    for entry in catalog.methods(_LEVEL):
        if not entry.card.recipe:
            continue
        if entry.card.needs:
            left.append((entry.method, f"needs turnout[{','.join(entry.card.needs)}]"))
        elif "sequential" in entry.card.properties and outcomes.answers is None:
            left.append((entry.method, "reads answers, and the table holds none"))
        else:
            chosen[entry.method] = catalog.recipe(entry.name)()
    return chosen, left


def choose(names: Sequence[str]) -> dict[str, Recipe]:
    """Methods by catalogue name, at their own settings; each name may hold several, by commas.

    Raises
    ------
    InputError
        A name is unknown, or of a method that does not route requests.
    MissingExtraError
        A method needs an extra that is not installed.
    """
    wanted = [part.strip() for name in names for part in name.split(",") if part.strip()]
    chosen = {}
    for name in wanted:
        entry = catalog.find(name, level=_LEVEL)
        if entry.level != _LEVEL:
            rule = f"be of the level {_LEVEL}, which a table of outcomes can judge"
            raise InputError("method", rule, entry.name, "List them with: turnout methods.")
        chosen[entry.method] = catalog.recipe(entry.name)()
    if not chosen:
        raise InputError("methods", "name at least one", list(names), "Such as linear,knn.")
    return chosen
