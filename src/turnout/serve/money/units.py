"""Money in whole pico-dollars, so that sums are exact.

One pico-dollar is 1e-12 USD. A price of one micro-dollar per million tokens is one pico-dollar a
token, so real prices and all their sums are whole numbers. A cell of 64 bits holds 9.2 million USD.
"""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Context, Decimal, InvalidOperation

from turnout.core import InputError

__all__ = ["MAX_PICO", "MAX_USD", "PICO_PER_USD", "Pico", "amount", "show", "to_pico", "to_usd"]

#: US dollars in units of 1e-12.
Pico = int

#: Pico-dollars in one dollar.
PICO_PER_USD = 10**12
#: Most that a shared cell can hold.
MAX_PICO = 2**63 - 1
#: Largest amount anybody may configure, in USD; safely below `MAX_PICO`.
MAX_USD = 9_000_000

# wide enough for every amount below, whatever the caller's own context is
_CONTEXT = Context(prec=60, rounding=ROUND_HALF_EVEN)


def amount(name: str, value: Decimal | float | int | str) -> Decimal:
    """An amount of money as its decimal text reads: 0.1 is a tenth, not the nearest binary float.

    Parameters
    ----------
    name : str
        For the error.
    value : Decimal, float, int or str
        In [0, `MAX_USD`].

    Raises
    ------
    InputError
        It is no finite number in that range.
    """
    rule = f"be an amount in [0, {MAX_USD}]"
    if isinstance(value, bool) or not isinstance(value, Decimal | float | int | str):
        raise InputError(name, rule, value, "Write a plain number.")
    try:
        result = Decimal(str(value))
    except InvalidOperation:
        raise InputError(name, rule, value, "Write a plain number.") from None
    if not result.is_finite() or not 0 <= result <= MAX_USD:
        raise InputError(name, rule, value, "Correct the value.")
    return result


def to_pico(name: str, usd: Decimal | float | int | str) -> Pico:
    """An amount of USD in whole pico-dollars, half a one rounded to even.

    Raises
    ------
    InputError
        As `amount`.
    """
    scaled = amount(name, usd).scaleb(12, _CONTEXT)
    return int(scaled.to_integral_value(ROUND_HALF_EVEN, _CONTEXT))


def to_usd(pico: Pico) -> float:
    """USD, as the float nearest to the exact amount."""
    return pico / PICO_PER_USD


def show(pico: Pico) -> str:
    """USD as exact decimal text, without trailing zeros."""
    sign = "-" if pico < 0 else ""
    whole, rest = divmod(abs(pico), PICO_PER_USD)
    text = f"{rest:012d}".rstrip("0")
    return f"{sign}{whole}.{text}" if text else f"{sign}{whole}"
