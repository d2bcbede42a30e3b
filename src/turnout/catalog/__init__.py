"""Reads every method's card without importing the method.

A method is any module of the levels that opens with a literal `CARD = Card(...)`. There is no
list to keep: the packages are crawled, the literal is read by `ast`, and what a method needs is
imported only when its recipe is asked for.
"""

from turnout.catalog.claims import STATES, claim_state
from turnout.catalog.entries import Entry, find, methods, recipe, require, rows
from turnout.catalog.reading import read_card

__all__ = [
    "STATES",
    "Entry",
    "claim_state",
    "find",
    "methods",
    "read_card",
    "recipe",
    "require",
    "rows",
]
