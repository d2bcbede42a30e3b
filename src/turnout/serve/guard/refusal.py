"""What a guard says when it does not let a request in: status, code, and when to come back."""

from __future__ import annotations

import math
from typing import Any, Final

from turnout.serve.errors import RequestError

__all__ = ["LONGEST_RETRY", "RefusedError", "whole_seconds"]

#: Longest `retry-after` that is ever told, seconds: beyond it an estimate is worth nothing.
LONGEST_RETRY = 60


class RefusedError(RequestError):
    """A request that was not let in; the upstream has heard nothing of it.

    Parameters
    ----------
    field, rule, value, hint
        As `TurnoutError`.
    status : int
        401, 403, 429 or 503.
    code : str
        Short name of the rule, stable for programs.
    kind : str
        The `type` of the error in OpenAI's shape.
    reason : str
        The label under which the metrics count it: `key`, `rate`, `budget`, `queue`, `shed`.
    retry_after : int, optional
        Seconds after which it may go better; None where waiting does not help.
    """

    def __init__(
        self,
        field: str,
        rule: str,
        value: Any = None,
        hint: str = "",
        *,
        status: int,
        code: str,
        kind: str,
        reason: str,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(field, rule, value, hint, status=status, code=code)
        self.kind: Final = kind
        self.reason: Final = reason
        self.retry_after: Final = retry_after

    @property
    def headers(self) -> bytes:
        """Header lines that belong to the answer; may be empty."""
        if self.status == 401:
            return b"www-authenticate: Bearer\r\n"
        if self.retry_after is None:
            return b""
        return b"retry-after: %d\r\n" % self.retry_after


def whole_seconds(seconds: float) -> int:
    """An estimate as `retry-after` tells it: rounded up, at least 1, at most `LONGEST_RETRY`."""
    if not seconds < LONGEST_RETRY:  # also what is no number
        return LONGEST_RETRY
    return max(1, math.ceil(seconds))
