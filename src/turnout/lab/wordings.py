"""The wordings of the models' skills, and the ways back that one skill gives of another.

>>> said = [kind.read("Add 30 and 12") for kind in phrasings()]
>>> next(one for one in said if one).back("41")
('What is 41 - 12?', '30')
"""

from __future__ import annotations

from turnout.lab.skills import TEMPLATES
from turnout.lab.trails import UNDONE
from turnout.parts.rounds.asking import Phrasing

__all__ = ["phrasings"]

#: What a skill works on, where another leads back to it.
_FROM = {"add": "a", "subtract": "a", "reverse": "s", "days": "at", "days back": "at"}


def phrasings() -> tuple[Phrasing, ...]:
    """One for each skill, `turnout.lab.skills.TEMPLATES`."""
    made = []
    for skill, lines in TEMPLATES.items():
        back, to = UNDONE.get(skill, ""), _FROM.get(skill, "")
        line = TEMPLATES[back][0].replace(f"{{{to}}}", "{it}") if back else ""
        made.append(Phrasing(lines, line, to))
    return tuple(made)
