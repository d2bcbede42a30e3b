"""What hears the answer of an upstream, how long it waits, and how an answer can fail."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Protocol

from turnout.core import _check
from turnout.serve.wire.fields import Fields

__all__ = ["Failure", "Receiver", "Times"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """How long an upstream may take, in seconds; kept to one tick of the clock.

    Parameters
    ----------
    connect : float
        To connect, name lookup and TLS included.
    headers : float
        From the request being sent to the answer's head.
    first : float
        From the head to the first byte of the body.
    idle : float
        Between two pieces of the body. Does not run while the receiver holds the answer back.
    total : float
        From asking to the end of the answer.

    Raises
    ------
    InputError
        One is not a positive number.
    """

    connect: float = 5.0
    headers: float = 600.0
    first: float = 600.0
    idle: float = 120.0
    total: float = 600.0

    def __post_init__(self) -> None:
        for field in fields(self):
            _check.number(field.name, getattr(self, field.name), low=0.001)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an answer is not whole.

    Parameters
    ----------
    kind : str
        `connect`, `connect_timeout`, `tls`, `address`: no connection; the request was not sent.
        `headers_timeout`, `first_timeout`, `idle_timeout`, `total_timeout`: see `Times`.
        `closed`: the connection broke before the answer's end, or the origin was closed.
        `protocol`: what came is no answer in HTTP/1.1. `too_large`: it is beyond the limits.
        `receiver`: the receiver itself raised.
    sent : bool
        The request may have reached the upstream.
    began : bool
        The receiver has heard the head of an answer.
    """

    kind: str
    sent: bool
    began: bool


class Receiver(Protocol):
    """What hears the answer; called straight from the event loop's protocol, in this order."""

    def head(self, status: int, headers: Fields) -> None:
        """Status and headers, names in lower case; at most once, interim answers left out."""
        ...

    def data(self, data: bytes) -> None:
        """A piece of the body, chunks taken apart; never empty."""
        ...

    def end(self, failure: Failure | None) -> None:
        """The answer is whole, or it failed; once, and nothing after it.

        Not called after `Call.cancel`.
        """
        ...
