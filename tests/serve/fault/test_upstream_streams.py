"""The bad upstream itself: its streams, how they are cut, written and ended, and their usage."""

from __future__ import annotations

import json

import pytest

from .bare import STREAM, WITH_USAGE, asked, client
from .payloads import ABSURD, USAGE
from .upstream import BadUpstream


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


@pytest.mark.parametrize("how", ["chunked", "length"])
def test_truncated(bad: BadUpstream, how: str) -> None:
    """A stream that is whole as HTTP and lacks its end mark; the connection goes on."""
    with client(bad.url) as made:
        answer = made.ask(f"truncated:{how}", **STREAM).answer()
        assert ("content-length" in answer.headers) == (how == "length")
        assert len(answer.data) == 5
        assert b"[DONE]" not in answer.body
        assert made.again().ask().answer().status == 200


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
