"""The manners of a bad upstream: how each answers one request on the wire."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from .payloads import (
    ABSURD,
    DONE,
    LAST_CHUNK,
    METADATA,
    USAGE,
    chunk,
    completion,
    error,
    event,
    events,
    head,
    piece,
    stream_head,
    whole,
)

if TYPE_CHECKING:
    from .upstream import Talk

Manner = Callable[..., Awaitable[None]]

#: By name; the words after a colon are handed on.
MANNERS: dict[str, Manner] = {}
#: Those that answer before the body of the request was read; to be named by the path.
EARLY = frozenset({"early", "early-close"})


class Dropped(Exception):  # noqa: N818 - a fact, not a failure
    """The connection has been ended on purpose."""


def manner(name: str) -> Callable[[Manner], Manner]:
    def add(function: Manner) -> Manner:
        MANNERS[name] = function
        return function

    return add


def asked_usage(talk: Talk) -> Any:
    return USAGE if talk.wants_usage else None


async def chunks(talk: Talk, pieces: list[bytes], seconds: float | None = None) -> None:
    """A whole stream, each piece a chunk of its own."""
    talk.send(stream_head())
    for data in pieces:
        talk.send(chunk(data))
        await talk.drain()
        if seconds is not None:
            await talk.pause(seconds)
    talk.send(LAST_CHUNK)


# --- good ones ------------------------------------------------------------------------------


@manner("good")
async def good(talk: Talk) -> None:
    """A whole answer, or a stream of 22 events, with usage where it is asked for."""
    if talk.stream:
        await chunks(talk, events(asked_usage(talk)))
    else:
        talk.send(whole(json.dumps(completion()).encode()))


@manner("paced")
async def paced(talk: Talk, seconds: str = "") -> None:
    """The same stream with a pause after each event."""
    await chunks(talk, events(asked_usage(talk)), float(seconds or talk.pace))


@manner("flaky")
async def flaky(talk: Talk, failures: str, status: str = "503") -> None:
    """The first so many requests fail, all others do well."""
    if talk.count <= int(failures):
        talk.send(whole(error("not yet", "flaky"), int(status)))
    else:
        await good(talk)


@manner("stale")
async def stale(talk: Talk) -> None:
    """A good answer that says the connection is kept, and then it is closed."""
    await good(talk)
    await talk.drop("fin")


# --- silent and slow ones -------------------------------------------------------------------


@manner("silent")
async def silent(talk: Talk) -> None:
    """The request is read and never answered."""
    await talk.forever()


@manner("headers-only")
async def headers_only(talk: Talk) -> None:
    """The head of a good answer, and never any of its body."""
    if talk.stream:
        talk.send(stream_head())
    else:
        talk.send(head(200, "content-length: 300"))
    await talk.forever()


async def drip(talk: Talk, data: bytes, seconds: float) -> None:
    for place in range(len(data)):
        talk.send(data[place : place + 1])
        await talk.pause(seconds)


@manner("slow-headers")
async def slow_headers(talk: Talk, seconds: str = "") -> None:
    """Status line and headers one byte at a time."""
    await drip(talk, whole(json.dumps(completion()).encode()), float(seconds or talk.pace))


@manner("slow-body")
async def slow_body(talk: Talk, seconds: str = "") -> None:
    """Headers at once, the body one byte at a time; a stream in chunks of one byte."""
    wait = float(seconds or talk.pace)
    if talk.stream:
        data = b"".join(events(asked_usage(talk)))
        await chunks(talk, [bytes([byte]) for byte in data], wait)
        return
    body = json.dumps(completion()).encode()
    talk.send(head(200, f"content-length: {len(body)}"))
    await drip(talk, body, wait)


@manner("endless")
async def endless(talk: Talk) -> None:
    """A stream that goes on for ever, as fast as it is taken."""
    talk.send(stream_head())
    data = chunk(event(piece({"content": "again "})))
    while True:
        talk.send(data)
        await talk.drain()


@manner("gigabyte")
async def gigabyte(talk: Talk, how: str = "chunked") -> None:
    """One JSON string without an end; `length`: announced as 16 GiB."""
    lines = {"chunked": "transfer-encoding: chunked", "length": f"content-length: {1 << 34}"}
    talk.send(head(200, lines[how]))
    data = b'{"id": "' + b"x" * 65_528
    while True:
        talk.send(chunk(data) if how == "chunked" else data)
        await talk.drain()
        data = b"x" * 65_536


# --- broken ones ----------------------------------------------------------------------------


@manner("hangup")
async def hangup(talk: Talk, how: str = "fin") -> None:
    """The request is read, and the connection ended without a word."""
    await talk.drop(how)


@manner("die")
async def die(talk: Talk, how: str = "fin") -> None:
    """The connection ends after the first chunk; for a whole answer, in the middle of it."""
    if talk.stream:
        talk.send(stream_head() + chunk(b"".join(events()[:2])))
    else:
        answer = whole(json.dumps(completion()).encode())
        talk.send(answer[: len(answer) - 100])
    await talk.drain()
    await talk.drop(how)


@manner("head-dies")
async def head_dies(talk: Talk) -> None:
    """The connection ends in good order after the head of a good answer."""
    talk.send(stream_head() if talk.stream else head(200, "content-length: 300"))
    await talk.drain()
    await talk.drop("fin")


@manner("truncated")
async def truncated(talk: Talk, how: str = "chunked") -> None:
    """A stream without `[DONE]` that ends as HTTP should: by a last chunk, or by its length."""
    pieces = events()[:5]
    if how == "chunked":
        await chunks(talk, pieces)
    else:
        body = b"".join(pieces)
        talk.send(stream_head(f"content-length: {len(body)}") + body)


@manner("length")
async def length(talk: Talk, how: str) -> None:
    """A wrong content-length: `long` announces more than comes, `short` less."""
    body = b"".join(events()) if talk.stream else json.dumps(completion()).encode()
    kind = "text/event-stream" if talk.stream else "application/json"
    told = len(body) + {"long": 50, "short": -50}[how]
    talk.send(head(200, f"content-length: {told}", kind=kind) + body)
    await talk.drain()
    await talk.drop("fin")


@manner("both-lengths")
async def both_lengths(talk: Talk) -> None:
    """Content-length and transfer-encoding at once, which do not agree."""
    body = json.dumps(completion()).encode()
    talk.send(head(200, "content-length: 5", "transfer-encoding: chunked"))
    talk.send(chunk(body) + LAST_CHUNK)


@manner("two-lengths")
async def two_lengths(talk: Talk) -> None:
    """Two values of content-length."""
    body = json.dumps(completion()).encode()
    talk.send(head(200, f"content-length: {len(body)}", "content-length: 5") + body)


@manner("garbage")
async def garbage(talk: Talk) -> None:
    """A status line that is none."""
    talk.send(b"\x16\x03\x01 nothing like HTTP\r\n\r\n")


@manner("bad-json")
async def bad_json(talk: Talk) -> None:
    """An answer that breaks off in the middle of its JSON, and is whole as HTTP."""
    talk.send(whole(json.dumps(completion()).encode()[:-20]))


@manner("html")
async def html(talk: Talk) -> None:
    """A page, as a proxy in between shows it."""
    body = b"<h1>hello</h1>"
    talk.send(head(200, f"content-length: {len(body)}", kind="text/html") + body)


# --- statuses -------------------------------------------------------------------------------


@manner("status")
async def status(talk: Talk, number: str, after: str = "") -> None:
    """A status with an error in OpenAI's shape, and `retry-after` where it is given."""
    lines = [f"retry-after: {after}"] if after else []
    talk.send(whole(error("no", f"status-{number}"), int(number), *lines))


