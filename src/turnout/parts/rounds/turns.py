"""Turns: a reasoning policy's actions as tagged text, its strict check, and its rewards.

The protocol and the rule-based rewards of Router-R1 (Zhang et al., 2025, arXiv:2506.09033): a
turn thinks and then asks a model or answers; a play is paid for format, outcome and cost.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from turnout.core import Call, Reply, _check
from turnout.parts.rounds import tagged

__all__ = [
    "TAGS",
    "Purse",
    "Thrift",
    "Turn",
    "called",
    "information",
    "total",
    "well_formed",
]

TAGS = ("think", "search", "information", "answer")
_PLACEHOLDERS = re.compile(r"\b(?:llm-name|your-query|your query|model-name)\b", re.IGNORECASE)
_SHOWN = 2400  # characters of a reply that are shown, some 600 tokens
_WINDOW = 1000


@dataclass(frozen=True)
class Turn:
    """One action: `kind` is "search", "answer" or "" (unreadable)."""

    kind: str
    to: str = ""
    text: str = ""
    why: str = "What is known does not end it."

    def __str__(self) -> str:
        said = f"{self.to}: {self.text}" if self.kind == "search" else self.text
        said = tagged.without(said, TAGS)
        return f"<think>{self.why}</think><{self.kind}>{said}</{self.kind}>"


class Thrift:
    """The cost reward, with the window it is measured against; one a training.

    Examples
    --------
    >>> Thrift().rate(3.0)
    0.5
    """

    def __init__(self) -> None:
        self._window: deque[float] = deque(maxlen=_WINDOW)

    def rate(self, cost: float) -> float:
        """How cheap a play was among the last ones, itself included, in [0, 1]."""
        self._window.append(float(np.sqrt(_check.number("cost", cost, low=0.0))))
        low, high = self.edges
        if high - low < 1e-8:
            return 0.5
        return 1.0 - float(np.clip((self._window[-1] - low) / (high - low), 0.0, 1.0))

    @property
    def edges(self) -> tuple[float, float]:
        """5th and 95th percentile of the roots in the window."""
        low, high = np.percentile(self._window, (5, 95))
        return float(low), float(high)

    @property
    def scale(self) -> float:
        """Cost at which thrift would fall by 1, at the slope it has at the median cost."""
        low, high = self.edges
        return 2.0 * float(np.median(self._window)) * (high - low)


def total(form: float, right: float, thrift: float, *, alpha: float) -> float:
    """The reward of a play: format first, then the outcome, then the cost.

    Parameters
    ----------
    form : float
        0 for a well-formed transcript, -1 for another.
    right, thrift : float
        In [0, 1].
    alpha : float
        Weight of thrift, in [0, 1].
    """
    if form < 0:
        return form
    return 0.0 if right == 0 else (right + form) * (1.0 - alpha) + alpha * thrift


def well_formed(transcript: str, names: Sequence[str]) -> bool:
    """Whether a whole transcript keeps every rule of the protocol.

    Tags are balanced and not nested; it begins with a thought and ends with its only answer;
    there are as many informations as searches; no thought is empty; every search names a model of
    `names` before a colon and asks something that is no placeholder.
    """
    text = transcript.strip()
    thoughts, searches = tagged.blocks(text, "think"), tagged.blocks(text, "search")
    return (
        tagged.balanced(text, TAGS)
        and text.startswith("<think>")
        and text.endswith("</answer>")
        and len(tagged.blocks(text, "answer")) == 1
        and len(searches) == len(tagged.blocks(text, "information"))
        and bool(thoughts)
        and all(thought.strip() not in ("", "...") for thought in thoughts)
        and all(all(called(search, names)) for search in searches)
        and not any(_PLACEHOLDERS.search(search) for search in searches)
    )


def called(search: str, names: Sequence[str]) -> tuple[str, str]:
    """The model that a search names, and what it asks; "" for what is not there."""
    plain = search.strip()
    for name in sorted(names, key=len, reverse=True):
        if plain.lower().startswith(name.lower()):
            rest = plain[len(name) :].lstrip()
            if rest.startswith(":"):
                return name, rest[1:].strip()
    said, colon, query = plain.partition(":")
    said = said.strip().lower()
    near = [name for name in names if said and (said in name.lower() or name.lower() in said)]
    return (near[0] if len(near) == 1 and colon else ""), query.strip()


def information(reply: str) -> str:
    """A reply as it is shown: cut, and without tags, so that it ends no block."""
    return f"<information>{tagged.without(reply[:_SHOWN], TAGS)}</information>"


class Purse:
    """What calls cost while training: a failed one is charged its destination's mean.

    Parameters
    ----------
    listed : mapping of str to float
        Expected cost of a call by destination, until one was seen.
    """

    def __init__(self, listed: Mapping[str, float]) -> None:
        self.thrift = Thrift()
        self.listed = dict(listed)
        self.seen: dict[str, tuple[int, float]] = {}

    def mean(self, name: str) -> float:
        """Mean cost of a call to one destination."""
        count, spent = self.seen.get(name, (0, 0.0))
        return spent / count if count else self.listed[name]

    def pay(self, call: Call, reply: Reply) -> float:
        """What one call is charged."""
        if reply.failed:
            return max(reply.cost, self.mean(call.to))
        count, spent = self.seen.get(call.to, (0, 0.0))
        self.seen[call.to] = count + 1, spent + reply.cost
        return reply.cost
