"""The client's side of HTTP/1.1: asks one upstream over connections that are kept."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import re
import socket
import ssl
from collections.abc import Callable
from urllib.parse import urlsplit

from turnout.core import InputError
from turnout.serve.errors import where
from turnout.serve.wire.call import Call, Way
from turnout.serve.wire.clock import Clock
from turnout.serve.wire.limits import Limits
from turnout.serve.wire.link import Link
from turnout.serve.wire.receiver import Failure, Receiver, Times

__all__ = ["Call", "Failure", "Origin", "Receiver", "Times"]

_log = logging.getLogger("turnout.serve")

_PATH = re.compile(rb"/[!-~]*").fullmatch
_HOST = re.compile(r"[A-Za-z0-9._-]+").fullmatch
#: First lines, and blocks of headers, that are known.
_KEPT = 64
#: Seconds in which a connection that was closed is told so by the loop.
_TOLD = 1.0


class _RefusedAddressError(Exception):
    """The host has no address that may be connected to."""


class Origin:
    """One scheme://host:port, and the idle connections to it, the last used first.

    The host is looked up for each new connection; every address found is shown to `address_ok`
    first, and the connection goes to just the address that was shown.

    Parameters
    ----------
    url : str
        Such as `https://api.example.com` or `http://127.0.0.1:8000`, without a path.
    times : Times
    limits : Limits
        Those of answers and of the pool.
    clock : Clock
        Has to tick while the origin is used.
    address_ok : callable
        Whether an IP address, as text, may be connected to.
    tls : ssl.SSLContext, optional
        For https; by default the system's certificates are trusted.

    Attributes
    ----------
    connected, reused, tried_again : int
        Connections made; requests sent over a kept one; those of them sent a second time because
        the connection had been closed by the upstream.
    bytes_in, bytes_out : int
        Bytes read and written.

    Raises
    ------
    InputError
        It is no such URL. The message does not quote it.
    """

    def __init__(
        self,
        url: str,
        *,
        times: Times,
        limits: Limits,
        clock: Clock,
        address_ok: Callable[[str], bool],
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.clock = clock
        self.limits = limits
        self.times = times
        self.connected = self.reused = self.tried_again = self.bytes_in = self.bytes_out = 0
        self._secure, self._host, self._port = _parse(url)
        self._tls = (tls or ssl.create_default_context()) if self._secure else None
        self._address_ok = address_ok
        self._heads: dict[bytes, bytes] = {}
        self._checked: set[bytes] = set()
        self._idle: list[Way] = []
        self._links: set[Way] = set()
        self._connecting: dict[asyncio.Task[None], Call] = {}
        self._emptied: asyncio.Event | None = None
        self._closed = False

    @property
    def idle(self) -> int:
        """Connections that wait for a request."""
        return len(self._idle)

    @property
    def open(self) -> int:
        """Connections, idle ones included."""
        return len(self._links)

    def post(self, path: bytes, headers: bytes, body: bytes, receiver: Receiver) -> Call:
        """Ask. The receiver is never called before this returns.

        Parameters
        ----------
        path : bytes
            With its query; visible ASCII.
        headers : bytes
            Lines `name: value`, each ended by CR LF; without `host` and without a length.
        body : bytes
        receiver : Receiver

        Returns
        -------
        Call

        Raises
        ------
        InputError
            Path or headers would not stay what they are in the request, or the origin is closed.
        """
        if self._closed:
            raise InputError("origin", "be open", "a closed one", "Make another.")
        first = self._heads.get(path) or self._first(path)
        if headers not in self._checked:
            self._check(headers)
        message = b"%b%bcontent-length: %d\r\n\r\n%b" % (first, headers, len(body), body)
        call = Call(self, message, receiver, self.clock.now + self.times.total)
        if self._idle:
            link = self._idle.pop()
            self.reused += 1
            link.take(call, receiver)
        else:
            self._connect(call)
        return call

    async def close(self) -> None:
        """Close all connections; calls under way fail with `closed`."""
        self._closed = True
        tasks = list(self._connecting)
        for call in list(self._connecting.values()):
            call.fail("closed")
        for link in list(self._links):
            link.abandon()
        if tasks:
            await asyncio.wait(tasks, timeout=_TOLD)
        if self._links:
            self._emptied = asyncio.Event()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_TOLD):
                    await self._emptied.wait()

    # From the links

    def made(self, link: Way) -> None:
        """A link is connected."""
        self.connected += 1
        self._links.add(link)

    def put_back(self, link: Way) -> None:
        """A link can be used again."""
        if self._closed or len(self._idle) >= self.limits.pool:
            link.leave()
        else:
            self._idle.append(link)

    def lost(self, link: Way) -> None:
        """A link is closed, or about to be."""
        with contextlib.suppress(ValueError):  # it need not be idle
            self._idle.remove(link)

    def gone(self, link: Way) -> None:
        """The loop has closed a link."""
        self._links.discard(link)
        if self._emptied is not None and not self._links:
            self._emptied.set()

    def again(self, call: Call) -> None:
        """A kept connection turned out to be closed: ask on a new one."""
        self.tried_again += 1
        if self._closed:
            call.fail("closed")
        else:
            self._connect(call)

    # Its own

    def _first(self, path: bytes) -> bytes:
        """Request line and host."""
        if not _PATH(path):
            raise InputError("path", "start with / and be visible ASCII", "something else", "")
        host = f"[{self._host}]" if ":" in self._host else self._host
        if self._port != (443 if self._secure else 80):
            host = f"{host}:{self._port}"
        if len(self._heads) >= _KEPT:
            self._heads.clear()
        first = b"POST %b HTTP/1.1\r\nhost: %b\r\n" % (path, host.encode("ascii"))
        self._heads[path] = first
        return first

    def _check(self, headers: bytes) -> None:
        """Refuse what is not header lines; most requests bring the same ones."""
        if headers and (headers[-2:] != b"\r\n" or b"\r\n\r\n" in headers or headers[0] < 33):
            hint = "End each line with CR LF."
            raise InputError("headers", "be header lines", "something else", hint)
        if len(self._checked) >= _KEPT:
            self._checked.clear()
        self._checked.add(headers)

    def _connect(self, call: Call) -> None:
        clock = self.clock
        call.deadline = min(clock.now + self.times.connect, call.total)
        clock.watch(call)
        task = asyncio.get_running_loop().create_task(self._connected(call))
        call.give_up = task.cancel
        self._connecting[task] = call
        task.add_done_callback(self._connecting.pop)

    async def _connected(self, call: Call) -> None:
        """Send a request over a new connection."""
        failed = ""
        try:
            link = await self._open()
        except _RefusedAddressError:
            failed = "address"
        except ssl.SSLError:
            failed = "tls"
        except OSError:
            failed = "connect"
        except Exception as error:  # whoever asked is to hear of an end in any case
            _log.error("connecting failed: %s", where(error))
            failed = "connect"
        finally:
            self.clock.forget(call)
            call.give_up = None
        if failed:
            call.fail(failed)
        elif link.closing:  # it ended, or spoke, before it was asked
            call.fail("closed")
        elif call.receiver is None:
            link.leave()
        else:
            link.take(call, call.receiver)

    async def _open(self) -> Link:
        """A connection to the first address that may be used and answers."""
        loop = asyncio.get_running_loop()
        addresses = [found for found in await self._addresses(loop) if self._address_ok(found)]
        if not addresses:
            raise _RefusedAddressError
        # one address that swallows everything is not to use up the time of the others
        share = self.times.connect / len(addresses) if len(addresses) > 1 else None
        failed = OSError()
        for address in addresses:
            try:
                async with asyncio.timeout(share):
                    return await self._linked(loop, address)
            except ssl.SSLError:
                raise
            except OSError as error:  # TimeoutError is one
                failed = error
        raise failed

    async def _linked(self, loop: asyncio.AbstractEventLoop, address: str) -> Link:
        link = Link(self)
        try:
            return await self._joined(loop, address, link)
        except BaseException:
            # uvloop does not tell a protocol of its end whose maker was cancelled meanwhile
            self.gone(link)
            self.clock.forget(link)
            raise

    async def _joined(self, loop: asyncio.AbstractEventLoop, address: str, link: Link) -> Link:
        # An address is not looked up. A socket made here could be closed by uvloop and us both.
        if self._tls is None:
            await loop.create_connection(lambda: link, address, self._port)
            return link
        try:
            transport, _ = await loop.create_connection(
                lambda: link, address, self._port, ssl=self._tls, server_hostname=self._host
            )
        except (ConnectionResetError, ConnectionAbortedError):
            raise ssl.SSLError from None  # who hangs up now does so in the handshake
        if transport.is_closing():  # and uvloop may take that for a success
            raise ssl.SSLError
        return link

    async def _addresses(self, loop: asyncio.AbstractEventLoop) -> list[str]:
        with contextlib.suppress(ValueError):
            return [str(ipaddress.ip_address(self._host))]
        found = await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        return list(dict.fromkeys(str(address[0]) for *_, address in found))


def _parse(url: str) -> tuple[bool, str, int]:
    """Whether it is https, host, port."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
        if ":" in host:
            ipaddress.IPv6Address(host)
        elif not _HOST(host):
            raise ValueError
    except ValueError:
        raise _no_origin() from None
    plain = parts.path in ("", "/") and not parts.query and not parts.fragment
    if parts.scheme not in ("http", "https") or "@" in parts.netloc or not plain or port == 0:
        raise _no_origin()
    secure = parts.scheme == "https"
    return secure, host, port or (443 if secure else 80)


def _no_origin() -> InputError:
    rule = "be http:// or https://, a host and perhaps a port"
    hint = "Leave out user, path and query."
    return InputError("upstream", rule, "something else", hint)
