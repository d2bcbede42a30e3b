"""The first lines of answers."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

__all__ = ["FIRST_LINES", "unnamed"]

#: By status, for those that have a name.
FIRST_LINES: Final = {
    int(status): f"HTTP/1.1 {int(status)} {status.phrase}\r\n".encode() for status in HTTPStatus
}


def unnamed(status: int) -> bytes:
    """The first line of an answer whose status has no name."""
    return b"HTTP/1.1 %d \r\n" % status
