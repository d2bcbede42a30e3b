"""How each skill task draws a prompt and its answer, at difficulty 1 to 5.

Every function has the signature `(rng, difficulty) -> (prompt, answer)`; the answer is computed
here by ordinary Python, so the grader is exact by construction.
"""

from __future__ import annotations

from typing import Final

import numpy as np

__all__ = [
    "COLOURS",
    "DAYS",
    "MONTHS",
    "NAMES",
    "NOUNS",
    "TEMPLATES",
    "UNITS",
    "add",
    "brackets",
    "calendar",
    "convert",
    "copy",
    "count",
    "extreme",
    "initials",
    "lookup",
    "reverse",
    "sort",
    "subtract",
]

DAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS: Final = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September",
    "October", "November", "December",
)  # fmt: skip
NAMES: Final = (
    "Ann", "Bob", "Carl", "Dana", "Eva", "Finn", "Gus", "Hana", "Ivan", "Jill", "Kim", "Leo",
    "Mia", "Noah", "Olga", "Pam", "Quinn", "Rosa", "Sam", "Tess",
)  # fmt: skip
COLOURS: Final = (
    "red", "blue", "green", "black", "white", "pink", "brown", "grey", "gold", "violet", "orange",
    "yellow",
)  # fmt: skip
NOUNS: Final = (
    "apple", "anchor", "bridge", "basket", "candle", "castle", "desert", "dragon", "engine",
    "eagle", "forest", "flute", "garden", "guitar", "hammer", "harbor", "island", "ivory",
    "jungle", "jacket", "kettle", "kitten", "ladder", "lemon", "marble", "mirror", "needle",
    "nutmeg", "ocean", "onion", "pepper", "planet", "quartz", "quilt", "rabbit", "river",
    "saddle", "silver", "temple", "tiger", "umbrella", "urchin", "valley", "velvet", "walnut",
    "window", "yogurt", "zebra",
)  # fmt: skip
# (larger unit, smaller unit, how many of the smaller in one of the larger), easy factors first.
UNITS: Final = (
    ("meters", "centimeters", 100),
    ("kilometers", "meters", 1000),
    ("dollars", "cents", 100),
    ("centimeters", "millimeters", 10),
    ("weeks", "days", 7),
    ("yards", "feet", 3),
    ("gallons", "quarts", 4),
    ("feet", "inches", 12),
    ("hours", "minutes", 60),
    ("minutes", "seconds", 60),
    ("days", "hours", 24),
    ("pounds", "ounces", 16),
)
_EASY = 4  # the first units are powers of ten

TEMPLATES: Final[dict[str, tuple[str, ...]]] = {
    "copy": (
        "Repeat this word: {s}",
        "Please write {s} once more.",
        "Say exactly {s}",
        "Copy the letters {s}",
    ),
    "reverse": (
        "Reverse the letters of {s}",
        "Spell {s} backwards.",
        "What is {s} written backwards?",
        "Write this word in reverse: {s}",
    ),
    "sort": (
        "Sort the letters of {s}",
        "Put the letters {s} in alphabetical order.",
        "Arrange these letters from first to last: {s}",
        "What is {s} in alphabetical order?",
    ),
    "brackets": (
        "Close the open brackets: {s}",
        "Which brackets complete {s} ?",
        "What must follow to balance {s}",
    ),
    "add": (
        "What is {a} + {b}?",
        "Add {a} and {b}",
        "Work out {a} plus {b}",
        "Please compute the sum {a} + {b}",
    ),
    "subtract": (
        "What is {a} - {b}?",
        "Subtract {b} from {a}",
        "Work out {a} minus {b}",
        "Please compute the difference {a} - {b}",
    ),
    "convert": (
        "Convert {x} {large} to {small}",
        "How many {small} are {x} {large}?",
        "Express {x} {large} in {small}",
    ),
    "days": (
        "Which day is {k} days after {at}?",
        "Today is {at}. What day is it in {k} days?",
        "Name the day {k} days after {at}",
    ),
    "days back": ("Which day was {k} days before {at}?", "Name the day {k} days before {at}"),
    "months": ("Which month is {k} months after {at}?", "Name the month {k} months after {at}"),
    "lookup": (
        "{pairs}. What colour is {who}?",
        "The hats are {pairs}. What colour is the hat of {who}?",
        "Given {pairs}, find the colour of {who}",
    ),
    "count": (
        "How many times does {c} appear in {s}?",
        "Count the letter {c} in {s}",
        "How often do you see {c} in {s}?",
    ),
    "largest": (
        "Which number is the largest: {list}?",
        "Find the largest of {list}",
        "What is the maximum of {list}?",
    ),
    "smallest": (
        "Which number is the smallest: {list}?",
        "Find the smallest of {list}",
        "What is the minimum of {list}?",
    ),
    "initials": (
        "Give the initials of {words}",
        "What are the first letters of {words}?",
        "Make an acronym from {words}",
    ),
}

