"""Knowledge bases of real facts that every Python installation has, and questions about them.

Five bases: which module defines a function and what a module is for (read from the source of the
standard library), the code points of HTML entities, the codes of HTTP statuses, and the Unicode
names of code points. A question of two steps needs two of them: the module that defines a
function, then what that module is for. Every fact is one document, "what is known: the fact".

>>> bases = knowledge()
>>> sorted(bases)
['characters', 'entities', 'functions', 'modules', 'statuses']
>>> asked = questions(20, seed=0)
>>> all(question.hops[-1].answer == question.answer for question in asked)
True
"""

from __future__ import annotations

import hashlib
import re
import sysconfig
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from html.entities import name2codepoint
from http import HTTPStatus
from pathlib import Path

import numpy as np

from turnout.core import Call, InputError, Pool, Reply, _check
from turnout.parts.retrieval import bm25
from turnout.parts.rounds.playing import Ask

__all__ = [
    "ABOUT",
    "Fact",
    "Hop",
    "Question",
    "as_pool",
    "consulting",
    "facts",
    "knowledge",
    "questions",
]

#: What each base holds, as a router reads it.
ABOUT = {
    "functions": "functions of the standard library and the modules that define them",
    "modules": "what each module of the standard library is for",
    "entities": "HTML entities and the code points they stand for",
    "statuses": "HTTP statuses and their numeric codes",
    "characters": "Unicode names of characters by their code points",
}
_DOCUMENT = {
    "functions": "The function {key} is defined in the module: {value}",
    "modules": "What the module {key} is for, what it does and is good for: {value}",
    "entities": "The HTML entity {key} stands for the code point: {value}",
    "statuses": "The HTTP status {key} has the code: {value}",
    "characters": "Unicode name of the code point {key}: {value}",
}
_ASKED = {
    "functions": ("Which module defines the function {x}?", "Where is {x} defined?"),
    "modules": ("What is the module {x} for?", "What does {x} do?", "Say what {x} is good for."),
    "entities": (
        "Which code point has the HTML entity {x}?",
        "What does the entity {x} stand for?",
    ),
    "statuses": ("Which code has the HTTP status {x}?", "What is the number of the status {x}?"),
    "characters": ("What is the Unicode name of {x}?", "Which character is {x}?"),
}
_AFTER = {"functions": "modules", "entities": "characters", "statuses": "characters"}
_FUNCTION = re.compile(r"^def ([a-z]\w{3,})\(", re.MULTILINE)
_DOC = re.compile(r'\A(?:#[^\n]*\n|\s)*[rRuU]?"""\s*([^\n"]{10,})')
_LARGEST = 60_000  # characters read of a source file
_FOLDS = 4  # one fact in four is held out


@dataclass(frozen=True, slots=True)
class Fact:
    """One fact: in which base, of what, and what it is."""

    base: str
    key: str
    value: str

    @property
    def document(self) -> str:
        """How the base words it."""
        return _DOCUMENT[self.base].format(key=self.key, value=self.value)

    @property
    def held_out(self) -> bool:
        """Whether it is kept for evaluation."""
        return hashlib.sha256(f"{self.base} {self.key}".encode()).digest()[0] % _FOLDS == 0


@dataclass(frozen=True, slots=True)
class Hop:
    """One step of a question: what to ask of which base, and the answer."""

    base: str
    query: str
    answer: str


@dataclass(frozen=True, slots=True)
class Question:
    """A question, its answer, and the steps that lead there, which no router may see."""

    text: str
    answer: str
    hops: tuple[Hop, ...]


@cache
def facts() -> tuple[Fact, ...]:
    """Every fact, by base and key."""
    found: list[Fact] = []
    owners: dict[str, list[str]] = {}
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
        source = path.read_text(encoding="utf-8", errors="replace")[:_LARGEST]
        about = _DOC.match(source)
        if path.stem.startswith("_") or about is None:
            continue
        found.append(Fact("modules", path.stem, about[1].strip()))
        for name in set(_FUNCTION.findall(source)):
            owners.setdefault(name, []).append(path.stem)
    found += [Fact("functions", name, at[0]) for name, at in owners.items() if len(at) == 1]
    # a search does not tell "Eta" from "eta", so the base holds the small letters alone
    plain = ((name, point) for name, point in name2codepoint.items() if name == name.lower())
    found += [Fact("entities", name, str(point)) for name, point in plain]
    found += [Fact("statuses", status.phrase, str(status.value)) for status in HTTPStatus]
    points = set(range(32, 600)) | set(name2codepoint.values()) | {s.value for s in HTTPStatus}
    named = ((point, unicodedata.name(chr(point), "")) for point in points)
    found += [Fact("characters", str(point), name) for point, name in named if name]
    return tuple(sorted(found, key=lambda fact: (fact.base, fact.key)))


