"""Reads a chunked request body, and nothing that only resembles one.

Extensions and trailers are refused: no client of this interface sends them, and what one reader
skips and another does not is how requests are smuggled.
"""

from __future__ import annotations

from typing import final

from turnout.serve.errors import RequestError
from turnout.serve.wire._refusals import body_too_long, malformed

__all__ = ["Dechunker"]

_HEX = b"0123456789abcdefABCDEF"
#: Digits of a chunk's size.
_DIGITS = 16


@final
class Dechunker:
    """Collects the body of one chunked message.

    Parameters
    ----------
    limit : int
        Bytes the body may have.

    Attributes
    ----------
    body : bytearray
        What has arrived of it.
    """

    __slots__ = ("_last", "_left", "_limit", "_part", "_tail", "body")

    def __init__(self, limit: int) -> None:
        self.body = bytearray()
        self._limit = limit
        self._left = 0  # bytes the present chunk still lacks
        self._tail = False  # CR LF is to follow
        self._last = False  # and then nothing
        self._part = b""  # of a size or a line's end

    def feed(self, data: bytes) -> int:
        """Take in some bytes.

        Returns
        -------
        int
            How many of them belong to the message, once it is whole; -1 while it is not.

        Raises
        ------
        RequestError
            It is not a chunked body (status 400) or too long (status 413).
        """
        carried = len(self._part)
        if carried:
            data = self._part + data
            self._part = b""
        at = 0
        while True:
            if self._left:
                piece = data[at : at + self._left]
                self.body += piece
                self._left -= len(piece)
                at += len(piece)
                if self._left:
                    return -1
                self._tail = True
            if self._tail:
                end = data[at : at + 2]
                if end != b"\r\n":
                    if end not in (b"", b"\r"):
                        raise _broken("end each chunk with CR LF, without trailers after the last")
                    self._part = end
                    return -1
                at += 2
                self._tail = False
                if self._last:
                    return at - carried
            end_of_size = data.find(b"\r\n", at, at + _DIGITS + 2)
            digits = data[at:end_of_size] if end_of_size >= 0 else data[at:].removesuffix(b"\r")
            if len(digits) > _DIGITS or digits.translate(None, _HEX):
                raise _broken("give each chunk's size in hexadecimal digits alone")
            if end_of_size < 0:
                self._part = data[at:]
                return -1
            if not digits:
                raise _broken("give each chunk's size in hexadecimal digits alone")
            at = end_of_size + 2
            self._left = int(digits, 16)
            if not self._left:
                self._last = self._tail = True
            elif len(self.body) + self._left > self._limit:
                raise body_too_long(self._limit, len(self.body) + self._left)


def _broken(rule: str) -> RequestError:
    return malformed("chunked body", rule, "something else", "Send a content-length instead.")
