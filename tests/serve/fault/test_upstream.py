"""The bad upstream itself: each manner does on the wire what it says."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import h11
import pytest

from .manners import MANNERS
from .payloads import ABSURD, METADATA, USAGE, WORDS
from .upstream import CERTIFICATE, BadUpstream

ANSWER = "".join(WORDS)


@pytest.fixture(scope="module")
def _served() -> Iterator[BadUpstream]:
    with BadUpstream(pace=3600.0) as bad:
        yield bad


@pytest.fixture
def bad(_served: BadUpstream) -> BadUpstream:
    _served.clear()
    return _served


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    chunks: list[bytes] = field(default_factory=list)
    informational: list[int] = field(default_factory=list)

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def data(self) -> list[bytes]:
        """Payloads of the events."""
        lines = self.body.replace(b"\r\n", b"\n").split(b"\n")
        return [line[6:] for line in lines if line.startswith(b"data: ")]

    @property
    def text(self) -> str:
        choices = [json.loads(data)["choices"] for data in self.data if data != b"[DONE]"]
        return "".join(choice[0]["delta"].get("content", "") for choice in choices if choice)


class Client:
    """A client on a bare socket, strict about HTTP."""

    def __init__(self, url: str, raw: socket.socket) -> None:
        self.raw = raw
        self.path = urlsplit(url).path + "/chat/completions"
        self.parser = h11.Connection(h11.CLIENT)
        self.method = "POST"

    def ask(self, model: str = "good", **body: Any) -> Client:
        raw = json.dumps({"model": model, "messages": [], **body}).encode()
        return self.post(raw)

    def post(self, raw: bytes, length: int | None = None) -> Client:
        """Send a request, or only the first part of a longer one."""
        headers = [("host", "x"), ("content-length", str(len(raw) if length is None else length))]
        request = h11.Request(method="POST", target=self.path, headers=headers)
        self.raw.sendall(self.parser.send(request) or b"")
        self.raw.sendall(self.parser.send(h11.Data(data=raw)) or b"")
        if length is None:
            self.parser.send(h11.EndOfMessage())
        return self

    def answer(self) -> Answer:
        """The whole answer; `h11.RemoteProtocolError` where it is not whole or not HTTP."""
        answer = Answer(0, {})
        part = b""
        while True:
            found = self.parser.next_event()
            if found is h11.NEED_DATA:
                self.parser.receive_data(self.raw.recv(1 << 16))
            elif isinstance(found, h11.InformationalResponse):
                answer.informational.append(found.status_code)
            elif isinstance(found, h11.Response):
                answer.status = found.status_code
                answer.headers = {name.decode(): value.decode() for name, value in found.headers}
            elif isinstance(found, h11.Data):
                part += found.data
                if found.chunk_end or not found.chunk_start:
                    answer.chunks.append(part)
                    part = b""
            elif isinstance(found, h11.EndOfMessage):
                return answer

    def again(self) -> Client:
        """Ready for the next request on the same connection."""
        self.parser.start_next_cycle()
        return self

    def rest(self) -> bytes:
        """Everything until the end, as it is."""
        pieces = []
        while piece := self.raw.recv(1 << 16):
            pieces.append(piece)
        return b"".join(pieces)

    def nothing_more(self) -> bool:
        """Whether nothing has arrived that was not read."""
        self.raw.setblocking(False)
        try:
            self.raw.recv(1)
        except BlockingIOError:
            return True
        finally:
            self.raw.settimeout(10)
        return False


@contextmanager
def client(url: str) -> Iterator[Client]:
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), timeout=10) as raw:
        if parts.scheme == "https":
            context = ssl.create_default_context(cafile=str(CERTIFICATE))
            with context.wrap_socket(raw, server_hostname=parts.hostname) as wrapped:
                yield Client(url, wrapped)
        else:
            yield Client(url, raw)


def asked(bad: BadUpstream, model: str, **body: Any) -> Answer:
    with client(bad.url) as made:
        return made.ask(model, **body).answer()


STREAM = {"stream": True}
WITH_USAGE = {"stream": True, "stream_options": {"include_usage": True}}


def test_good_and_on_record(bad: BadUpstream) -> None:
    """A good answer is whole, a second one goes over the same connection, all is on record."""
    with client(bad.url) as made:
        assert made.ask("good", extra=1).answer().json["choices"][0]["message"]["content"] == ANSWER
        stream = made.again().ask("good", **STREAM).answer()
    assert (len(stream.data), stream.data[-1], stream.text) == (22, b"[DONE]", ANSWER)
    first, second = bad.wait_for_requests(2)
    assert json.loads(first.body)["extra"] == 1
    assert first.header("host") == "x"
    assert first.at <= (first.whole or 0) <= second.at
    (link,) = bad.wait_for_closed(1)
    assert (link.requests, link.ended) == (2, "eof")
    assert link.opened <= first.at
    assert second.at <= (link.closed or 0)


def test_usage_where_it_is_asked_for(bad: BadUpstream) -> None:
    """A stream tells its tokens in one more event when asked; a whole answer always."""
    stream = asked(bad, "good", **WITH_USAGE)
    assert len(stream.data) == 23
    assert json.loads(stream.data[-2])["usage"] == USAGE
    assert b"usage" not in asked(bad, "good", **STREAM).body
    assert asked(bad, "good").json["usage"] == USAGE


def test_paced(bad: BadUpstream) -> None:
    """After an event comes a pause: of a stream that pauses long only the first one is there."""
    with client(bad.url) as made:
        made.ask("paced", **STREAM)
        got = b""
        while not got.endswith(b"\n\n\r\n"):
            got += made.raw.recv(1)
        assert got.count(b"data: ") == 1
        assert made.nothing_more()
    assert len(asked(bad, "paced:0", **STREAM).data) == 22


def test_flaky_by_count(bad: BadUpstream) -> None:
    """The first so many requests fail with the status that was said, later ones do well."""
    statuses = [asked(bad, "flaky:2:500").status for _ in range(4)]
    assert statuses == [500, 500, 200, 200]


def test_stale(bad: BadUpstream) -> None:
    """A good answer that promises to keep the connection, which then ends in good order."""
    with client(bad.url) as made:
        answer = made.ask("stale").answer()
        assert answer.status == 200
        assert "connection" not in answer.headers
        assert made.rest() == b""


def test_silent(bad: BadUpstream) -> None:
    """The request is read, nothing is answered, and the client's leaving is seen."""
    with client(bad.url) as made:
        made.ask("silent")
        bad.wait_for_requests(1)
        assert made.nothing_more()
    assert bad.wait_for_closed(1)[0].ended == "eof"


