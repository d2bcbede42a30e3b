r"""Reads a question with its context as entities and the relations between them, by rules alone.

Entities are runs of capitalised words, numbers and dates. Two that follow each other in a sentence
with at most `SPAN` words between them are linked by those words: "Ann Lee taught Bob Ray." links
Ann Lee to Bob Ray by "taught". A triple on a line of its own, `Ann Lee | taught | Bob Ray`, reads
the same. No language model and no download; what is not written with a capital is not seen.

>>> facts = read("Ann Lee taught Bob Ray. Bob Ray was born in 1905.\nWho taught Bob Ray?")
>>> facts.question, facts.entities
('Who taught Bob Ray?', ('Bob Ray', 'Ann Lee', '1905'))
>>> facts.links[0]
(1, 'taught', 0)
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from turnout.parts.texts.words import clipped

__all__ = ["KINDS", "SPAN", "Facts", "read"]

#: What an entity can be.
KINDS = ("name", "number", "date")
#: Most words that make a relation.
SPAN = 5

_MONTHS = "January|February|March|April|May|June|July|August|September|October|November|December"
_DATE = rf"\d{{4}}-\d\d-\d\d|\d{{1,2}} (?:{_MONTHS})(?: \d{{4}})?|(?:{_MONTHS}) \d{{4}}"
_NUMBER = r"\d+(?:[.,]\d+)*"
_NAME = r"[A-Z][\w'-]*(?: [A-Z][\w'-]*)*"
_ENTITY = re.compile(rf"(?P<date>{_DATE})|(?P<number>{_NUMBER})|(?P<name>{_NAME})")
_SENTENCE = re.compile(r"[.!?;]+(?=\s|$)|\n+")
_ASKED = re.compile(r"[^.!?\n]*\?")
_WORDS = re.compile(r"[a-z]+")
#: Words that open a sentence with a capital and name nothing.
_PLAIN = frozenset(
    (
        *("A", "An", "And", "At", "But", "By", "For", "From", "He", "How", "If", "In", "Is", "It"),
        *("Its", "Of", "On", "Or", "She", "That", "The", "Then", "There", "These", "They", "This"),
        *("To", "Was", "We", "What", "When", "Where", "Which", "Who", "Whom", "Whose", "Why"),
        *("With", "You"),
    )
)


@dataclass(frozen=True)
class Facts:
    """What was read.

    Parameters
    ----------
    question : str
        The last sentence that asks, or the last line.
    entities : tuple of str (v,)
        Those of the question first, then the nearer to it by links the sooner.
    kinds : tuple of int (v,)
        Index into `KINDS`.
    links : tuple of (int, str, int)
        From, relation, to.
    asked : int
        How many of the entities stand in the question: the first.
    """

    question: str
    entities: tuple[str, ...]
    kinds: tuple[int, ...]
    links: tuple[tuple[int, str, int], ...]
    asked: int


def read(item: str, *, most: int = 64) -> Facts:
    """A question with its context, read.

    Parameters
    ----------
    item : str
        Of a very long one the middle is left out.
    most : int
        Most entities kept, those nearest to the question; >= 0.
    """
    text = clipped(item)
    question = _question(text)
    kinds: dict[str, int] = {}
    links: dict[tuple[str, str, str], None] = {}
    asked = [name for name, kind, _, _ in _found(question) if kinds.setdefault(name, kind) >= 0]
    for sentence in _SENTENCE.split(text.replace(question, "\n")):
        before: tuple[str, int] | None = None
        for name, kind, start, end in _found(sentence):
            kinds.setdefault(name, kind)
            if before is not None:
                between = _WORDS.findall(sentence[before[1] : start].lower())
                if between and len(between) <= SPAN and name != before[0]:
                    links[before[0], " ".join(between), name] = None
            before = name, end
    order = _nearest(list(dict.fromkeys(asked)), list(kinds), list(links))[:most]
    number = {name: place for place, name in enumerate(order)}
    return Facts(
        question=question,
        entities=tuple(order),
        kinds=tuple(kinds[name] for name in order),
        links=tuple(
            (number[one], words, number[two])
            for one, words, two in links
            if one in number and two in number
        ),
        asked=min(len(set(asked)), len(order)),
    )


def _question(text: str) -> str:
    sentences: list[str] = _ASKED.findall(text)
    asked = [each.strip() for each in sentences if each.strip(" ?")]
    if asked:
        return asked[-1]
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def _found(sentence: str) -> list[tuple[str, int, int, int]]:
    """Entities of a sentence: name, kind, start, end."""
    found = []
    for match in _ENTITY.finditer(sentence):
        kind, name, start = str(match.lastgroup), match.group(), match.start()
        if kind == "name":
            first, _, rest = name.partition(" ")
            if first in _PLAIN:
                start, name = start + len(first) + 1, rest
        if name:
            found.append((name, KINDS.index(kind), start, match.end()))
    return found


def _nearest(asked: list[str], names: list[str], links: list[tuple[str, str, str]]) -> list[str]:
    """All names, round by round as links lead away from the question, then the unlinked."""
    near: dict[str, list[str]] = {name: [] for name in names}
    for one, _, two in links:
        near[one].append(two)
        near[two].append(one)
    order = dict.fromkeys(asked)
    queue = list(asked)
    for name in queue:  # grows while it is walked
        for other in near[name]:
            if other not in order:
                order[other] = None
                queue.append(other)
    return [*order, *(name for name in names if name not in order)]
