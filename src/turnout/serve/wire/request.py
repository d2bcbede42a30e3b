"""One request and the answer to it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final, Protocol, final

from turnout.core import InputError
from turnout.serve.errors import where
from turnout.serve.wire.head import Head

__all__ = ["Request", "Wire"]

_log = logging.getLogger("turnout.serve")

_WAITS: Final = 0
_STREAMS: Final = 1
_BARE: Final = 2  # streams, but no byte of the body may be sent
_RAW: Final = 3  # streams without chunks, until the connection closes
_DONE: Final = 4
_GONE: Final = 5

#: Answers that have no body, whatever the request.
_BODILESS = frozenset((204, 304))


class Wire(Protocol):
    """The connection a request came on, as far as its answer needs it."""

    def reply(self, status: int, headers: bytes, body: bytes, size: int | None) -> None:
        """Send a whole answer; `size` is the length to tell, None for none."""
        ...

    def start(self, status: int, headers: bytes) -> None:
        """Send the head of an answer."""
        ...

    def put(self, data: bytes) -> None:
        """Send."""
        ...

    def finish(self) -> None:
        """The answer is whole."""
        ...

    def break_off(self, *, reset: bool) -> None:
        """Close without finishing; `reset`: so that even an answer without a length is broken."""
        ...


@final
class Request:
    """One parsed request with its whole body; it is answered through the same object.

    Either `reply` once, or `start`, any number of `write`, `end`. Once the client has gone, or
    after `abort`, all of them do nothing.

    Parameters
    ----------
    wire : Wire
    client : str
    head : Head
    length : bytes or None
        The length that stands in the head.
    body : bytes

    Attributes
    ----------
    client : str
        Address of the peer, without its port.
    body : bytes
    on_gone : callable or None
        Called once if the client goes away before the answer's end.
    on_doubt : callable or None
        Called now and then when the client sends no more and an answer in pieces has started:
        writing something then, such as a comment of an event stream, finds out whether the client
        is still there. Else it is noticed only when it does not take the answer.
    on_flow : callable or None
        Called with True when the client cannot take more of the answer now, perhaps from within
        `write`, and with False when it can again. What is written meanwhile is held.
    """

    __slots__ = (
        "_head",
        "_length",
        "_state",
        "_wire",
        "body",
        "client",
        "on_doubt",
        "on_flow",
        "on_gone",
    )

    def __init__(
        self, wire: Wire, client: str, head: Head, length: bytes | None, body: bytes
    ) -> None:
        self.client = client
        self.body = body
        self.on_gone: Callable[[], object] | None = None
        self.on_doubt: Callable[[], object] | None = None
        self.on_flow: Callable[[bool], None] | None = None
        self._head = head
        self._length = length
        self._state = _WAITS
        self._wire = wire

    @property
    def method(self) -> str:
        """Such as `POST`."""
        return self._head.method

    @property
    def path(self) -> str:
        """As the client wrote it, up to a question mark: percent signs are not decoded."""
        return self._head.path

    @property
    def query(self) -> bytes:
        """What stands behind the question mark."""
        return self._head.query

    @property
    def http_version(self) -> str:
        """`1.1` or `1.0`."""
        return self._head.version

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """In order; names in lower case."""
        length = self._length
        if length is None:
            return list(self._head.headers)
        return [
            (name, length if name == b"content-length" else value)
            for name, value in self._head.headers
        ]

    @property
    def started(self) -> bool:
        """Whether some of an answer has been sent, or none can be sent any more."""
        return self._state != _WAITS

    @property
    def gone(self) -> bool:
        """Whether the client went away, or the answer was aborted."""
        return self._state == _GONE

    def header(self, name: bytes) -> bytes | None:
        """The first value of a header, or None.

        Parameters
        ----------
        name : bytes
            In lower case.
        """
        if name == b"content-length":
            return self._length
        return self._head.fields.get(name)

    def reply(self, status: int, headers: bytes, body: bytes) -> None:
        """Send a whole answer.

        Parameters
        ----------
        status : int
        headers : bytes
            Lines `name: value`, each ended by CR LF; without a length and without `connection`.
        body : bytes
            Left out where there can be none: for HEAD, 204 and 304.

        Raises
        ------
        InputError
            There was an answer already.
        """
        if self._state:
            self._check(_WAITS)
            return
        self._state = _DONE
        self.on_gone = self.on_doubt = self.on_flow = None
        if status in _BODILESS:
            self._wire.reply(status, headers, b"", None)
        elif self._head.method == "HEAD":
            self._wire.reply(status, headers, b"", len(body))
        else:
            self._wire.reply(status, headers, body, len(body))

    def start(self, status: int, headers: bytes) -> None:
        """Send the head of an answer that comes in pieces.

        Parameters
        ----------
        status, headers
            As `reply`.

        Raises
        ------
        InputError
            There was an answer already.
        """
        if self._state:
            self._check(_WAITS)
            return
        if self._head.method == "HEAD" or status in _BODILESS:
            self._state = _BARE
        elif self._head.version == "1.1":
            self._state = _STREAMS
            headers += b"transfer-encoding: chunked\r\n"
        else:
            self._state = _RAW
        self._wire.start(status, headers)

    def write(self, data: bytes) -> None:
        """Send a piece of the body.

        Parameters
        ----------
        data : bytes
            Nothing is sent where it is empty.

        Raises
        ------
        InputError
            The answer was not started, or is over.
        """
        if self._state == _STREAMS:
            if data:
                self._wire.put(b"%x\r\n%b\r\n" % (len(data), data))
        elif self._state == _RAW:
            if data:
                self._wire.put(data)
        elif self._state != _BARE:
            self._check(_STREAMS)

    def end(self) -> None:
        """The answer that was started is whole.

        Raises
        ------
        InputError
            The answer was not started, or is over.
        """
        state = self._state
        if not _STREAMS <= state <= _RAW:
            self._check(_STREAMS)
            return
        self._state = _DONE
        self.on_gone = self.on_doubt = self.on_flow = None
        if state == _STREAMS:
            self._wire.put(b"0\r\n\r\n")
        self._wire.finish()

    def abort(self) -> None:
        """Break the connection so that nobody takes the answer for whole.

        Of a chunked answer what was written is still sent, and then not the last chunk. Does
        nothing where the answer is whole or the client gone. `on_gone` is not called.
        """
        state = self._state
        if state < _DONE:
            self._state = _GONE
            self.on_gone = self.on_doubt = self.on_flow = None
            self._wire.break_off(reset=state == _RAW)

    def lose(self) -> None:
        """The client has gone: for the connection to tell; calls `on_gone`."""
        if self._state < _DONE:
            self._state = _GONE
            tell = self.on_gone
            self.on_gone = self.on_doubt = self.on_flow = None
            if tell is not None:
                try:
                    tell()
                except Exception as error:
                    _log.error("on_gone failed: %s", where(error))

    def doubt(self) -> bool:
        """The client may have gone: for the connection to tell; whether there is an `on_doubt`."""
        if self.on_doubt is None or not _STREAMS <= self._state <= _RAW:
            return False
        try:
            self.on_doubt()
        except Exception as error:
            _log.error("on_doubt failed: %s", where(error))
        return True

    def flow(self, full: bool) -> None:
        """The client's readiness has changed: for the connection to tell; calls `on_flow`."""
        if self.on_flow is not None and self._state < _DONE:
            try:
                self.on_flow(full)
            except Exception as error:
                _log.error("on_flow failed: %s", where(error))

    def _check(self, wanted: int) -> None:
        if self._state == _GONE:
            return
        rule = "be given once" if wanted == _WAITS else "be started before it is written to"
        found = "a second one" if wanted == _WAITS else "none that is open"
        raise InputError("answer", rule, found, "Call reply, or start, write and end, once.")
