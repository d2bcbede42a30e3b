"""Sends what `gateway.py` tells it to and times the answers.

    python benchmarks/_gateway_load.py PLAN

PLAN is a JSON file: `port`, `bodies` (sent in turn), `headers` (lines), `low` and `high` (bytes a
right answer's body has), and either `due`, a list of seconds at which requests are sent whatever
the answers do (an open loop: latency counts from the time a request was due), or `connections` and
`seconds` (a closed loop: each connection asks again as soon as it is answered). One line of JSON
comes back: milliseconds of each right answer, failures by kind, how late requests were sent.

One thread and epoll, no event loop of a library: what it spends is taken from the upstream that
shares its core, and a timer that counts in whole milliseconds would blur what it measures.
"""

from __future__ import annotations

import collections
import contextlib
import json
import math
import select
import socket
import sys
import time
from pathlib import Path
from typing import Any

import httptools

#: Seconds until a request without an answer has failed.
PATIENCE = 30.0


class Connection:
    """One connection, which has at most one request on its way."""

    __slots__ = ("due", "left", "load", "parser", "size", "socket")

    def __init__(self, load: Load) -> None:
        self.load = load
        self.socket = socket.socket()
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.due = math.nan
        self.left = b""
        self.size = 0
        self.parser = httptools.HttpResponseParser(self)
        with contextlib.suppress(OSError):  # what is wrong shows when something is sent
            self.socket.connect(("127.0.0.1", load.port))
        load.poll.register(self.socket, select.EPOLLIN | select.EPOLLOUT)

    def ask(self, due: float, request: bytes) -> None:
        """Send a request; `due` is the time its latency counts from."""
        self.due, self.left, self.size = due, request, 0
        self.write()

    def write(self) -> None:
        """What has not been sent, as much as goes; a connection being made takes nothing yet."""
        try:
            self.left = self.left[self.socket.send(self.left) :]
        except BlockingIOError:
            self.load.poll.modify(self.socket, select.EPOLLIN | select.EPOLLOUT)
        except OSError:
            self.load.failed(self, "connection")

    def event(self, what: int) -> None:
        """The kernel has something."""
        if what & select.EPOLLOUT and self.left:
            self.write()
        if self.socket.fileno() < 0:
            return
        if what & select.EPOLLOUT and not self.left:
            self.load.poll.modify(self.socket, select.EPOLLIN)
        if what & ~select.EPOLLOUT:
            try:
                data = self.socket.recv(1 << 18)
                if data:
                    self.parser.feed_data(data)
                else:
                    self.load.failed(self, "closed")
            except BlockingIOError:
                pass
            except OSError:
                self.load.failed(self, "connection")
            except httptools.HttpParserCallbackError:
                raise  # a mistake of this file
            except httptools.HttpParserError:
                self.load.failed(self, "protocol")

    def on_body(self, data: bytes) -> None:
        """Some of the answer."""
        self.size += len(data)

    def on_message_complete(self) -> None:
        """All of it."""
        self.load.answered(self)


class Load:
    """All connections, and what has been counted."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self.port = int(plan["port"])
        self.low, self.high = plan["low"], plan["high"]
        head = "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\n" + "".join(
            f"{line}\r\n" for line in plan["headers"]
        )
        self.requests = [
            f"{head}content-length: {len(body.encode())}\r\n\r\n{body}".encode()
            for body in plan["bodies"]
        ]
        self.poll = select.epoll()
        self.all: dict[int, Connection] = {}
        self.idle: list[Connection] = []
        self.waiting: collections.deque[float] = collections.deque()
        self.took: list[float] = []
        self.late: list[float] = []
        self.failures: collections.Counter[str] = collections.Counter()
        self.sent = 0
        self.again_until = -math.inf
        self.most = 4000

    def ask(self, due: float) -> None:
        """One request, on a connection that is idle, else on a new one."""
        if self.idle:
            one = self.idle.pop()
        elif len(self.all) < self.most:
            one = Connection(self)
            self.all[one.socket.fileno()] = one
        else:
            self.waiting.append(due)
            return
        self.sent += 1
        self.late.append(time.perf_counter() - due)
        one.ask(due, self.requests[self.sent % len(self.requests)])

    def answered(self, one: Connection) -> None:
        """Count an answer; its connection is free."""
        now = time.perf_counter()
        status = one.parser.get_status_code()
        if status != 200:
            self.failures[f"status {status}"] += 1
        elif not self.low <= one.size <= self.high:
            self.failures["wrong length"] += 1
        else:
            self.took.append(now - one.due)
        one.due = math.nan
        if not one.parser.should_keep_alive():
            self.drop(one)
        else:
            self.idle.append(one)
        if self.waiting:
            self.ask(self.waiting.popleft())
        elif now < self.again_until:
            self.ask(now)

    def failed(self, one: Connection, why: str) -> None:
        """Count a failure; a connection that broke while idle is none."""
        if math.isnan(one.due):
            self.idle.remove(one)
        else:
            self.failures[why] += 1
            if time.perf_counter() < self.again_until:
                self.waiting.append(time.perf_counter())
        self.drop(one)

    def drop(self, one: Connection) -> None:
        """Close a connection."""
        del self.all[one.socket.fileno()]
        one.due = math.nan
        one.socket.close()

    def wait(self, seconds: float) -> None:
        """Handle what comes; the wait is exact to microseconds, which epoll's own is not."""
        if seconds > 0:
            select.select([self.poll], [], [], seconds)
        for file, what in self.poll.poll(0):
            one = self.all.get(file)
            if one is not None:
                one.event(what)
        for _ in range(len(self.waiting) if len(self.all) < self.most else 0):
            self.ask(self.waiting.popleft())

    def busy(self) -> bool:
        """Whether an answer is still to come."""
        return len(self.idle) < len(self.all) or bool(self.waiting)

    def replay(self, due: list[float]) -> None:
        """Send each request at its time."""
        start = time.perf_counter() + 0.05
        for seconds in due:
            while (left := start + seconds - time.perf_counter()) > 0:
                self.wait(left)
            self.ask(start + seconds)
        self.finish()

    def hammer(self, connections: int, seconds: float) -> None:
        """Keep every connection busy."""
        start = time.perf_counter()
        self.again_until = start + seconds
        for _ in range(connections):
            self.ask(time.perf_counter())
        self.finish()

    def finish(self) -> None:
        """Wait for what is on its way; what does not come has failed."""
        until = max(time.perf_counter(), self.again_until) + PATIENCE
        while self.busy() and time.perf_counter() < until:
            self.wait(0.05)
        self.failures["timeout"] += len(self.all) - len(self.idle) + len(self.waiting)


def main() -> None:
    """Run it."""
    plan = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    load = Load(plan)
    began = time.perf_counter()
    if "due" in plan:
        load.replay(plan["due"])
    else:
        load.hammer(plan["connections"], plan["seconds"])
    failures = {kind: count for kind, count in load.failures.items() if count}
    json.dump(
        {
            "took_ms": [round(seconds * 1e3, 4) for seconds in load.took],
            "late_ms": [round(seconds * 1e3, 4) for seconds in load.late],
            "failures": failures,
            "seconds": time.perf_counter() - began,
            "connections": len(load.all),
        },
        sys.stdout,
    )


if __name__ == "__main__":
    main()