def knowledge() -> dict[str, tuple[str, ...]]:
    """The documents of every base."""
    return {base: tuple(f.document for f in facts() if f.base == base) for base in sorted(ABOUT)}


def as_pool(bases: Collection[str] = tuple(sorted(ABOUT))) -> Pool:
    """The bases as destinations, at one retrieval each."""
    names = tuple(bases)
    return Pool(
        names=names,
        usd_per_item=np.ones(len(names)),
        description=tuple(ABOUT.get(name, name) for name in names),
    )


def consulting(bases: Mapping[str, Sequence[str]], *, k: int = 5) -> Ask:
    """What asks a knowledge base, by its name.

    A reply holds the k best documents, one a line, the best first; it costs 1, a retrieval, and
    is empty where nothing matches. A base that holds nothing fails.

    Parameters
    ----------
    bases : mapping of str to sequence of str
        Documents by the name of the base.
    k : int
        Most documents, >= 1.
    """
    _check.integer("k", k, low=1)
    indexes = {name: bm25(documents) for name, documents in bases.items()}

    def ask(call: Call) -> Reply:
        if call.to not in indexes:
            hint = f"Pick from {', '.join(indexes)}."
            raise InputError("call.to", "be a knowledge base", call.to, hint)
        index = indexes[call.to]
        if not index.documents:
            return Reply(text="", failed=f"{call.to} holds no document")
        found = index.search(call.prompt, k=k)
        return Reply(text="\n".join(index.documents[i] for i, _ in found), cost=1.0)

    return ask


def questions(
    n: int, *, seed: int, hops: Collection[int] = (1, 2), evaluation: bool = True
) -> list[Question]:
    """Draw `n` questions, the same for the same arguments.

    Parameters
    ----------
    n : int
        How many, >= 1.
    seed : int
        Not negative.
    hops : collection of int
        Numbers of steps to draw from, evenly: 1, 2.
    evaluation : bool
        Whether their first fact is one held out, or one of the others.

    Raises
    ------
    InputError
        A value is out of range.
    """
    _check.integer("n", n, low=1)
    _check.integer("seed", seed, low=0)
    if not hops or not set(hops) <= {1, 2}:
        raise InputError("hops", "be 1 or 2", tuple(hops), "Use (1, 2), say.")
    rng = np.random.default_rng([seed, int(evaluation), 78])
    by_base: dict[str, list[Fact]] = {base: [] for base in sorted(ABOUT)}
    for fact in facts():
        if fact.held_out == evaluation:
            by_base[fact.base].append(fact)
    known = {(fact.base, fact.key): fact for fact in facts()}
    sizes = sorted(set(hops))
    made: list[Question] = []
    while len(made) < n:
        size = sizes[int(rng.integers(len(sizes)))]
        base = sorted(_AFTER if size == 2 else ABOUT)[int(rng.integers(3 if size == 2 else 5))]
        fact = by_base[base][int(rng.integers(len(by_base[base])))]
        second = known.get((_AFTER.get(base, ""), fact.value))
        if size == 1 or second is not None:
            made.append(_question(rng, fact, second if size == 2 else None))
    return made


def _question(rng: np.random.Generator, fact: Fact, second: Fact | None) -> Question:
    first = _asked(rng, fact.base, fact.key)
    hops = [Hop(fact.base, first, fact.value)]
    if second is None:
        return Question(first, fact.value, tuple(hops))
    line = _ASKED[second.base][int(rng.integers(len(_ASKED[second.base])))]
    after = line.format(x="it")
    hops.append(Hop(second.base, line.format(x=fact.value), second.value))
    return Question(f"{first} Then {after[0].lower()}{after[1:]}", second.value, tuple(hops))


def _asked(rng: np.random.Generator, base: str, key: str) -> str:
    return _ASKED[base][int(rng.integers(len(_ASKED[base])))].format(x=key)
