"""What can be told from a text without knowing its language: length, shape, and stated sums.

A model that is cut off, refuses, hedges, repeats itself or adds up wrongly shows it on the
surface. Each column is a plain number; none needs a vocabulary.
"""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable, Sequence

import numpy as np

from turnout.core._check import Float

__all__ = ["answer_surface", "prompt_surface", "stated_sums"]

_WORD = re.compile(r"\w+")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_DIGIT = re.compile(r"\d+")
_UPPER = re.compile(r"[A-Z]+")
_SIGN = re.compile(r"[^\w\s]+")
_MARK = re.compile(r"####|\\boxed|answer is|answer:", re.IGNORECASE)
_HEDGE = re.compile(
    r"\b(?:maybe|perhaps|probably|possibly|might|unclear|assum\w+|not sure|however|approximately"
    r"|it depends|seems?|wait|actually)\b",
    re.IGNORECASE,
)
_REFUSAL = re.compile(
    r"\b(?:i cannot|i can't|i'm sorry|i am sorry|as an ai|unable to|cannot be determined"
    r"|not enough information|do not know|don't know)\b",
    re.IGNORECASE,
)
_SUM = re.compile(r"([-+*/(). \d]{3,60})=\s*(-?\d+(?:\.\d+)?)")
_TIMES = re.compile(r"(?<=\d)\s*[x×]\s*(?=\d)")
_OPERATORS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def prompt_surface(texts: Sequence[str]) -> Float:
    """Eight columns a text, (n, 8): size and make-up."""
    return np.array([_shape(text) for text in texts], dtype=np.float64).reshape(len(texts), 8)


def answer_surface(prompts: Sequence[str], answers: Sequence[str]) -> Float:
    """Twenty columns an answer, (n, 20): its shape, how it ends, and how it fits its prompt."""
    rows = [
        _shape(answer) + _manner(prompt, answer)
        for prompt, answer in zip(prompts, answers, strict=True)
    ]
    return np.array(rows, dtype=np.float64).reshape(len(rows), 20)


def stated_sums(text: str) -> tuple[int, int]:
    """How many sums a text states ("3 + 4 = 7"), and how many of them are false.

    A stated value may be rounded to the digits it shows.

    >>> stated_sums("3 * $2 = $6, so 6 + 1 = 8")
    (2, 1)
    """
    plain = _TIMES.sub("*", text.replace(",", "").replace("$", ""))
    stated = wrong = 0
    for match in _SUM.finditer(plain):
        value = _arithmetic(match[1].strip())
        if value is None:
            continue
        stated += 1
        digits = len(match[2].partition(".")[2])
        tolerance = 0.5 * 10.0**-digits if digits else 1e-6
        wrong += abs(value - float(match[2])) > tolerance * (1 + 1e-9)
    return stated, wrong


def _many(kind: re.Pattern[str], text: str) -> int:
    """Characters of one kind."""
    return len(text) - len(kind.sub("", text))


def _shape(text: str) -> list[float]:
    words = _WORD.findall(text)
    size = max(len(text), 1)
    return [
        math.log1p(len(text)),
        math.log1p(len(words)),
        _many(_DIGIT, text) / size,
        _many(_UPPER, text) / size,
        _many(_SIGN, text) / size,
        math.log1p(text.count("\n")),
        math.log1p(len(_NUMBER.findall(text))),
        len(set(words)) / max(len(words), 1),
    ]


def _manner(prompt: str, answer: str) -> list[float]:
    end = answer.rstrip()
    stated, wrong = stated_sums(answer)
    asked, said = set(_WORD.findall(prompt.lower())), _WORD.findall(answer.lower())
    given, used = set(_NUMBER.findall(prompt)), set(_NUMBER.findall(answer))
    return [
        math.log((1 + len(answer)) / (1 + len(prompt))),
        float(not end),
        float(end[-1:] in (".", "!", "?", ")", "]", "}", '"')),
        float(end[-1:].isdigit()),
        float(_NUMBER.search(end[-40:]) is not None),
        float(_MARK.search(answer) is not None),
        math.log1p(len(_HEDGE.findall(answer))),
        float(_REFUSAL.search(answer) is not None),
        sum(word in asked for word in said) / max(len(said), 1),
        len(given & used) / max(len(given), 1),
        math.log1p(stated),
        wrong / max(stated, 1),
    ]


def _arithmetic(text: str) -> float | None:
    """Value of a sum of plain numbers with at least one operation, or None."""
    try:
        tree = ast.parse(text.lstrip(". "), mode="eval").body
        return _value(tree) if isinstance(tree, ast.BinOp) else None
    except (SyntaxError, ValueError, ZeroDivisionError, OverflowError, RecursionError):
        return None


def _value(node: ast.expr) -> float:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return float(node.value)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_value(node.operand)
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        return _OPERATORS[type(node.op)](_value(node.left), _value(node.right))
    raise ValueError