@pytest.mark.parametrize("stream", [False, True])
def test_headers_only(bad: BadUpstream, stream: bool) -> None:
    """The head comes at once, and nothing after it."""
    with client(bad.url) as made:
        made.ask("headers-only", stream=stream)
        got = b""
        while not got.endswith(b"\r\n\r\n"):
            got += made.raw.recv(1)
        assert got.startswith(b"HTTP/1.1 200 ")
        assert made.nothing_more()


def test_a_reset_of_the_client_is_seen(bad: BadUpstream) -> None:
    """A client that breaks the connection is told from one that closes it."""
    with client(bad.url) as made:
        made.ask("silent")
        bad.wait_for_requests(1)
        made.raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    assert bad.wait_for_closed(1)[0].ended == "reset"


@pytest.mark.parametrize("body", [{}, STREAM])
def test_slow_headers(bad: BadUpstream, body: dict[str, Any]) -> None:
    """One byte of the head comes, and for a long time no other; at last the answer is good."""
    with client(bad.url) as made:
        made.ask("slow-headers", **body)
        assert made.raw.recv(100) == b"H"
        assert made.nothing_more()
    assert asked(bad, "slow-headers:0", **body).status == 200


def test_slow_body(bad: BadUpstream) -> None:
    """The head comes whole, then one byte of the body, and for a long time no other."""
    with client(bad.url) as made:
        made.ask("slow-body")
        got = b""
        while b"\r\n\r\n{" not in got:
            got += made.raw.recv(100)
        assert got.endswith(b"\r\n\r\n{")
        assert made.nothing_more()
    assert asked(bad, "slow-body:0").json["usage"] == USAGE
    assert set(map(len, asked(bad, "slow-body:0", **STREAM).chunks)) == {1}


