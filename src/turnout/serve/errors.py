"""What the server says when it cannot answer: an HTTP status and an error in OpenAI's shape."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from typing import Any, Final

import orjson

from turnout.core import InputError, TurnoutError, UpstreamError

__all__ = ["AnswerError", "RequestError", "body", "status_of", "where"]


class RequestError(InputError):
    """The client's request breaks a rule.

    Parameters
    ----------
    field, rule, value, hint
        As `TurnoutError`.
    status : int
        HTTP status of the answer.
    code : str
        Short name of the rule, stable for programs.
    """

    def __init__(
        self,
        field: str,
        rule: str,
        value: Any = None,
        hint: str = "",
        *,
        status: int = 400,
        code: str = "invalid_request",
    ) -> None:
        super().__init__(field, rule, value, hint)
        self.status: Final = status
        self.code: Final = code


class AnswerError(UpstreamError):
    """A destination did not answer, or not with what can be passed on.

    Parameters
    ----------
    destination : str
        Name in the pool.
    code : str
        `connection`, `timeout`, `status_503`, `bad_reply`, `truncated`, ...
    rule, value, hint
        As `TurnoutError`; never the upstream's own words, which may hold a prompt or a key.
    status : int
        HTTP status of the answer.
    retry : bool
        Another destination may do better; False where the request itself is at fault.
    reply : bytes, optional
        The upstream's own JSON error, where it may be passed on as it is.
    headers : mapping
        Headers of the upstream to pass on, such as `retry-after`.
    """

    def __init__(
        self,
        destination: str,
        code: str,
        rule: str,
        value: Any,
        hint: str,
        *,
        status: int = 502,
        retry: bool = True,
        reply: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(f"upstream {destination!r}", rule, value, hint)
        self.destination: Final = destination
        self.code: Final = code
        self.status: Final = status
        self.retry: Final = retry
        self.reply: Final = reply
        self.headers: Final = dict(headers or {})


def status_of(error: BaseException) -> int:
    """The HTTP status that tells of an error."""
    if isinstance(error, RequestError | AnswerError):
        return error.status
    return 500


def body(error: BaseException) -> bytes:
    """The JSON that tells of an error: `{"error": {"message", "type", "param", "code"}}`.

    An error nobody foresaw is told without its message, which may quote a prompt.
    """
    if isinstance(error, AnswerError) and error.reply is not None:
        return error.reply
    if isinstance(error, RequestError):
        kind, code, param, message = "invalid_request_error", error.code, error.field, str(error)
    elif isinstance(error, AnswerError):
        kind, code, param, message = "upstream_error", error.code, None, str(error)
    else:
        kind, code, param = "server_error", "internal_error", None
        message = "The gateway failed on this request; its log says where."
    return orjson.dumps({"error": {"message": message, "type": kind, "param": param, "code": code}})


def where(error: BaseException) -> str:
    """Type and place of an error for the log, without its message, which may quote a prompt."""
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    places = " < ".join(f"{frame.filename}:{frame.lineno}" for frame in reversed(frames))
    kind = type(error).__name__
    rule = f" ({error.field} must {error.rule})" if isinstance(error, TurnoutError) else ""
    return f"{kind}{rule} at {places}"
