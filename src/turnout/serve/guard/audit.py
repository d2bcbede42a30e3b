"""The audit log: who changed what about the gateway, one JSON line each, only ever appended to."""

from __future__ import annotations

import fcntl
import os
import pwd
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from turnout.core import ConfigError

__all__ = ["Audit", "account", "beside", "redacted"]

_SECRET = re.compile(r"(tn-[a-z0-9]{8}-)[A-Za-z0-9_-]{20,}")


class Audit:
    """An append-only file of lines `{"time", "actor", "action", "subject", ...}`.

    Several processes may append to it; each line is whole. The file is the owner's alone (mode
    0600), and it is on the disk before `note` returns.

    Parameters
    ----------
    path : path
        Made when missing; its folder has to exist.
    wall : callable
        Seconds since 1970.

    Raises
    ------
    ConfigError
        It cannot be appended to.
    """

    def __init__(self, path: str | Path, *, wall: Callable[[], float]) -> None:
        self.path = Path(path)
        self._wall = wall
        try:
            os.close(self._open())
        except OSError as error:
            raise self._broken(error) from None

    def note(self, actor: str, action: str, subject: str, **facts: Any) -> None:
        """Append one line. A secret that gets here by mistake is cut out of it.

        Parameters
        ----------
        actor : str
            Who did it: an account, or the id of a key.
        action : str
            What, such as `key.new`.
        subject : str
            To what.
        **facts
            More, as plain values.

        Raises
        ------
        ConfigError
            It cannot be written.
        """
        moment = datetime.fromtimestamp(self._wall(), UTC).isoformat(timespec="milliseconds")
        told = {"time": moment, "actor": actor, "action": action, "subject": subject, **facts}
        line = redacted(orjson.dumps(told).decode()).encode() + b"\n"
        try:
            file = self._open()
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
                size = os.fstat(file).st_size
                if size and os.pread(file, 1, size - 1) != b"\n":
                    line = b"\n" + line  # half a line is left of a write that was cut off
                while line:
                    line = line[os.write(file, line) :]
                os.fsync(file)
            finally:
                os.close(file)
        except OSError as error:
            raise self._broken(error) from None

    def _open(self) -> int:
        return os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def _broken(self, error: OSError) -> ConfigError:
        hint = f"{error.strerror or error}. Nothing is changed that cannot be put on record."
        return ConfigError("audit log", "be a file that can be appended to", str(self.path), hint)


def account() -> str:
    """Who runs this: by the system's word, not by a variable that anybody can set."""
    number = os.getuid()
    try:
        return f"{pwd.getpwuid(number).pw_name} ({number})"
    except KeyError:
        return str(number)


def beside(path: Path) -> Path:
    """Where the audit log of a key file is, or of a ledger without one."""
    return path.with_name(f"{path.name}.audit.jsonl")


def redacted(text: str) -> str:
    """The text with the secret part of every key of this gateway cut out."""
    return _SECRET.sub(r"\1...", text)