@pytest.mark.parametrize("model", ["endless", "gigabyte", "gigabyte:length"])
def test_without_an_end(bad: BadUpstream, model: str) -> None:
    """Megabytes come, waiting for who reads slowly, until the client leaves."""
    with client(bad.url) as made:
        made.ask(model, **STREAM)
        got = 0
        while got < 2_000_000:
            got += len(made.raw.recv(1 << 20))
        assert bad.links[0].closed is None
    bad.wait_for_closed(1)


def test_announces_sixteen_gigabytes(bad: BadUpstream) -> None:
    """The length variant says how much would come."""
    with client(bad.url) as made:
        assert b"content-length: 17179869184\r\n" in made.ask("gigabyte:length").raw.recv(300)


@pytest.mark.parametrize("body", [{}, STREAM])
@pytest.mark.parametrize("model", ["hangup", "die"])
def test_ends_in_good_order_or_by_reset(bad: BadUpstream, model: str, body: dict[str, Any]) -> None:
    """The end is a FIN or a reset, after a part of the answer or after nothing."""
    with client(bad.url) as made:
        got = made.ask(f"{model}:fin", **body).rest()
    assert got.startswith(b"HTTP/1.1 200") if model == "die" else got == b""
    assert not got.endswith((b"}", b"0\r\n\r\n"))
    assert got.count(b"data: ") == (2 if body and model == "die" else 0)
    with client(bad.url) as made:
        made.ask(f"{model}:rst", **body)
        with pytest.raises(ConnectionResetError):
            made.rest()
    assert [link.ended for link in bad.wait_for_closed(2)] == ["closed", "closed"]


@pytest.mark.parametrize("how", ["chunked", "length"])
def test_truncated(bad: BadUpstream, how: str) -> None:
    """A stream that is whole as HTTP and lacks its end mark; the connection goes on."""
    with client(bad.url) as made:
        answer = made.ask(f"truncated:{how}", **STREAM).answer()
        assert ("content-length" in answer.headers) == (how == "length")
        assert len(answer.data) == 5
        assert b"[DONE]" not in answer.body
        assert made.again().ask().answer().status == 200


@pytest.mark.parametrize("body", [{}, STREAM])
def test_wrong_lengths(bad: BadUpstream, body: dict[str, Any]) -> None:
    """Too long: the connection ends before the length is reached. Too short: bytes are left."""
    with client(bad.url) as made:
        made.ask("length:long", **body)
        with pytest.raises(h11.RemoteProtocolError, match="without sending complete"):
            made.answer()
    with client(bad.url) as made:
        cut = made.ask("length:short", **body).answer()
        left = made.parser.trailing_data[0] + made.rest()
    assert len(left) == 50
    assert int(cut.headers["content-length"]) == len(cut.body)


def test_two_ways_to_end(bad: BadUpstream) -> None:
    """Both headers stand in the head, or two lengths that do not agree."""
    with client(bad.url) as made:
        head = made.ask("both-lengths").raw.recv(1 << 16)
    assert b"content-length: 5\r\n" in head
    assert b"transfer-encoding: chunked\r\n" in head
    with client(bad.url) as made:
        made.ask("two-lengths")
        with pytest.raises(h11.RemoteProtocolError, match="conflicting Content-Length"):
            made.answer()


def test_garbage(bad: BadUpstream) -> None:
    """What comes is no HTTP."""
    with client(bad.url) as made:
        made.ask("garbage")
        with pytest.raises(h11.RemoteProtocolError):
            made.answer()


def test_not_json(bad: BadUpstream) -> None:
    """A whole answer that breaks off, and a page."""
    cut = asked(bad, "bad-json")
    assert cut.status == 200
    with pytest.raises(ValueError, match=r"delimiter|Expecting|Unterminated"):
        assert cut.json
    assert asked(bad, "html").headers["content-type"] == "text/html"


def test_status(bad: BadUpstream) -> None:
    """The status that was said, with and without a time to come back after."""
    answer = asked(bad, "status:503:7")
    assert (answer.status, answer.headers["retry-after"]) == (503, "7")
    assert answer.json["error"]["code"] == "status-503"
    assert "retry-after" not in asked(bad, "status:418").headers


def test_informational(bad: BadUpstream) -> None:
    """Two answers of the 1xx kind come before the one that counts."""
    answer = asked(bad, "informational")
    assert answer.informational == [100, 103]
    assert (answer.status, answer.json["usage"]) == (200, USAGE)


