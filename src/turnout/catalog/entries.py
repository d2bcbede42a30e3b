"""Every method there is, found by crawling the packages of the levels."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from turnout.catalog.claims import checkout, claim_state
from turnout.catalog.reading import read_card
from turnout.core import Card, InputError, MissingExtraError

__all__ = ["Entry", "find", "methods", "recipe", "require", "rows"]

_ROOT = Path(__file__).resolve().parents[1]

#: Packages that can hold no method: the floors below, and what is built on the methods.
_NO_METHODS = {"core", "catalog", "testing", "serve", "cli"}

#: What to import to see whether an extra is there.
_IMPORTS = {
    "torch": "torch",
    "text": "sentence_transformers",
    "parquet": "pyarrow",
    "graph": "networkx",
    "plot": "matplotlib",
    "demo": "openai",
}


@dataclass(frozen=True)
class Entry:
    """One method of the catalogue.

    Parameters
    ----------
    card : Card
        What the method says about itself.
    module : str
        Dotted name of the module it lives in.
    file : Path
        The module's file.
    """

    card: Card
    module: str
    file: Path

    @property
    def name(self) -> str:
        """Catalogue name, `level.method`."""
        return self.card.name

    @property
    def level(self) -> str:
        """Package the method lives in."""
        return self.card.level

    @property
    def method(self) -> str:
        """The name without the level."""
        return self.card.name.partition(".")[2]

    @property
    def recipe(self) -> str:
        """Name of the recipe's class; "" where the entry is an analysis."""
        return self.card.recipe

    @property
    def claim(self) -> str:
        """State of its claim: holds, partly, fails or untested."""
        return claim_state(self.card.name)

    @property
    def path(self) -> str:
        """The file as a person types it: from the checkout's root where there is one."""
        root = checkout()
        if root is not None and self.file.is_relative_to(root):
            return self.file.relative_to(root).as_posix()
        return self.file.as_posix()


def methods(level: str | None = None) -> tuple[Entry, ...]:
    """Every method, or those of one level, sorted by name.

    Raises
    ------
    InputError
        No method lives on `level`, or a card is no literal.
    """
    entries = _crawl(_ROOT)
    if level is None:
        return entries
    kept = tuple(entry for entry in entries if entry.level == level)
    if not kept:
        levels = sorted({entry.level for entry in entries})
        raise InputError("level", f"be one of {', '.join(levels)}", level, _guess(level, levels))
    return kept


def find(name: str, *, level: str | None = None) -> Entry:
    """The method of a catalogue name, of the name without its level, or of an alias.

    Upper and lower case, "-" and "_" are the same here.

    Parameters
    ----------
    name : str
    level : str, optional
        Which level is meant where several have the name; a name of another level alone is found
        all the same.

    Raises
    ------
    InputError
        Nothing has this name, or several levels do and `level` does not tell.
    """
    wanted = _plain(name)
    known: dict[str, list[Entry]] = {}
    for entry in methods():
        card = entry.card
        spellings = (card.name, entry.method, card.system, *card.aliases)
        for spelling in set(map(_plain, spellings)):
            known.setdefault(spelling, []).append(entry)
    found = known.get(wanted, [])
    if len(found) > 1 and level is not None:
        found = [entry for entry in found if entry.level == level] or found
    if len(found) == 1:
        return found[0]
    if found:
        full = ", ".join(entry.name for entry in found)
        raise InputError("method", "name one method", name, f"Choose one of: {full}.")
    hint = _guess(wanted, sorted(known))
    raise InputError("method", "be in the catalogue", name, hint)


def recipe(name: str) -> type[Any]:
    """The recipe's class of a method, imported now.

    Raises
    ------
    InputError
        Nothing has this name, or the entry is an analysis with nothing to fit.
    MissingExtraError
        The method needs an extra that is not installed.
    """
    entry = find(name)
    if not entry.recipe:
        hint = f"Use the functions of {entry.module} directly."
        raise InputError("method", "be one that can be fitted", entry.name, hint)
    for extra in entry.card.needs:
        require(extra)
    kind: type[Any] = getattr(importlib.import_module(entry.module), entry.recipe)
    return kind


def require(extra: str) -> None:
    """Refuse to go on without an extra, such as "torch".

    Raises
    ------
    MissingExtraError
        What the extra brings cannot be imported; the message holds the install line.
    """
    package = _IMPORTS.get(extra, extra)
    if importlib.util.find_spec(package) is None:
        raise MissingExtraError(package, extra)


def rows(level: str | None = None) -> list[dict[str, str]]:
    """One row a method, as printed by `turnout methods`."""
    return [
        {
            "name": entry.name,
            "system": entry.card.system,
            "paper": entry.card.citation,
            "level": entry.level,
            "file": entry.path,
            "claim": entry.claim,
        }
        for entry in methods(level)
    ]


@cache
def _crawl(root: Path) -> tuple[Entry, ...]:
    entries = []
    for path in sorted(root.glob("*/**/*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        if parts[0] in _NO_METHODS:
            continue
        card = read_card(path)
        if card is None:
            continue
        dotted = parts[:-1] if parts[-1] == "__init__" else parts
        entries.append(Entry(card, ".".join((root.name, *dotted)), path))
    entries.sort(key=lambda entry: entry.name)
    return tuple(entries)


def _plain(name: str) -> str:
    return name.strip().lower().replace("-", "_").replace(" ", "_")


def _guess(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    if close:
        return f"Did you mean {' or '.join(close)}?"
    return "List them all with: turnout methods."
