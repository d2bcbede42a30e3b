"""What the server says when it cannot answer: an HTTP status and an error in OpenAI's shape."""

from __future__ import annotations

import math
import traceback
from typing import Any, Final

import orjson

from turnout.core import BudgetExceededError, InputError, TurnoutError, UpstreamError

__all__ = [
    "JSON_LINE",
    "AnswerError",
    "RequestError",
    "body",
    "code_of",
    "headers_of",
    "status_of",
    "where",
]

#: Header line of every error, and of other answers in JSON.
JSON_LINE: Final = b"content-type: application/json\r\n"
#: Longest `retry-after` told, seconds: a month and a day, the longest period of a budget.
_LONGEST = 32 * 86_400


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
    passing : bool
        The same destination may do better after a while.
    retry_after : float, optional
        Seconds that it asked to be left alone for.
    charged : bool
        The destination was at work on the request and may charge for it all the same.
    reply : bytes, optional
        The upstream's own JSON error, where it may be passed on as it is.
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
        passing: bool = False,
        retry_after: float | None = None,
        charged: bool = False,
        reply: bytes | None = None,
    ) -> None:
        super().__init__(f"upstream {destination!r}", rule, value, hint)
        self.destination: Final = destination
        self.code: Final = code
        self.status: Final = status
        self.retry: Final = retry
        self.passing: Final = passing
        self.retry_after: Final = retry_after
        self.charged: Final = charged
        self.reply: Final = reply


def status_of(error: BaseException) -> int:
    """The HTTP status that tells of an error."""
    if isinstance(error, RequestError | AnswerError):
        return error.status
    return 429 if _waits(error) else 500


def code_of(error: BaseException) -> str:
    """Short name of an error, stable for programs."""
    if isinstance(error, RequestError | AnswerError):
        return error.code
    if isinstance(error, BudgetExceededError):
        return "budget_exceeded"
    return "rate_limit_exceeded" if _waits(error) else "internal_error"


def headers_of(error: BaseException) -> bytes:
    """Header lines that belong to the answer: when to come back, and how to show a key."""
    if isinstance(error, RequestError):
        return bytes(getattr(error, "headers", b""))
    after = getattr(error, "wait_s", None)
    if isinstance(error, AnswerError) and error.status in (429, 503):
        after = error.retry_after
    if after is None:
        return b""
    return b"retry-after: %d\r\n" % min(max(math.ceil(after), 1), _LONGEST)


def body(error: BaseException) -> bytes:
    """The JSON that tells of an error: `{"error": {"message", "type", "param", "code"}}`.

    An error nobody foresaw is told without its message, which may quote a prompt.
    """
    if isinstance(error, AnswerError) and error.reply is not None:
        return error.reply
    code = code_of(error)
    param, message = None, str(error)
    if isinstance(error, RequestError):
        kind, param = getattr(error, "kind", "invalid_request_error"), error.field
    elif isinstance(error, AnswerError):
        kind = "upstream_error"
    elif isinstance(error, BudgetExceededError):
        kind = "insufficient_quota"
    elif _waits(error):
        kind = "rate_limit_error"
    else:
        kind, message = "server_error", "The gateway failed on this request; its log says where."
    return orjson.dumps({"error": {"message": message, "type": kind, "param": param, "code": code}})


def _waits(error: BaseException) -> bool:
    """Whether it is a limit that says how long to wait: a budget's, or a rate's."""
    return isinstance(error, TurnoutError) and hasattr(error, "wait_s")


def where(error: BaseException) -> str:
    """Type and place of an error for the log, without its message, which may quote a prompt."""
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    places = " < ".join(f"{frame.filename}:{frame.lineno}" for frame in reversed(frames))
    kind = type(error).__name__
    rule = f" ({error.field} must {error.rule})" if isinstance(error, TurnoutError) else ""
    return f"{kind}{rule} at {places}"
