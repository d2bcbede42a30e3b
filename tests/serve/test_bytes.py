"""Splicing JSON and cutting events: bytes in, bytes out."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnout.serve import sse
from turnout.serve.splice import respell, splice

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, width=32) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["model", "x", "\u00e9"]), inner, max_size=3)
    ),
    max_leaves=12,
)
OBJECTS = st.dictionaries(
    st.sampled_from(["model", "a", '\u00e9 "model": ', "stream_options"]), VALUES, max_size=4
)


@settings(deadline=None, max_examples=50)
@given(OBJECTS, st.sampled_from([None, 1, 3]), st.booleans())
def test_splicing_changes_what_it_says_and_nothing_else(
    data: dict[str, object], indent: int | None, ascii_only: bool
) -> None:
    """The new object is the old one with the key set, and taking the value back restores it."""
    body = json.dumps(data, indent=indent, ensure_ascii=ascii_only).encode("utf-8", "replace")
    before = json.loads(body)
    after = splice(body, {"model": b'"new"'})
    assert json.loads(after) == {**before, "model": "new"}
    if "model" in before:
        # raw control characters stand in no JSON text
        old = splice(body, {"model": b"\0"}).split(b"\0")
        assert len(old) == 2
        assert after == b'"new"'.join(old)
    else:
        place = body.index(b"{") + 1
        assert after.startswith(body[:place] + b'"model":"new"')
        assert after.endswith(body[place:])


@settings(deadline=None, max_examples=100)
@given(OBJECTS, st.text(), st.sampled_from([None, 1]), st.booleans())
def test_respelling_is_splicing(
    data: dict[str, object], old: str, indent: int | None, ascii_only: bool
) -> None:
    """Whatever the old text, and wherever else it stands, both give the same bytes."""
    body = json.dumps({**data, "model": old}, indent=indent, ensure_ascii=ascii_only).encode(
        "utf-8", "replace"
    )
    old = json.loads(body)["model"]
    after = splice(body, {"model": b'"new"'})
    assert respell(body, "model", old, b'"new"') == after
    brace = after.index(b"{") + 1
    added = after[:brace] + b'"z":1,' + after[brace:]
    assert respell(body, "model", old, b'"new"', b'"z":1,') == added


@pytest.mark.parametrize(
    "body",
    [
        b'{"mod\\u0065l":"a","x":{"model":"a"}}',
        b'{"model":"a","x":["model","a"]}',
        b'{"x":"model","model" :  "a"}',
        b'{"model":"\\u0061","y":1}',
        b'{"model"\n:\t"a"}',
        b'{"x":"\\"model\\":\\"a\\"","model":"a"}',
    ],
)
def test_respelling_by_hand(body: bytes) -> None:
    """Look-alikes and odd spellings change nothing about what is replaced."""
    assert respell(body, "model", "a", b"1") == splice(body, {"model": b"1"})


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"{}", b'{"model":1}'),
        (b" { } ", b' {"model":1 } '),
        (b'{"model":"a","model":"b"}', b'{"model":1,"model":1}'),
        (b'{"mod\\u0065l" : "a" , "x":2}', b'{"mod\\u0065l" : 1 , "x":2}'),
        (b'{"x":{"model":"a"},"y":["model"]}', b'{"model":1,"x":{"model":"a"},"y":["model"]}'),
        (b'{"x":"\\"model\\":\\"a\\"","model":null}', b'{"x":"\\"model\\":\\"a\\"","model":1}'),
    ],
)
def test_splicing_by_hand(body: bytes, expected: bytes) -> None:
    """Repeated and escaped keys are replaced, nested ones and look-alikes in text are not."""
    assert splice(body, {"model": b"1"}) == expected


EVENTS = st.lists(
    st.tuples(
        st.binary(max_size=8).map(lambda raw: raw.replace(b"\n", b".").replace(b"\r", b".")),
        st.sampled_from([b"\n\n", b"\r\n\r\n", b"\r\r"]),
    ),
    max_size=6,
)


@settings(deadline=None, max_examples=50)
@given(EVENTS, st.lists(st.integers(1, 5), max_size=30))
def test_events_survive_any_cutting(events: list[tuple[bytes, bytes]], cuts: list[int]) -> None:
    """However the bytes arrive, the same events come out, and joined they are the bytes sent."""
    sent = [b"data: " + text + end for text, end in events]
    stream = b"".join(sent)
    splitter = sse.Splitter()
    got: list[bytes] = []
    position = 0
    for cut in [*cuts, len(stream)]:
        got += splitter.feed(stream[position : position + cut])
        position += cut
    assert got == sent
    assert splitter.rest == b""
    assert [sse.payload(event) for event in got] == [text for text, _ in events]


def test_payloads_by_hand() -> None:
    """Lines of data join, other lines do not count, one space after the colon is dropped."""
    assert sse.payload(b"event: x\ndata: a\ndata:b\n\n") == b"a\nb"
    assert sse.payload(b": comment\n\n") == b""
