from __future__ import annotations

import pytest


class Clock:
    """A clock that is moved by hand."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def on(self, seconds: float) -> float:
        """Later by so much."""
        self.now += seconds
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()
