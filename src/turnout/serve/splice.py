"""Changes to a JSON object in its bytes: what is not changed stays as it was, byte for byte.

Parsing and writing again would reorder nothing but would respell numbers (1.0, 1e3, integers
beyond 64 bits) and escapes; an upstream is to see what the client wrote.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import orjson

__all__ = ["respell", "splice"]

_SPACES = b" \t\r\n"
#: A string, or a mark that opens, closes or separates. Numbers and words fall between matches.
_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\],:]', re.DOTALL)


def respell(body: bytes, key: str, old: str, new: bytes, add: bytes = b"") -> bytes:
    """`splice` of one top-level key known to hold a text, without reading all of the body.

    A name that stands once in the body, where no escape could spell it otherwise, stands at the top
    level: most bodies are told so by a few searches.

    Parameters
    ----------
    body : bytes
        A JSON object already known to parse.
    key : str
        Plain letters.
    old : str
        What the key holds.
    new : bytes
        Its new value as JSON.
    add : bytes
        Members to put in front, such as `b'"a":1,'`; keys that the body does not hold.

    Returns
    -------
    bytes
    """
    name = b'"' + key.encode() + b'"'
    if body.count(name) == 1 and b"\\u00" not in body:
        end = body.index(name) + len(name)
        start = body.find(b'"', end)
        spelled = b'"' + old.encode() + b'"'
        if body[end:start].strip(_SPACES) == b":" and body.startswith(spelled, start):
            stop = start + len(spelled)
            if not add:
                return body[:start] + new + body[stop:]
            brace = body.index(b"{") + 1
            return body[:brace] + add + body[brace:start] + new + body[stop:]
    changed = splice(body, {key: new})
    brace = changed.index(b"{") + 1
    return changed[:brace] + add + changed[brace:] if add else changed


def splice(body: bytes, values: Mapping[str, bytes]) -> bytes:
    """The object with the values of some top-level keys replaced, or added where missing.

    Parameters
    ----------
    body : bytes
        A JSON object already known to parse.
    values : mapping of str to bytes
        New values as JSON. A key that stands twice is replaced twice, so that no reader can
        pick the old value.

    Returns
    -------
    bytes
    """
    pieces: list[bytes] = []
    missing = dict(values)
    end = 0
    for key, start, stop in _members(body):
        if key in values:
            pieces += body[end:start], values[key]
            end = stop
            missing.pop(key, None)
    pieces.append(body[end:])
    changed = b"".join(pieces)
    if not missing:
        return changed
    brace = changed.index(b"{") + 1
    added = b",".join(orjson.dumps(key) + b":" + value for key, value in missing.items())
    empty = changed[brace:].lstrip().startswith(b"}")
    return changed[:brace] + added + (b"" if empty else b",") + changed[brace:]


def _members(body: bytes) -> Iterator[tuple[str, int, int]]:
    """Every top-level key with the span of its value, spaces outside."""
    depth = 0
    key = ""
    start = -1
    last: re.Match[bytes] | None = None
    for token in _TOKEN.finditer(body):
        mark = token[0]
        if mark in b"{[":
            depth += 1
        elif depth == 1 and mark == b":":
            assert last is not None
            key, start = orjson.loads(last[0]), token.end()
        elif mark in b"}],":
            if depth == 1 and start >= 0 and mark in b"},":
                text = body[start : token.start()]
                left = len(text) - len(text.lstrip())
                yield key, start + left, start + len(text.rstrip())
                start = -1
            depth -= mark in b"}]"
        last = token
