"""Tokens as an OpenAI-compatible destination counts them, and those a client allows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

__all__ = ["MAX_TOKENS", "Usage", "output_cap", "read_usage"]

#: Most tokens of one request that anybody is believed to have used.
MAX_TOKENS = 10**8


class Usage(NamedTuple):
    """Tokens of one request.

    Parameters
    ----------
    input_tokens : int
        Those cached included.
    output_tokens : int
    cached_tokens : int
        Input tokens that the destination had cached.
    """

    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0


def read_usage(data: Any) -> Usage | None:
    """The `usage` of an answer; None where it does not hold whole, possible counts.

    Counts that are negative, booleans, floats or beyond `MAX_TOKENS` are not believed. Where only
    the cached count is odd, all input counts as not cached, which is never too cheap.
    """
    if type(data) is not dict:
        return None
    read, written = data.get("prompt_tokens"), data.get("completion_tokens")
    if not (type(read) is int and type(written) is int):
        return None
    if not (0 <= read <= MAX_TOKENS and 0 <= written <= MAX_TOKENS):
        return None
    details = data.get("prompt_tokens_details")
    if type(details) is dict:
        cached = details.get("cached_tokens")
        if type(cached) is int and 0 < cached <= read:
            return Usage(read, written, cached)
    return Usage(read, written)


def output_cap(fields: Mapping[str, Any]) -> int | None:
    """Most output tokens a request allows, over all its choices; None where it sets no limit.

    Reads `max_completion_tokens`, else `max_tokens`, times `n`; odd values count as not given.
    """
    cap = _count(fields.get("max_completion_tokens"))
    if cap is None:
        cap = _count(fields.get("max_tokens"))
    if cap is None:
        return None
    return min(cap * (_count(fields.get("n")) or 1), MAX_TOKENS)


def _count(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value <= MAX_TOKENS else None
