"""Who asks: the check of a request's key, and what holds where there are no keys.

The check costs two or three microseconds and takes as long for an unknown key as for a known one.
Keys are read again when their file changes, at most once a second; a file that cannot be used
changes nothing but the state of health.
"""

from __future__ import annotations

import ipaddress
import logging
import math
import secrets
import time
from collections.abc import Callable
from functools import lru_cache
from hashlib import sha256
from hmac import compare_digest
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from turnout.core import ConfigError
from turnout.serve.guard import keyfile
from turnout.serve.guard.key import SECRET_LENGTH, Key
from turnout.serve.guard.refusal import RefusedError

__all__ = ["Keyring", "anyone", "check_open", "from_elsewhere"]

_log = logging.getLogger("turnout.serve")

#: Seconds between two looks at the file.
_EVERY = 1.0


class Keyring:
    """The keys of a file, as they are now.

    Parameters
    ----------
    path : path
    wall : callable
        Seconds since 1970, for what expires.

    Attributes
    ----------
    error : str, optional
        Why the file as it is now cannot be used; the last good one goes on counting. None while
        all is well.
    reads : int
        How often keys were taken from the file.

    Raises
    ------
    ConfigError
        The file cannot be used when it is read first; see `keyfile.read`.
    """

    __slots__ = (
        "_by_id",
        "_content",
        "_nobody",
        "_path",
        "_seen",
        "_then",
        "_wall",
        "error",
        "reads",
    )

    def __init__(self, path: str | Path, *, wall: Callable[[], float] = time.time) -> None:
        self._path = Path(path)
        self._wall = wall
        # unknown ids are compared with what nobody has the secret of
        self._nobody = Key(
            id="", name="nobody", digest=secrets.token_bytes(32), made=0.0, expires=-math.inf
        )
        self._then = -math.inf
        self._seen: keyfile.Signature | None = None
        self.error: str | None = None
        self.reads = 0
        self._take(keyfile.read(self._path))

    def __len__(self) -> int:
        return len(self._by_id)

    def __repr__(self) -> str:
        return f"Keyring({str(self._path)!r}, {len(self)} keys)"

    def check(self, authorization: bytes | None) -> Key:
        """The key that a request shows.

        Parameters
        ----------
        authorization : bytes, optional
            Value of its `authorization` header.

        Raises
        ------
        RefusedError
            There is none, or it is unknown, or it has expired; status 401. Which of them is not
            told.
        """
        if (
            authorization is None
            or len(authorization) != 7 + SECRET_LENGTH
            or authorization[:7].lower() != b"bearer "
        ):
            raise _unauthorized()
        secret = authorization[7:]
        digest = sha256(secret).digest()
        key = self._by_id.get(secret[3:11], self._nobody)
        now = self._wall()
        # both are always compared, so that time tells nothing of a key
        present = compare_digest(digest, key.digest)
        past = compare_digest(digest, key.previous) & (now < key.previous_until)
        if not (present | past) or now >= key.expires:
            raise _unauthorized()
        return key

    def tick(self, now: float) -> bool:
        """Look at the file if it is time; whether there are new keys.

        Parameters
        ----------
        now : float
            Seconds of a clock that only goes forward.
        """
        if now - self._then < _EVERY:
            return False
        self._then = now
        try:
            seen: keyfile.Signature | None = keyfile.Signature.of(self._path.stat())
        except OSError:
            seen = None
        if seen == self._seen:
            return False
        try:
            content = keyfile.read(self._path, self._content)
        except ConfigError as error:
            self._seen = seen
            if self.error is None:
                _log.error("keys: %s The last good ones go on counting.", error)
            self.error = str(error)
            return False
        if self.error is not None:
            _log.warning("keys: the file is good again")
        self._take(content)
        return True

    def _take(self, content: keyfile.Content) -> None:
        self._content = content.keys
        self._seen = content.signature
        self._by_id = {id_.encode(): key for id_, (_, key) in content.keys.items()}
        self.error = None
        self.reads += 1


def anyone(*, admin: bool) -> Key:
    """The key that everybody has where there is no key file.

    Parameters
    ----------
    admin : bool
        Give it only where none but this machine can ask.
    """
    return Key(id="", name="anyone", digest=secrets.token_bytes(32), made=0.0, admin=admin)


def check_open(address: str, *, keys: bool, allowed: bool) -> bool:
    """Refuse to let in everybody who can reach a public address.

    Parameters
    ----------
    address : str
        The numeric address that is listened on.
    keys : bool
        Whether there is a key file.
    allowed : bool
        The configuration says `open = true`.

    Returns
    -------
    bool
        Whether only this machine can ask.

    Raises
    ------
    ConfigError
        There are no keys, the address can be reached by others, and nobody said that it may.
    """
    loopback = ipaddress.ip_address(address.partition("%")[0]).is_loopback
    if not (loopback or keys or allowed):
        hint = "Make keys with `turnout keys new NAME`, listen on 127.0.0.1, or say open = true."
        raise ConfigError("server.host", "be the loopback where there are no keys", address, hint)
    return loopback


def from_elsewhere(origin: bytes | None, host: bytes | None) -> bool:
    """Whether a request comes from a web page of another site, sent by a browser on this machine.

    A gateway without keys that only this machine can reach must refuse such requests: else any
    page that somebody here looks at could spend. Programs send no `origin`.

    Parameters
    ----------
    origin, host : bytes, optional
        Values of these headers.
    """
    # a name that was made to point here by its owner's DNS is no name of this machine either
    if host is not None and not _local(b"http://" + host):
        return True
    return origin is not None and not _local(origin)


@lru_cache(maxsize=256)  # clients say the same again and again
def _local(url: bytes) -> bool:
    try:
        name = (urlsplit(url.decode("ascii")).hostname or "").removesuffix(".")
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _unauthorized() -> RefusedError:
    more: dict[str, Any] = {"code": "invalid_api_key", "kind": "authentication_error"}
    hint = 'Send the header "authorization: Bearer tn-...".'
    rule = "carry a key of this gateway that is good"
    return RefusedError("authorization", rule, "none", hint, status=401, reason="key", **more)
