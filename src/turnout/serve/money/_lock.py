"""A lock between processes that the kernel gives back when its holder is killed."""

from __future__ import annotations

import os
from pathlib import Path

from turnout.core import ConfigError

try:
    from fcntl import LOCK_EX, LOCK_NB, LOCK_UN, flock
except ImportError:  # a system without it runs one worker, which needs no lock
    flock = None  # type: ignore[assignment]

AVAILABLE = flock is not None


class Lock:
    """Held by at most one worker; each worker opens its own after it was forked.

    Parameters
    ----------
    path : path, optional
        Made when missing. Without it nothing is ever waited for: there is one worker only.
    """

    __slots__ = ("_fd",)

    def __init__(self, path: Path | None = None) -> None:
        self._fd = -1 if path is None else os.open(path, os.O_RDWR | os.O_CREAT, 0o600)

    def take(self) -> None:
        """Wait until nobody else holds it."""
        if self._fd >= 0:
            flock(self._fd, LOCK_EX)

    def drop(self) -> None:
        """Let the next one have it."""
        if self._fd >= 0:
            flock(self._fd, LOCK_UN)

    def close(self) -> None:
        """Let go of the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Claim:
    """A file that nobody else may use for as long as any process holds this open.

    Parameters
    ----------
    path : path
        Made when missing.
    what, hint : str
        For the error.

    Raises
    ------
    ConfigError
        Somebody holds it already, or it cannot be made.
    """

    __slots__ = ("fd",)

    def __init__(self, path: Path, what: str, hint: str) -> None:
        try:
            self.fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            hint = f"{error.strerror}. Check that its folder exists and can be written."
            raise ConfigError(what, "be a file that can be opened", str(path), hint) from None
        if AVAILABLE:
            try:
                flock(self.fd, LOCK_EX | LOCK_NB)
            except OSError:
                self.close()
                raise ConfigError(what, "be in use by nobody else", str(path), hint) from None

    def close(self) -> None:
        """Let the next one have it, unless another process holds it open too."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