def test_redirect(bad: BadUpstream) -> None:
    """To the same place, by a whole URL, or to the metadata service."""
    answer = asked(bad, "redirect")
    assert (answer.status, answer.headers["location"]) == (307, f"{bad.url}/chat/completions")
    assert asked(bad, "redirect:metadata").headers["location"] == METADATA


def test_early(bad: BadUpstream) -> None:
    """The answer comes while most of the body is still to be sent; then the connection goes on."""
    with client(bad.by_path("early")) as made:
        answer = made.post(b"{", length=100).answer()
        assert (answer.status, bad.seen[0].whole) == (413, None)
        made.raw.sendall(made.parser.send(h11.Data(data=b" " * 99)) or b"")
        made.parser.send(h11.EndOfMessage())
        bad.wait_for_requests(1)
        made.path = "/v1/chat/completions"
        assert made.again().ask().answer().status == 200
    with client(bad.by_path("early-close:400")) as made:
        answer = made.post(b"", length=100).answer()
        assert (answer.status, answer.headers["connection"]) == (400, "close")
        assert made.rest() == b""


def test_errors_in_a_stream(bad: BadUpstream) -> None:
    """After two events comes an error; one variant ends as if all were well."""
    rate = asked(bad, "rate-in-stream", **STREAM)
    assert rate.status == 200
    assert len(rate.data) == 3
    assert json.loads(rate.data[-1])["error"]["code"] == 429
    named = asked(bad, "error-event", **STREAM)
    assert b"event: error\ndata: " in named.body
    assert "error" in json.loads(named.data[2])
    assert named.data[3:] == [b"[DONE]"]


def test_bad_event(bad: BadUpstream) -> None:
    """One event among good ones is no JSON."""
    data = asked(bad, "bad-event", **STREAM).data
    with pytest.raises(ValueError, match="Expecting"):
        json.loads(data[3])
    assert len(data) == 23


@pytest.mark.parametrize(
    ("model", "mark"),
    [("crlf", b"}\r\n\r\n"), ("comments", b": still here\n\n"), ("pings", b"event: ping\n")],
)
def test_ways_to_write_a_stream(bad: BadUpstream, model: str, mark: bytes) -> None:
    """The mark of each way stands at every event, and the good stream is inside."""
    answer = asked(bad, model, **STREAM)
    assert answer.body.count(mark) >= 21
    assert [data for data in answer.data if b"ping" not in data] == asked(
        bad, "good", **STREAM
    ).data


def test_no_blank_line(bad: BadUpstream) -> None:
    """The stream's last bytes are the end mark itself."""
    assert asked(bad, "no-blank-line", **STREAM).body.endswith(b"\n\ndata: [DONE]")


def test_sizes_of_pieces(bad: BadUpstream) -> None:
    """Every byte a chunk, every event a chunk, or all in one: the same bytes."""
    good = asked(bad, "good", **STREAM)
    bytewise = asked(bad, "bytewise", **STREAM)
    one = asked(bad, "one-chunk", **STREAM)
    assert good.body == bytewise.body == one.body
    assert len(good.chunks) == 22
    assert set(map(len, bytewise.chunks)) == {1}
    assert len(one.chunks) == 1


def test_huge_event(bad: BadUpstream) -> None:
    """One event of the size that was said, among the others."""
    data = asked(bad, "huge-event:300000", **STREAM).data
    assert len(data) == 23
    assert 300_000 < len(data[2]) < 301_000


@pytest.mark.parametrize("which", ABSURD)
def test_absurd_usage(bad: BadUpstream, which: str) -> None:
    """The absurd tokens stand in the whole answer and in the stream, asked for or not."""
    model = f"usage:{which}"
    assert asked(bad, model).json["usage"] == ABSURD[which]
    assert json.loads(asked(bad, model, **STREAM).data[-2])["usage"] == ABSURD[which]


def test_missing_and_double_usage(bad: BadUpstream) -> None:
    """No tokens though asked for; or two times, not the same."""
    assert b"usage" not in asked(bad, "no-usage", **WITH_USAGE).body
    assert b"usage" not in asked(bad, "no-usage").body
    data = asked(bad, "usage-twice", **STREAM).data
    told = [json.loads(item)["usage"]["prompt_tokens"] for item in data[-3:-1]]
    assert told == [11, 22]
    assert asked(bad, "usage-twice").body.count(b'"usage"') == 2


