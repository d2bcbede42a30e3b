"""Tokens of a request that has not been answered yet, from what earlier ones took.

Input tokens follow from the characters sent by a running ratio; output tokens are a running mean,
never above what the request allows. Both forget slowly, so that they follow the traffic.
"""

from __future__ import annotations

from math import ceil
from typing import final

from turnout.serve.money.usage import MAX_TOKENS

__all__ = ["Estimator"]

#: What counts as known before anything was seen: 500 input tokens of 2,000 characters.
_TOKENS, _CHARS = 500.0, 2000.0
#: Output tokens expected before anything was seen.
_OUTPUT = 256.0
#: Share of the past that stays with each new request.
_KEEP = 1 - 1 / 256
#: Least weight of a new output in the mean, reached after so many.
_STEP, _SETTLED = 1 / 64, 63
#: A single request counts as at most so many input tokens a character, as at most so many times
#: the output that was expected, and so many tokens more.
_DENSE, _FAR, _SLACK = 2.0, 16.0, 4000.0


@final
class Estimator:
    """Running figures of one destination.

    Examples
    --------
    >>> estimator = Estimator()
    >>> estimator.tokens(400)
    (100, 256)
    >>> estimator.tokens(400, cap=50)
    (100, 50)
    """

    __slots__ = ("_chars", "_mean", "_seen", "_tokens")

    def __init__(self) -> None:
        self._tokens = _TOKENS
        self._chars = _CHARS
        self._mean = _OUTPUT
        self._seen = 0

    def tokens(self, chars: int, cap: int | None = None, choices: int = 1) -> tuple[int, int]:
        """Input and output tokens to expect, both rounded up.

        Parameters
        ----------
        chars : int
            Characters of the request's messages.
        cap : int, optional
            Most output tokens the request allows, as `output_cap` reads it.
        choices : int
            Answers asked for (`n`).
        """
        expected = ceil(self._mean * choices)
        if cap is not None and cap < expected:
            expected = cap
        if expected > MAX_TOKENS:
            expected = MAX_TOKENS
        return ceil(chars * self._tokens / self._chars), expected

    def learn(self, chars: int, input_tokens: int, output_tokens: int, choices: int = 1) -> None:
        """Take in what a request of so many characters took."""
        # one absurd count must not make everything look unaffordable
        if input_tokens > _DENSE * chars + _SLACK:
            input_tokens = int(_DENSE * chars + _SLACK)
        self._tokens = self._tokens * _KEEP + input_tokens
        self._chars = self._chars * _KEEP + chars
        mean = self._mean
        output = output_tokens / choices
        if output > _FAR * mean + _SLACK:
            output = _FAR * mean + _SLACK
        seen = self._seen = self._seen + 1
        self._mean = mean + (output - mean) * (1 / (seen + 1) if seen < _SETTLED else _STEP)
