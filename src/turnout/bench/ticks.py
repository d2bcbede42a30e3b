"""Where the marks of an axis stand and what is written at them: round numbers, few of them."""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["alike", "log_ticks", "number", "ticks"]

#: Leading digits of logarithmic marks, from many marks to few.
_LEADING = (
    (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0),
    (1.0, 2.0, 3.0, 5.0),
    (1.0, 3.0),
    (1.0,),
)


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten between two values, at most `most` of them.

    >>> ticks(0.52, 0.81)
    [0.55, 0.6, 0.65, 0.7, 0.75, 0.8]
    """
    if not high > low:
        return [low]
    exponent = math.floor(math.log10((high - low) / most))
    for power in (exponent, exponent + 1, exponent + 2):
        for leading in (1, 2, 5):
            size = leading * 10.0**power
            first = math.ceil(low / size - 1e-9)
            last = math.floor(high / size + 1e-9)
            if last - first + 1 <= most:
                return [round(k * size, 12 - power) for k in range(first, last + 1)]
    return [low]


def log_ticks(low: float, high: float, most: int = 7) -> list[float]:
    """Round numbers between two positive values, as evenly on a logarithmic axis as can be.

    >>> log_ticks(27.9, 251.0)
    [30.0, 50.0, 100.0, 200.0]
    """
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for leading in _LEADING:
        found = [
            float(f"{digit * 10.0**power:.6g}")
            for power in range(first, last + 1)
            for digit in leading
            if low * (1 - 1e-9) <= digit * 10.0**power <= high * (1 + 1e-9)
        ]
        if len(found) <= most:
            break
    if len(found) > most:  # many decades: every second or third
        found = found[:: math.ceil(len(found) / most)]
    return found if len(found) >= 2 else [low, high]


def alike(values: Sequence[float]) -> list[tuple[float, str]]:
    """Evenly spaced marks with what is written at them, all with as many digits.

    >>> alike([0.55, 0.6, 0.65])
    [(0.55, '0.55'), (0.6, '0.60'), (0.65, '0.65')]
    """
    texts = [number(value, 6) for value in values]
    places = max((len(text.partition(".")[2]) for text in texts), default=0)
    return [(value, f"{value:,.{places}f}") for value in values]


def number(value: float, digits: int = 3) -> str:
    """A number as a person writes it: no exponent, no needless zeros.

    >>> number(0.00002786), number(1250.0), number(0.65)
    ('0.0000279', '1,250', '0.65')
    """
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else str(value)
    places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{places}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
