"""What clients are told whose bytes are not a request that can be served."""

from __future__ import annotations

from turnout.serve.errors import RequestError


def malformed(field: str, rule: str, found: str, hint: str) -> RequestError:
    """The bytes are not HTTP/1.1 as it is spoken here; never quotes them."""
    return RequestError(field, rule, found, hint, code="invalid_http")


def head_too_long(limit: int) -> RequestError:
    """Request line and headers exceed the limit."""
    rule = f"be at most {limit} bytes"
    hint = "Send fewer or shorter headers."
    return RequestError("request head", rule, "more", hint, status=431, code="head_too_long")


def too_many_headers(limit: int, found: int) -> RequestError:
    """More header lines than the limit."""
    rule = f"be at most {limit}"
    hint = "Send fewer headers."
    return RequestError("headers", rule, found, hint, status=431, code="too_many_headers")


def body_too_long(limit: int, size: int) -> RequestError:
    """The body exceeds the limit."""
    rule = f"be at most {limit} bytes"
    hint = "Shorten it, or raise limits.body_bytes in the configuration."
    return RequestError("body", rule, size, hint, status=413, code="body_too_long")


def unmet(found: str) -> RequestError:
    """An expectation other than 100-continue."""
    hint = "Leave the header out."
    rule = "be 100-continue"
    return RequestError("expect", rule, found, hint, status=417, code="expectation_failed")


def too_slow(what: str, seconds: float) -> RequestError:
    """The request, or its next piece, did not come in time."""
    rule = f"arrive within {seconds:g} seconds"
    hint = "Send it without long pauses."
    return RequestError(what, rule, "less", hint, status=408, code="request_timeout")


def full(what: str, limit: int) -> RequestError:
    """The worker holds as much as it may."""
    rule = f"be at most {limit} at once"
    hint = "Try again in a moment."
    return RequestError(what, rule, "one more", hint, status=503, code="overloaded")
