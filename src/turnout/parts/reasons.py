"""Sentences on why a predictor says what it says, for people.

What a word does to a quality is told as what the quality would be without it: with scores z of
which the word is a part c, `sigmoid(z) - sigmoid(z - c)`. Of several words together c is the sum.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from turnout.core import InputError
from turnout.core._check import Float
from turnout.parts.learners.logistic import sigmoid
from turnout.parts.learners.neighbours import Memory

__all__ = ["compared", "listed", "of_form", "of_neighbours", "of_words"]

#: Words told of at most, for and against; what does less than this to a quality is not told.
_MOST, _LEAST = 3, 0.005
#: Fewer words than this are little to go by.
_FEW = 4


def compared(
    known: Sequence[str], quality: Sequence[float], names: Sequence[str] = ()
) -> list[int]:
    """Columns of the destinations to compare, one or two: those named, else the two best.

    Raises
    ------
    InputError
        A name is unknown.
    """
    if not names:
        return sorted(range(len(known)), key=lambda j: -quality[j])[:2]
    for name in names:
        if name not in known:
            hint = f"Choose among: {', '.join(known)}."
            raise InputError("names", "be destinations the predictor knows", name, hint)
    return [list(known).index(name) for name in names[:2]]


def listed(words: Sequence[str]) -> str:
    """Words in quotes, as a list in a sentence.

    >>> listed(["a", "b", "c"])
    "'a', 'b' and 'c'"
    """
    quoted = [f"'{word}'" for word in words]
    if len(quoted) < 2:
        return "".join(quoted)
    return f"{', '.join(quoted[:-1])} and {quoted[-1]}"


def of_words(
    names: Sequence[str], words: Sequence[str], parts: Float, scores: Sequence[float]
) -> tuple[str, ...]:
    """What the words of a text do to the qualities of one or two destinations.

    Parameters
    ----------
    names : sequence of str (k,)
        One or two, the chosen first.
    words : sequence of str (f,)
        Known words and word pairs of the text.
    parts : array (f, k)
        What each adds to the scores.
    scores : sequence of float (k,)
        On the scale of log-odds.
    """
    z = np.asarray(scores, dtype=np.float64)
    quality = np.asarray(sigmoid(z))
    if not len(words):
        levels = " and ".join(
            f"{name} {level:.2f}" for name, level in zip(names, quality.tolist(), strict=True)
        )
        return (f"No word of it is known: any such prompt is predicted {levels}.",)
    effect = quality - np.asarray(sigmoid(z - parts))
    lead = effect[:, 0] - effect[:, 1] if len(names) == 2 else effect[:, 0]
    sentences = []
    for side, sign in (("for", 1.0), ("against", -1.0)):
        told = _strongest(words, sign * lead)
        if not told:
            continue
        change = quality - np.asarray(sigmoid(z - parts[told].sum(axis=0)))
        many = len(told) > 1
        doing = _changes(names, change.tolist(), many)
        what = f"{'The words' if many else 'The word'} {listed([words[f] for f in told])}"
        speak = "speak" if many else "speaks"
        subject = "they" if many else "it"
        sentences.append(f"{what} {speak} {side} {names[0]}: {subject} {doing}.")
    if not sentences:
        sentences.append(f"None of its {len(words)} known words and pairs makes a difference.")
    elif len(words) < _FEW:
        count = "one word or pair" if len(words) == 1 else f"{len(words)} words and pairs"
        sentences.append(f"That is little to go by: only {count} of it {_is(len(words))} known.")
    return tuple(sentences)


def of_neighbours(
    names: Sequence[str], columns: Sequence[int], memory: Memory, query: Float
) -> tuple[str, ...]:
    """What one or two destinations did on the kept prompts most like this one.

    Parameters
    ----------
    names, columns : sequence (k,)
        One or two, the chosen first, and where they stand in the memory.
    memory : Memory
    query : array (d,)
        Of length one, or zero where the prompt says nothing known.
    """
    values = memory.values[:, list(columns)]
    rows = np.flatnonzero(~np.isnan(values).any(axis=1))
    if len(rows) == 0:
        return ("No kept prompt was answered by both, so there is nothing to compare.",)
    if not np.any(query):
        return (f"Nothing it says is known, so all {len(rows):,} kept prompts count alike.",)
    likeness = memory.keys[rows] @ query
    near = np.argsort(-likeness, kind="stable")[: memory.k]
    seen = values[rows[near]]
    k = len(near)
    told = " and ".join(
        f"{name} scored {mean:.2f}" for name, mean in zip(names, seen.mean(axis=0), strict=True)
    )
    sentences = [f"On the {k:,} kept prompts most like it {told} on average."]
    if len(names) == 2:
        lead = seen[:, 0] - seen[:, 1]
        better, worse = int((lead > 0).sum()), int((lead < 0).sum())
        sentences.append(
            f"{names[0]} did better on {better:,} of them, {names[1]} on {worse:,}, and they were "
            f"level on {k - better - worse:,}."
        )
        if k > 1:
            error = float(lead.std(ddof=1)) / math.sqrt(k)
            sentences.append(
                f"That tells their difference, {lead.mean():+.2f}, to within about {2 * error:.2f}."
            )
    low, high = float(likeness[near].min()), float(likeness[near].max())
    sentences.append(f"Their likeness (cosine, at most 1) is from {low:.2f} to {high:.2f}.")
    return tuple(sentences)


def of_form(names: Sequence[str], columns: Sequence[str], parts: Float) -> tuple[str, ...]:
    """What in the form of a text tells one or two destinations apart.

    Parameters
    ----------
    names : sequence of str (k,)
        One or two, the chosen first.
    columns : sequence of str (d,)
        Such as "share of digits = 0.12".
    parts : array (d, k)
        What each adds to the qualities.
    """
    lead = parts[:, 0] - parts[:, 1] if len(names) == 2 else parts[:, 0]
    sentences = []
    for side, sign in (("for", 1.0), ("against", -1.0)):
        ranked = np.argsort(-sign * lead, kind="stable")[:_MOST].tolist()
        told = [d for d in ranked if sign * lead[d] >= _LEAST]
        if told:
            what = "; ".join(columns[d] for d in told)
            amount = abs(float(lead[told].sum()))
            sentences.append(f"By its form, {amount:.2f} {side} {names[0]}: {what}.")
    return tuple(sentences) or ("Nothing in its form makes a difference.",)


def _strongest(words: Sequence[str], lead: Float) -> list[int]:
    """Those that do most, no word of one in another."""
    told: list[int] = []
    used: set[str] = set()
    for f in np.argsort(-lead, kind="stable").tolist():
        if lead[f] < _LEAST or len(told) == _MOST:
            break
        parts = set(words[f].split())
        if not parts & used:
            told.append(f)
            used |= parts
    return told


def _changes(names: Sequence[str], change: Sequence[float], many: bool) -> str:
    """Such as "raise a by 0.03 and lower b by 0.08"."""
    done, last = [], ""
    for name, value in zip(names, change, strict=True):
        if abs(value) < _LEAST:
            verb, rest = "leave", f"{name} as it is"
        else:
            verb, rest = "raise" if value > 0 else "lower", f"{name} by {abs(value):.2f}"
        done.append(rest if verb == last else f"{verb}{'' if many else 's'} {rest}")
        last = verb
    return " and ".join(done)


def _is(count: int) -> str:
    return "is" if count == 1 else "are"
