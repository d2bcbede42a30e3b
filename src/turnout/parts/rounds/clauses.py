"""Takes a question of several steps apart where it says "then", and fills in "it".

>>> clauses("Add 2 and 3; then reverse the letters of it")
('Add 2 and 3', 'Reverse the letters of it')
>>> filled("Add it and 4", "5")
'Add 5 and 4'
"""

from __future__ import annotations

import re

__all__ = ["clauses", "filled"]

_THEN = re.compile(r"(?:\s*[;,]|(?<=[.?]))\s*then,?\s+", re.IGNORECASE)
_IT = re.compile(r"\bit\b")
_MOST = 8


def clauses(text: str) -> tuple[str, ...]:
    """The steps of a question in order, at least one; at most eight, the last holds the rest."""
    found = _THEN.split(text, maxsplit=_MOST - 1)
    return (found[0], *(part[:1].upper() + part[1:] for part in found[1:]))


def filled(clause: str, reply: str) -> str:
    """A clause with what was found before in the place of its word "it"."""
    return _IT.sub(lambda _: reply, clause)
