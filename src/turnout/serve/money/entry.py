"""What the ledger is to know of one request, as a row; and how requests are numbered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import orjson

from turnout.serve.money import _schema
from turnout.serve.money.journal import Opened, Row
from turnout.serve.money.units import Pico
from turnout.serve.money.usage import Usage

__all__ = [
    "COUNTER_BITS",
    "MAX_TEXT",
    "Entry",
    "cut",
    "id_of",
    "number_of",
    "orphan",
    "rest_of",
    "short",
]

#: Bits of an id that count within a millisecond.
COUNTER_BITS = 15
#: Longest text of a client or a destination that is kept, in bytes of JSON without its quotes.
MAX_TEXT = 256
_NUMPY = orjson.OPT_SERIALIZE_NUMPY
_COUNTER = (1 << COUNTER_BITS) - 1


def id_of(number: int, worker: int) -> int:
    """The id of a request: 42 bits of milliseconds, 6 of the worker, 15 that count.

    Parameters
    ----------
    number : int
        Milliseconds since 1970 and the counter, as one rising number.
    worker : int
    """
    return number >> COUNTER_BITS << _schema.ID_SHIFT | worker << COUNTER_BITS | number & _COUNTER


def number_of(id_: int) -> int:
    """The rising number in an id."""
    return id_ >> _schema.ID_SHIFT << COUNTER_BITS | id_ & _COUNTER


@dataclass(slots=True, kw_only=True)
class Entry:
    """What came of a request, for the ledger.

    Parameters
    ----------
    status : int
        HTTP status of the outcome: 200, that of a failure (also one in mid-stream), or 499 where
        the client went away.
    usage : Usage, optional
        Tokens as the destination counts them; None = not told.
    cost : int, optional
        Pico-dollars, where the destination tells them itself.
    charged : bool
        Where neither is known: the destination may have charged, so the cost is estimated from the
        predicted input and the greater of predicted and seen output. Otherwise it is 0.
    seen : int
        Pieces of a streamed answer that came: at least so many output tokens were written.
    price : float
        Quality given up to save one unit of cost, when it was decided.
    propensity : float, optional
        Probability with which the policy chose `fallback_from or destination`; None = not known.
    quality, predicted : mapping of str to float
        Predicted quality and cost (USD) of each candidate.
    prompt_chars : int
        Length of the text routed on.
    latency_s, first_token_s : float, optional
        Seconds from the request's arrival to the end, and to the first byte of the answer.
    error_type : str, optional
        Code of the failure.
    fallback_from : str, optional
        The destination decided on, where another one answered.
    completion_id : str, optional
        The destination's own name of the answer.
    tries : int
        Destinations asked so far.
    """

    status: int
    usage: Usage | None = None
    cost: Pico | None = None
    charged: bool = False
    seen: int = 0
    price: float = 0.0
    propensity: float | None = None
    quality: Mapping[str, float] = field(default_factory=dict)
    predicted: Mapping[str, float] = field(default_factory=dict)
    prompt_chars: int = 0
    latency_s: float | None = None
    first_token_s: float | None = None
    error_type: str | None = None
    fallback_from: str | None = None
    completion_id: str | None = None
    tries: int = 1


def rest_of(
    entry: Entry,
    model: str,
    version: str,
    budgets: Sequence[str],
    chars: int,
) -> str:
    """The JSON array of a row, in the order of `_schema.REST`."""
    read, written, cached = entry.usage or (None, None, None)
    error, completion = entry.error_type, entry.completion_id
    rest = [
        model, entry.price, entry.propensity, entry.quality or None, entry.predicted or None,
        entry.prompt_chars, read, written, cached, entry.latency_s, entry.first_token_s,
        error if error is None else short(error), entry.fallback_from,
        completion if completion is None else short(completion), version, entry.tries, budgets,
        chars,
    ]  # fmt: skip
    return orjson.dumps(rest, None, _NUMPY).decode()


def orphan(opened: Opened) -> Row:
    """The row of a request whose worker was killed: it may have been charged what was reserved."""
    model, chars, stream, version, tries, key, destination, budgets = opened.about
    entry = Entry(status=499, error_type="gateway_died", tries=tries)
    flags = _schema.ESTIMATED | (_schema.STREAM if stream else 0)
    rest = rest_of(entry, model, version, budgets, chars)
    return (opened.id, key, destination, 499, opened.amount, flags, rest)


def cut(row: Row) -> Row:
    """A row without its predictions, which are all that can be long."""
    rest = orjson.loads(row[6])
    for name in ("quality", "cost"):
        rest[_schema.REST.index(name)] = None
    return (*row[:5], row[5] | _schema.CUT, orjson.dumps(rest).decode())


def short(text: str) -> str:
    """A text that takes at most `MAX_TEXT` bytes of JSON, and is whole UTF-8."""
    if len(text) <= MAX_TEXT // 2 and text.isascii() and text.isprintable():
        return text  # quotes and backslashes take two bytes
    text = text[:MAX_TEXT].encode("utf-8", "replace").decode()
    while len(orjson.dumps(text)) - 2 > MAX_TEXT:
        text = text[: len(text) * 3 // 4]
    return text
