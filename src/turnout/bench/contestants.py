"""Which methods to judge, by name."""

from __future__ import annotations

from collections.abc import Sequence

from turnout import catalog
from turnout.core import InputError, MissingExtraError, Outcomes, Recipe

__all__ = ["choose", "default", "everything"]

_LEVEL = "llms"


def default(outcomes: Outcomes) -> tuple[dict[str, Recipe], list[tuple[str, str]]]:
    """The methods that a table is compared by unless others are named, and why others are not.

    Those whose cards say "quick", at their own settings.
    """
    chosen, left = everything(outcomes)
    for name in list(chosen):
        if "quick" not in catalog.find(name, level=_LEVEL).card.properties:
            del chosen[name]
            left.append((name, "not compared by default; runs where it is named"))
    return chosen, left


def everything(outcomes: Outcomes) -> tuple[dict[str, Recipe], list[tuple[str, str]]]:
    """Every method that this table can judge here, at its own settings, and what was left out.

    What asks in several steps is left out: nobody recorded what its calls would have been told.
    Cascades are left out of a table without answers: they decide by reading them.
    """
    chosen: dict[str, Recipe] = {}
    left: list[tuple[str, str]] = []
    for entry in catalog.methods(_LEVEL):
        card = entry.card
        if not card.recipe:
            continue
        if "multi_step" in card.properties:
            left.append((entry.method, "asks in several steps, which no table has recorded"))
        elif "sequential" in card.properties and outcomes.answers is None:
            left.append((entry.method, "reads answers, and the table holds none"))
        elif not _installed(card.needs):
            left.append((entry.method, f"needs turnout[{','.join(card.needs)}]"))
        else:
            chosen[entry.method] = catalog.recipe(entry.name)()
    return chosen, left


def _installed(needs: Sequence[str]) -> bool:
    try:
        for extra in needs:
            catalog.require(extra)
    except MissingExtraError:
        return False
    return True


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
