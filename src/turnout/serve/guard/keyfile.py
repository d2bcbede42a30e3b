"""The key file: all keys of the gateway in one JSON file that holds no secret.

The file is always replaced whole, so that a reader sees the old keys or the new ones.
"""

from __future__ import annotations

import fcntl
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from turnout.core import ConfigError, InputError
from turnout.parts.files import replace_file
from turnout.serve._toml import unknown
from turnout.serve.guard.key import ID, LIMITS, NO_DIGEST, Key, KeyLimits

__all__ = ["Content", "Signature", "changing", "read", "write"]

_VERSION = 1
_KNOWN = frozenset(
    {
        *("id", "name", "sha256", "made", "expires", "previous_sha256", "previous_until"),
        *("models", "admin", "labels", *LIMITS),
    }
)


class Signature(NamedTuple):
    """What tells one content of a file from the next without reading it."""

    modified: int
    size: int
    node: int

    @classmethod
    def of(cls, status: os.stat_result) -> Signature:
        """The signature in what `os.stat` says."""
        return cls(status.st_mtime_ns, status.st_size, status.st_ino)


class Content(NamedTuple):
    """What a key file held at one moment.

    Parameters
    ----------
    keys : mapping of str to pair
        By id: the row as it stands in the file, and its key.
    signature : Signature
    """

    keys: dict[str, tuple[Any, Key]]
    signature: Signature


def read(path: str | Path, known: Mapping[str, tuple[Any, Key]] | None = None) -> Content:
    """Every key of a file.

    Parameters
    ----------
    path : path
    known : mapping, optional
        What `read` gave before: rows that have not changed are not checked again.

    Raises
    ------
    ConfigError
        The file is missing, is not JSON, breaks a rule, or can be written by others.
    """
    source = Path(path)
    try:
        with source.open("rb") as file:
            status = os.fstat(file.fileno())  # before reading: a change from here on is seen later
            text = file.read()
    except OSError as error:
        hint = f"{error.strerror or error}. Make the first key with `turnout keys new NAME`."
        raise ConfigError("key file", "be readable", str(source), hint) from None
    if status.st_mode & 0o022:
        hint = "Whoever can write it can let anybody in. Do: chmod 600."
        raise ConfigError("key file", "be writable by its owner alone", str(source), hint)
    try:
        data = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        where = f"line {error.lineno}"
        raise ConfigError(str(source), "be JSON", where, "Correct that line.") from None
    if not isinstance(data, dict) or data.get("version") != _VERSION:
        rule, hint = (
            f"be a key file of version {_VERSION}",
            "Make one with `turnout keys new NAME`.",
        )
        raise ConfigError(str(source), rule, "something else", hint)
    rows = data.get("keys")
    if set(data) != {"version", "keys"} or not isinstance(rows, list):
        raise ConfigError(
            str(source), "hold version and keys alone", sorted(data), "Drop the rest."
        )
    keys: dict[str, tuple[Any, Key]] = {}
    names: set[str] = set()
    for number, row in enumerate(rows):
        key = _key(source, f"keys[{number}]", row, known or {})
        if key.id in keys or key.name in names:
            hint = "Revoke one of the two."
            raise ConfigError(f"{source}: keys[{number}]", "be there once", key.name, hint)
        keys[key.id] = (row, key)
        names.add(key.name)
    return Content(keys, Signature.of(status))


@contextmanager
def changing(path: str | Path) -> Iterator[dict[str, Key]]:
    """Change the keys of a file, by name; written when the block ends without an error.

    Two changes at once wait for each other. A file that is not there counts as empty.

    Raises
    ------
    ConfigError
        As `read`, or the file cannot be written.
    """
    target = Path(path)
    try:
        folder = os.open(target.absolute().parent, os.O_RDONLY)
    except OSError as error:
        hint = f"{error.strerror}. Make its folder first."
        raise ConfigError("key file", "be in a folder that exists", str(target), hint) from None
    try:
        # the folder is locked, not the file: the file is another one after each change
        fcntl.flock(folder, fcntl.LOCK_EX)
        found = read(target).keys.values() if target.exists() else ()
        keys = {key.name: key for _, key in found}
        yield keys
        write(target, keys.values())
        os.fsync(folder)
    finally:
        os.close(folder)