_LETTERS = np.array(list("abcdefghijklmnopqrstuvwxyz"))
# Made-up words must not be words of the templates, which read as one token.
_WORDS = frozenset(
    word
    for lines in TEMPLATES.values()
    for line in lines
    for word in line.replace(":", "").replace("?", "").replace(".", "").lower().split()
) | frozenset(NOUNS + COLOURS + tuple(unit for large, small, _ in UNITS for unit in (large, small)))
_PAIRS = {"(": ")", "[": "]", "{": "}"}


def _pick(rng: np.random.Generator, template: str, **fields: object) -> str:
    lines = TEMPLATES[template]
    return lines[int(rng.integers(len(lines)))].format(**fields)


def _between(rng: np.random.Generator, low: int, high: int) -> int:
    """An integer from `low` to `high`, both included."""
    return int(rng.integers(low, high + 1))


def _word(rng: np.random.Generator, low: int, high: int, letters: int = 26) -> str:
    """A made-up word of `low` to `high` letters out of the first `letters` of the alphabet."""
    while True:
        size = _between(rng, low, high)
        word = "".join(_LETTERS[rng.integers(letters, size=size)])
        if word not in _WORDS:
            return word


def copy(rng: np.random.Generator, difficulty: int) -> tuple[str, str]:
    """Repeat a word of 2-3, 4-5, 6-7, 8-9 or 10-11 letters."""
    word = _word(rng, 2 * difficulty, 2 * difficulty + 1)
    return _pick(rng, "copy", s=word), word


def reverse(rng: np.random.Generator, difficulty: int) -> tuple[str, str]:
    """Spell backwards a word of 2-3, 4-5, 6-7, 8-9 or 10-11 letters."""
    word = _word(rng, 2 * difficulty, 2 * difficulty + 1)
    return _pick(rng, "reverse", s=word), word[::-1]


def sort(rng: np.random.Generator, difficulty: int) -> tuple[str, str]:
    """Sort 2-3, 4-5, 6-7, 8-9 or 10-11 letters."""
    word = _word(rng, 2 * difficulty, 2 * difficulty + 1)
    return _pick(rng, "sort", s=word), "".join(sorted(word))


def brackets(rng: np.random.Generator, difficulty: int) -> tuple[str, str]:
    """Close 1 to 7 open brackets of three kinds, with up to 4 closed pairs in between."""
    left = _between(rng, max(1, difficulty - 1), difficulty + 2)
    closed = _between(rng, 0, difficulty - 1)
    text: list[str] = []
    stack: list[str] = []
    # A random walk that opens `left + closed` brackets and closes `closed` of them.
    opens, closes = left + closed, closed
    while opens or closes:
        if stack and closes and rng.random() < closes / (opens + closes):
            text.append(_PAIRS[stack.pop()])
            closes -= 1
        elif opens:
            mark = "([{"[int(rng.integers(3))]
            text.append(mark)
            stack.append(mark)
            opens -= 1
        else:
            text.append(_PAIRS[stack.pop()])
            closes -= 1
    answer = "".join(_PAIRS[mark] for mark in reversed(stack))
    return _pick(rng, "brackets", s="".join(text)), answer


_DIGITS = ((0, 9, 0, 9), (10, 99, 0, 9), (10, 99, 10, 99), (100, 999, 10, 99), (100, 999, 100, 999))


def add(rng: np.random.Generator, difficulty: int) -> tuple[str, str]:
    """Add numbers of 1+1, 2+1, 2+2, 3+2 or 3+3 digits."""
    low, high, low_b, high_b = _DIGITS[difficulty - 1]
    a, b = _between(rng, low, high), _between(rng, low_b, high_b)
    if rng.random() < 0.5:
        a, b = b, a
    return _pick(rng, "add", a=a, b=b), str(a + b)


