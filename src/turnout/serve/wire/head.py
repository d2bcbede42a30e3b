"""Reads the head of a request: its line, its headers, and how long the body is.

llhttp has read it before, and lets through more than is spoken here: several spaces in the
request line, versions 0.9 and 2.0, targets of proxies, a missing or a second Host, codings before
`chunked`, a chunked body in version 1.0. What remains is a request that every reader on the way
cuts at the same places.
"""

from __future__ import annotations

import re
from typing import Final, final

from turnout.serve.wire._refusals import malformed, too_many_headers, unmet
from turnout.serve.wire.limits import Limits

__all__ = ["CHUNKED", "Head", "HeadReader"]

#: Length of a body that comes in chunks.
CHUNKED: Final = -1

_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)").fullmatch
#: A path on this server; no fragment, nothing outside visible ASCII.
_FIRST = re.compile(rb"([A-Z-]{1,20}) (/[!\"$-~]*) HTTP/1\.([01])").fullmatch
#: host:port, or an address in brackets; may be empty.
_HOST = re.compile(
    rb"(?:[A-Za-z0-9._~%!$&'()*+,;=-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?"
).fullmatch

#: Kept lines are shared by all requests, so they are not to be anybody's secret, nor always new.
_UNKEPT = frozenset(
    b"api-key authorization content-length cookie proxy-authorization "
    b"set-cookie traceparent x-api-key x-request-id".split()
)
_KEPT, _KEPT_LENGTH, _KEPT_TARGETS = 1024, 256, 256

#: Of two of these, one reader takes the first and another the last.
_ONCE = b"authorization content-length content-type expect host transfer-encoding".split()


@final
class Head:
    """What the head of a request says.

    Parameters
    ----------
    method, path, version : str
    query : bytes
    headers : list of (bytes, bytes)
        Names in lower case.
    fields : dict of bytes to bytes
        First value by name.
    length : int
        Of the body; `CHUNKED` where it comes in chunks.
    keep : bool
        The connection may be kept after this.
    waits : bool
        The client waits for leave to send the body.
    """

    __slots__ = (
        "fields",
        "headers",
        "keep",
        "length",
        "method",
        "path",
        "query",
        "version",
        "waits",
    )

    def __init__(
        self,
        method: str,
        path: str,
        query: bytes,
        version: str,
        headers: list[tuple[bytes, bytes]],
        fields: dict[bytes, bytes],
        length: int,
        keep: bool,
        waits: bool,
    ) -> None:
        self.method = method
        self.path = path
        self.query = query
        self.version = version
        self.headers = headers
        self.fields = fields
        self.length = length
        self.keep = keep
        self.waits = waits


@final
class _Lines(dict[bytes, tuple[bytes, bytes]]):
    """Header lines and what they say: name in lower case, value without outer spaces.

    Most lines of a client's next request are those of its last one, so they are read once and
    looked up from then on. Lines that hold a secret or are new each time are not kept.

    Raises
    ------
    RequestError
        On looking up what is not a header line.
    """

    __slots__ = ()

    def __missing__(self, line: bytes) -> tuple[bytes, bytes]:
        match = _LINE(line)
        if match is None:
            rule = "be a name, a colon and a value, each on a line of its own"
            raise malformed("headers", rule, "something else", "Correct the header.")
        pair = (match[1].lower(), match[2].rstrip(b" \t"))
        if pair[0] == b"host" and not _HOST(pair[1]):
            raise malformed("host", "be a host and a port", "something else", "Correct it.")
        if len(line) <= _KEPT_LENGTH and pair[0] not in _UNKEPT:
            if len(self) >= _KEPT:
                self.clear()
            self[line] = pair
        return pair


@final
class HeadReader:
    """Reads heads for all connections of a server.

    Parameters
    ----------
    limits : Limits
    """

    __slots__ = ("_headers", "_lines", "_targets")

    def __init__(self, limits: Limits) -> None:
        self._headers = limits.headers
        self._lines = _Lines()
        self._targets: dict[bytes, tuple[str, str, bytes, str]] = {}

    def read(self, head: bytes) -> Head:
        """What a head says.

        Parameters
        ----------
        head : bytes
            From the method to the blank line, both included.

        Raises
        ------
        RequestError
            It is not a request that can be served: status 400, 417 or 431.
        """
        rows = head.split(b"\r\n")
        first = rows[0]
        method, path, query, version = self._targets.get(first) or self._target(first)
        if len(rows) - 3 > self._headers:
            raise too_many_headers(self._headers, len(rows) - 3)
        headers = list(map(self._lines.__getitem__, rows[1:-2]))
        fields = dict(headers)
        if len(fields) != len(headers):
            fields = _unrepeated(headers)
        if version == "1.1" and b"host" not in fields:
            raise malformed("host", "be sent", "no such header", "Send a Host header.")
        length = _length(fields, version)
        keep = version == "1.1"
        said = fields.get(b"connection")
        if said is not None and keep and said != b"keep-alive":
            keep = b"close" not in [word.strip(b" \t") for word in said.lower().split(b",")]
        waits = False
        expected = fields.get(b"expect")
        if expected is not None:
            if expected.lower() != b"100-continue":
                raise unmet("something else")
            waits = version == "1.1" and length != 0
        return Head(method, path, query, version, headers, fields, length, keep, waits)

    def _target(self, first: bytes) -> tuple[str, str, bytes, str]:
        match = _FIRST(first)
        if match is None or match[1] == b"CONNECT":
            rule = "be a method, a path that starts with / and HTTP/1.1, one space between each"
            raise malformed("request line", rule, "something else", "Correct the request.")
        path, mark, query = match[2].partition(b"?")
        version = "1.1" if match[3] == b"1" else "1.0"
        told = (match[1].decode("ascii"), path.decode("ascii"), query, version)
        if not mark and len(first) <= _KEPT_LENGTH:
            if len(self._targets) >= _KEPT_TARGETS:
                self._targets.clear()
            self._targets[first] = told
        return told


def _unrepeated(headers: list[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """First value by name, where a name stands twice."""
    names = [name for name, _ in headers]
    for name in _ONCE:
        if names.count(name) > 1:
            raise malformed(name.decode("ascii"), "stand once", "several", "Send it once.")
    fields = dict(reversed(headers))
    if names.count(b"connection") > 1:
        fields[b"connection"] = b",".join(value for name, value in headers if name == b"connection")
    return fields


def _length(fields: dict[bytes, bytes], version: str) -> int:
    """Bytes of the body, or `CHUNKED`."""
    length = fields.get(b"content-length")
    coding = fields.get(b"transfer-encoding")
    if coding is None:
        if length is None:
            return 0
        if not length.isdigit() or len(length) > 18:
            rule = "be a whole number of bytes"
            raise malformed("content-length", rule, "something else", "Correct it.")
        return int(length)
    if length is not None or version != "1.1" or coding.lower() != b"chunked":
        rule = "be chunked, in HTTP/1.1, without a content-length beside it"
        raise malformed("transfer-encoding", rule, "something else", "Send a content-length.")
    return CHUNKED