@manner("informational")
async def informational(talk: Talk) -> None:
    """Answers of the 1xx kind before the one that counts."""
    talk.send(b"HTTP/1.1 100 Continue\r\n\r\n")
    talk.send(b"HTTP/1.1 103 Early Hints\r\nlink: </x>; rel=preload\r\n\r\n")
    await good(talk)


@manner("redirect")
async def redirect(talk: Talk, where: str = "self") -> None:
    """Sends the client to the same place again, or to the metadata service of a cloud."""
    place = {"self": talk.own_url, "metadata": METADATA}[where]
    talk.send(whole(b"{}", 307, f"location: {place}"))


@manner("early")
async def early(talk: Talk, number: str = "413") -> None:
    """Answers before the body was read, then reads it and keeps the connection."""
    talk.send(whole(error("too long", "early"), int(number)))


@manner("early-close")
async def early_close(talk: Talk, number: str = "413") -> None:
    """Answers before the body was read, and closes."""
    talk.send(whole(error("too long", "early"), int(number), "connection: close"))
    await talk.drop("fin")


# --- streams --------------------------------------------------------------------------------


@manner("rate-in-stream")
async def rate_in_stream(talk: Talk) -> None:
    """After two events the upstream is too busy: status 429, in an event."""
    await chunks(talk, [*events()[:2], event(error("too many requests", 429))])