def subtract(rng: np.random.Generator, difficulty: int) -> tuple[str, str]:
    """Subtract the smaller of two numbers of 1-1, 2-1, 2-2, 3-2 or 3-3 digits."""
    low, high, low_b, high_b = _DIGITS[difficulty - 1]
    a, b = _between(rng, low, high), _between(rng, low_b, high_b)
    a, b = max(a, b), min(a, b)
    return _pick(rng, "subtract", a=a, b=b), str(a - b)


def convert(rng: np.random.Generator, difficulty: int) -> tuple[str, str]:
    """Multiply a quantity by the factor of its unit; powers of ten at difficulty 1 only."""
    if difficulty == 1:
        large, small, factor = UNITS[int(rng.integers(_EASY))]
        amount = _between(rng, 2, 99)
    else:
        large, small, factor = UNITS[_between(rng, _EASY, len(UNITS) - 1)]
        amount = _between(rng, *((2, 9), (10, 19), (20, 49), (50, 99))[difficulty - 2])
    return _pick(rng, "convert", x=amount, large=large, small=small), str(amount * factor)


def calendar(rng: np.random.Generator, difficulty: int) -> tuple[str, str]:
    """Step 1-2, 3-4, 5-7, 8-14 or 15-31 days (or months) from a day (or month)."""
    k = _between(rng, *((1, 2), (3, 4), (5, 7), (8, 14), (15, 31))[difficulty - 1])
    kind = ("days", "days", "days back", "months")[int(rng.integers(4))]
    names, sign = (MONTHS if kind == "months" else DAYS), (-1 if kind == "days back" else 1)
    at = int(rng.integers(len(names)))
    prompt = _pick(rng, kind, k=k, at=names[at])
    if k == 1:
        prompt = prompt.replace("1 days", "1 day").replace("1 months", "1 month")
    return prompt, names[(at + sign * k) % len(names)]


def lookup(rng: np.random.Generator, difficulty: int) -> tuple[str, str]:
    """Find one of 2, 3, 4-5, 6-7 or 8-9 people in a list and give the colour."""
    size = _between(rng, *((2, 2), (3, 3), (4, 5), (6, 7), (8, 9))[difficulty - 1])
    people = [NAMES[i] for i in rng.permutation(len(NAMES))[:size]]
    colours = [COLOURS[i] for i in rng.integers(len(COLOURS), size=size)]
    pairs = ", ".join(f"{who} {colour}" for who, colour in zip(people, colours, strict=True))
    asked = int(rng.integers(size))
    return _pick(rng, "lookup", pairs=pairs, who=people[asked]), colours[asked]


def count(rng: np.random.Generator, difficulty: int) -> tuple[str, str]:
    """Count a letter in a word of 2-3, 4-5, 6-8, 9-11 or 12-14 letters of four kinds."""
    low, high = ((2, 3), (4, 5), (6, 8), (9, 11), (12, 14))[difficulty - 1]
    kinds = _LETTERS[rng.permutation(26)[:4]]
    while True:
        word = "".join(kinds[rng.integers(4, size=_between(rng, low, high))])
        if word not in _WORDS:
            break
    letter = str(kinds[int(rng.integers(4))])
    return _pick(rng, "count", c=letter, s=word), str(word.count(letter))


def extreme(rng: np.random.Generator, difficulty: int) -> tuple[str, str]:
    """Find the largest or smallest of 2-5 numbers of 1-3 digits."""
    size, low, high = ((2, 0, 9), (2, 10, 99), (3, 10, 99), (4, 10, 99), (4, 100, 999))[
        difficulty - 1
    ]
    numbers = [int(x) for x in rng.integers(low, high + 1, size=size)]
    kind, best = ("largest", max) if rng.random() < 0.5 else ("smallest", min)
    return _pick(rng, kind, list=", ".join(map(str, numbers))), str(best(numbers))


def initials(rng: np.random.Generator, difficulty: int) -> tuple[str, str]:
    """Give the first letters of 1-2, 3, 4, 5-6 or 7-8 words."""
    size = _between(rng, *((1, 2), (3, 3), (4, 4), (5, 6), (7, 8))[difficulty - 1])
    words = [NOUNS[i] for i in rng.integers(len(NOUNS), size=size)]
    return _pick(rng, "initials", words=" ".join(words)), "".join(word[0] for word in words)