def test_by_path(bad: BadUpstream) -> None:
    """The path names the manner, whatever the body says."""
    with client(bad.by_path("status:503:7")) as made:
        assert made.ask("good").answer().status == 503
    assert bad.seen[0].manner == "status:503:7"


def test_chunked_request(bad: BadUpstream) -> None:
    """A request body in chunks is put together, however it is cut."""
    raw = b'{"model": "status:418", "messages": []}'
    with client(bad.url) as made:
        head = f"POST {made.path} HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n".encode()
        for data in (
            head,
            b"5\r\n",
            raw[:5],
            b"\r\n%x\r\n" % len(raw[5:]),
            raw[5:],
            b"\r\n0\r\n\r\n",
        ):
            made.raw.sendall(data)
        assert made.raw.recv(20).startswith(b"HTTP/1.1 418")
    assert bad.seen[0].body == raw


def test_two_requests_at_once_are_answered_in_order(bad: BadUpstream) -> None:
    """A second request that is there already waits for the answer of the first."""
    raw = [json.dumps({"model": model}).encode() for model in ("status:418", "status:503")]
    with client(bad.url) as made:
        text = "POST /v1/x HTTP/1.1\r\ncontent-length: {}\r\n\r\n"
        made.raw.sendall(b"".join(text.format(len(body)).encode() + body for body in raw))
        got = b""
        while got.count(b"}}") < 2:
            got += made.raw.recv(1000)
    assert got.index(b"HTTP/1.1 418") < got.index(b"HTTP/1.1 503")


def test_tls(bad: BadUpstream) -> None:
    """Over TLS the manners are the same; who does not know the certificate gets nowhere."""
    with client(bad.tls_url) as made:
        assert made.ask("good").answer().json["usage"] == USAGE
    parts = urlsplit(bad.tls_url)
    with socket.create_connection((parts.hostname, parts.port), timeout=10) as raw:
        context = ssl.create_default_context()
        with pytest.raises(ssl.SSLCertVerificationError, match="self-signed"):
            context.wrap_socket(raw, server_hostname="127.0.0.1")
    assert [(link.tls, link.requests) for link in bad.links] == [(True, 1)]


def test_tls_that_hangs(bad: BadUpstream) -> None:
    """The hello of a client arrives and is never answered."""
    parts = urlsplit(bad.hanging_tls_url)
    with socket.create_connection((parts.hostname, parts.port), timeout=10) as raw:
        context = ssl.create_default_context()
        raw.setblocking(False)
        wrapped = context.wrap_socket(raw, do_handshake_on_connect=False, server_hostname="x")
        with pytest.raises(ssl.SSLWantReadError):
            wrapped.do_handshake()
        bad.wait(lambda it: it.links and it.links[0].received > 100)
        with pytest.raises(ssl.SSLWantReadError):
            wrapped.do_handshake()
        wrapped.close()


def test_nobody_accepts(bad: BadUpstream) -> None:
    """The connection is made and takes a request, and nobody ever sees it."""
    with client(bad.unaccepted_url) as made:
        made.ask("good")
        assert made.nothing_more()
    assert bad.links == []


def test_unreachable(bad: BadUpstream) -> None:
    """Not even a connection comes about."""
    parts = urlsplit(bad.unreachable_url)
    with socket.socket() as raw:
        raw.setblocking(False)
        with pytest.raises(BlockingIOError):
            raw.connect((parts.hostname, parts.port))
        with pytest.raises(OSError, match="not connected"):
            raw.getpeername()


def test_a_mistake_in_a_manner_fails_the_test() -> None:
    """A manner that nobody knows breaks the connection, and the block that runs the upstream."""
    with pytest.raises(KeyError, match="no-such"), BadUpstream() as bad, client(bad.url) as made:
        assert made.ask("no-such").rest() == b""


def test_waiting_in_vain_fails() -> None:
    """What does not happen fails the test that waits for it."""
    with BadUpstream() as bad, pytest.raises(AssertionError, match="did not happen"):
        bad.wait(lambda it: it.seen, seconds=0.0)


def test_every_manner_is_tried_here() -> None:
    """No manner is without a test: each name stands in this file."""
    text = Path(__file__).read_text(encoding="utf-8")
    assert [name for name in MANNERS if not any(f"{mark}{name}" in text for mark in '"/')] == []