@manner("error-event")
async def error_event(talk: Talk) -> None:
    """After two events a named event of an error, and `[DONE]` all the same."""
    bad = b"event: error\n" + event(error("overloaded", "busy"))
    await chunks(talk, [*events()[:2], bad, DONE])


@manner("bad-event")
async def bad_event(talk: Talk) -> None:
    """One event in the middle is no JSON."""
    pieces = events(asked_usage(talk))
    await chunks(talk, [*pieces[:3], event(b'{"id": "chatcmpl-bad", "choices": ['), *pieces[3:]])


@manner("crlf")
async def crlf(talk: Talk) -> None:
    """Lines end in CR and LF."""
    await chunks(talk, events(asked_usage(talk), b"\r\n"))


@manner("comments")
async def comments(talk: Talk) -> None:
    """A comment before every event."""
    pieces = events(asked_usage(talk))
    await chunks(talk, [part for data in pieces for part in (b": still here\n\n", data)])


@manner("pings")
async def pings(talk: Talk) -> None:
    """Named events of another kind between the others."""
    ping = b"event: ping\n" + event({"type": "ping"})
    pieces = events(asked_usage(talk))
    await chunks(talk, [part for data in pieces for part in (ping, data)])


@manner("no-blank-line")
async def no_blank_line(talk: Talk) -> None:
    """The end mark is the last of the stream, without its blank line."""
    pieces = events(asked_usage(talk))
    await chunks(talk, [*pieces[:-1], DONE.rstrip(b"\n")])


@manner("bytewise")
async def bytewise(talk: Talk) -> None:
    """Every byte of the events is a chunk of its own."""
    data = b"".join(events(asked_usage(talk)))
    await chunks(talk, [bytes([byte]) for byte in data])


@manner("one-chunk")
async def one_chunk(talk: Talk) -> None:
    """All events at once."""
    await chunks(talk, [b"".join(events(asked_usage(talk)))])


@manner("huge-event")
async def huge_event(talk: Talk, size: str = "4000000") -> None:
    """One event of so many bytes among the others."""
    pieces = events(asked_usage(talk))
    huge = event(piece({"content": "x" * int(size)}))
    await chunks(talk, [*pieces[:2], huge, *pieces[2:]])


# --- usage ----------------------------------------------------------------------------------


@manner("no-usage")
async def no_usage(talk: Talk) -> None:
    """The tokens are never told, asked or not."""
    await usage_of(talk, None)


@manner("usage")
async def usage(talk: Talk, which: str) -> None:
    """Tokens that make no sense: a name of `ABSURD`."""
    await usage_of(talk, ABSURD[which])


async def usage_of(talk: Talk, told: Any) -> None:
    if talk.stream:
        await chunks(talk, events(told))
    else:
        talk.send(whole(json.dumps(completion(told)).encode()))


@manner("usage-twice")
async def usage_twice(talk: Talk) -> None:
    """Tokens told twice and differently; in a whole answer by the same key."""
    other = {name: 2 * value for name, value in USAGE.items()}
    if talk.stream:
        pieces = events(USAGE)
        await chunks(talk, [*pieces[:-1], events(other)[-2], pieces[-1]])
    else:
        text = json.dumps(completion()).encode()
        talk.send(whole(text[:-1] + b', "usage": ' + json.dumps(other).encode() + b"}"))
