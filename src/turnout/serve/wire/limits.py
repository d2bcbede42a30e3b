"""How much of anything a peer may ask of this process: bytes, pieces, seconds."""

from __future__ import annotations

from dataclasses import dataclass, fields

from turnout.core import _check

__all__ = ["Limits"]

#: Below this no honest peer fits.
_SMALLEST = {"head_bytes": 64, "headers": 4, "answer_head_bytes": 64}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What clients and upstreams may take before they are refused or cut.

    Parameters
    ----------
    head_bytes : int
        Request line and headers; longer heads are answered with status 431. >= 64.
    headers : int
        Number of header lines of a request; more are answered with status 431. >= 4.
    body_bytes : int
        Body of a request; longer ones are answered with status 413.
    bodies_bytes : int
        Bodies of all requests in progress; what does not fit is answered with status 503.
    ahead_bytes : int
        Bytes held of requests that a client sends before it has heard the answer to the one in
        progress; with more, reading pauses.
    connections : int
        Connections of clients at once; a further one is answered with status 503.
    head_seconds : float
        Time to send a head.
    body_seconds : float
        Time between two pieces of a body.
    request_seconds : float
        Time to send a whole request.
    idle_seconds : float
        Time between two requests of a connection.
    unread_seconds : float
        Time in which a client takes nothing of an answer that waits for it.
    linger_seconds : float
        Time a client is given to hear the last answer before its connection is closed.
    answer_head_bytes : int
        Status line and headers of an upstream's answer. >= 64.
    answer_bytes : int
        Body of an upstream's answer.
    pool : int
        Idle connections kept to one upstream.
    pool_seconds : float
        Time an idle connection to an upstream is kept.

    Raises
    ------
    InputError
        A limit is not a positive number.
    """

    head_bytes: int = 32_768
    headers: int = 100
    body_bytes: int = 4_000_000
    bodies_bytes: int = 268_435_456
    ahead_bytes: int = 65_536
    connections: int = 10_000
    head_seconds: float = 10.0
    body_seconds: float = 30.0
    request_seconds: float = 300.0
    idle_seconds: float = 75.0
    unread_seconds: float = 30.0
    linger_seconds: float = 2.0
    answer_head_bytes: int = 65_536
    answer_bytes: int = 67_108_864
    pool: int = 64
    pool_seconds: float = 30.0

    def __post_init__(self) -> None:
        for field in fields(self):
            name, value = field.name, getattr(self, field.name)
            if name.endswith("_seconds"):
                _check.number(name, value, low=0.001)
            else:
                _check.integer(name, value, low=_SMALLEST.get(name, 1))