def write(path: str | Path, keys: Iterable[Key]) -> None:
    """Put keys in the place of a file's content in one step.

    A new file is the owner's alone (mode 0600). One that is there keeps its owner, its group and
    what the group may read, so that a gateway of another account goes on reading it.

    Raises
    ------
    ConfigError
        The folder or the file cannot be written.
    """
    target = Path(path)
    data = {"version": _VERSION, "keys": [_row(key) for key in keys]}
    content = orjson.dumps(data, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    try:
        replace_file(target, content, private=True)
    except OSError as error:
        raise _unwritable(target, error) from None


def _unwritable(target: Path, error: OSError) -> ConfigError:
    return ConfigError("key file", "be writable", str(target), f"{error.strerror or error}.")


def _row(key: Key) -> dict[str, Any]:
    """A key as the file holds it; what says nothing is left out."""
    row: dict[str, Any] = {
        "id": key.id,
        "name": key.name,
        "sha256": key.digest.hex(),
        "made": _told(key.made),
        "expires": _told(key.expires),
        "models": None if key.models is None else sorted(key.models),
        "admin": key.admin or None,
        "labels": dict(key.labels) or None,
    }
    row |= {name: getattr(key.limits, name) for name in LIMITS}
    if key.previous != NO_DIGEST:
        row |= {"previous_sha256": key.previous.hex(), "previous_until": _told(key.previous_until)}
    return {name: value for name, value in row.items() if value is not None}


def _told(seconds: float) -> str | None:
    """A time for people; None = never."""
    if math.isinf(seconds):
        return None
    return datetime.fromtimestamp(math.floor(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _key(source: Path, where: str, row: Any, known: Mapping[str, tuple[Any, Key]]) -> Key:
    """The key of one row. No value of the row is ever shown: it may be a secret pasted there."""
    if not isinstance(row, dict):
        raise ConfigError(f"{source}: {where}", "be an object", type(row).__name__, "Correct it.")
    id_ = row.get("id")
    before = known.get(id_) if isinstance(id_, str) else None
    if before is not None and before[0] == row:
        return before[1]
    for name in row:
        if name not in _KNOWN:
            raise unknown(source, f"{where}.{name}", _KNOWN)

    def wrong(name: str, rule: str) -> ConfigError:
        return ConfigError(f"{source}: {where}.{name}", rule, "something else", "Correct it.")

    def typed(name: str, kind: type, rule: str, default: Any = None) -> Any:
        value = row.get(name, default)
        if value is not default and type(value) is not kind:
            raise wrong(name, rule)
        return value

    def names(name: str) -> tuple[str, ...] | None:
        value = typed(name, list, "be a list of names")
        if value is not None and not all(type(item) is str for item in value):
            raise wrong(name, "be a list of names")
        return None if value is None else tuple(value)

    def digest(name: str) -> bytes:
        value = typed(name, str, "be 64 hexadecimal digits")
        if value is None or len(value) != 64 or set(value) - set("0123456789abcdef"):
            raise wrong(name, "be 64 hexadecimal digits")
        return bytes.fromhex(value)

    def time(name: str, default: float | None = None) -> float:
        value = typed(name, str, "be a time such as 2026-01-31T12:00:00Z")
        if value is None and default is not None:
            return default
        try:
            moment = datetime.fromisoformat(value)
        except (TypeError, ValueError):
            moment = None
        if moment is None or moment.tzinfo is None:
            raise wrong(name, "be a time such as 2026-01-31T12:00:00Z")
        return moment.timestamp()

    id_ = typed("id", str, "be 8 lower-case letters or digits")
    if id_ is None or len(id_) != 8 or set(id_) - set(ID):
        raise wrong("id", "be 8 lower-case letters or digits")
    labels = typed("labels", dict, "map names to texts", {})
    if not all(type(value) is str for value in labels.values()):
        raise wrong("labels", "map names to texts")
    models = names("models")
    rotated_ = "previous_sha256" in row
    try:
        return Key(
            id=id_,
            name=typed("name", str, "be text", ""),
            digest=digest("sha256"),
            made=time("made"),
            expires=time("expires", math.inf),
            previous=digest("previous_sha256") if rotated_ else NO_DIGEST,
            previous_until=time("previous_until") if rotated_ else -math.inf,
            models=None if models is None else frozenset(models),
            admin=typed("admin", bool, "be true or false", False),
            limits=KeyLimits(**{name: row.get(name) for name in LIMITS}),
            labels=labels,
        )
    except InputError as error:
        rule = f"hold a {error.field} that can {error.rule}"
        raise ConfigError(f"{source}: {where}", rule, "something else", error.hint) from None
