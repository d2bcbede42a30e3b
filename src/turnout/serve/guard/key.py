"""A key of the gateway: what it opens, how much, and how it is made.

Of each secret the gateway holds the SHA-256 alone. A plain hash is right here: a secret is 256
random bits, so there is nothing to guess that salt or slowness would protect.
"""

from __future__ import annotations

import hashlib
import math
import secrets
import string
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from turnout.core import InputError, _check
from turnout.serve.guard.refusal import RefusedError

__all__ = [
    "ID",
    "LIMITS",
    "NO_DIGEST",
    "SECRET_LENGTH",
    "Key",
    "KeyLimits",
    "Made",
    "make",
    "rotated",
]

#: Characters of a key's id.
ID: Final = string.ascii_lowercase + string.digits
#: Names of the limits a key may have.
LIMITS: Final = ("requests_per_minute", "tokens_per_minute", "parallel")
#: Stands for a second hash where a key has none: no secret with it as its SHA-256 can be found.
NO_DIGEST: Final = bytes(32)
#: Length of every secret: `tn-`, 8 characters of the key's id, `-`, 43 of 256 random bits.
SECRET_LENGTH: Final = 55

#: End of the year 9999, which is as far as dates go.
_LAST = 253_402_300_799


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyLimits:
    """How much one key may ask for; None = no limit.

    Parameters
    ----------
    requests_per_minute, tokens_per_minute : int, optional
        Of all workers together. >= 1.
    parallel : int, optional
        Requests in progress at once. >= 1.
    """

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    parallel: int | None = None

    def __post_init__(self) -> None:
        for name in LIMITS:
            value = getattr(self, name)
            if value is not None:
                _check.integer(name, value, low=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One key of the gateway.

    Parameters
    ----------
    id : str
        8 characters; stands in the secret, in the ledger and in metrics, and stays for ever.
    name : str
        What people call it; unique in the file.
    digest : bytes
        SHA-256 of the whole secret.
    made : float
        Seconds since 1970.
    expires : float
        Seconds since 1970 from which it is refused; infinite = never.
    previous, previous_until : bytes and float
        SHA-256 of the secret before the last rotation, and its end; 32 zeros = none.
    models : frozenset of str, optional
        Destinations it may use; None = all.
    admin : bool
        Whether it may see and change the gateway itself.
    limits : KeyLimits
    labels : mapping of str to str
        For people and reports; mean nothing here.
    """

    id: str
    name: str
    digest: bytes = field(repr=False)
    made: float
    expires: float = math.inf
    previous: bytes = field(default=NO_DIGEST, repr=False)
    previous_until: float = -math.inf
    models: frozenset[str] | None = None
    admin: bool = False
    limits: KeyLimits = field(default_factory=KeyLimits)
    labels: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.name.strip() or not self.name.isprintable():
            raise InputError("name", "be printable text", self.name, "Name the key's owner or use.")
        for name in self.models or ():
            if not name.strip() or not name.isprintable():
                raise InputError("scope", "hold printable names", name, "Leave out what is empty.")
        if self.models is not None and not self.models:
            hint = "Name a destination, or leave it out to allow all."
            raise InputError("models", "hold at least one name", (), hint)
        for name in ("made", "expires", "previous_until"):
            value = getattr(self, name)
            if not math.isinf(value):
                _check.number(name, value, low=0.0, high=_LAST)

    def may(self, destination: str) -> bool:
        """Whether it may use a destination."""
        return self.models is None or destination in self.models

    def allow(self, destination: str) -> None:
        """Nothing where it may use a destination.

        Raises
        ------
        RefusedError
            It may not; status 403.
        """
        if self.models is not None and destination not in self.models:
            rule, hint = "be in the scope of this key", "Ask for another, or for a wider key."
            raise RefusedError("model", rule, destination, hint, **_FORBIDDEN)

    def allow_admin(self) -> None:
        """Nothing where it may see and change the gateway itself.

        Raises
        ------
        RefusedError
            It may not; status 403.
        """
        if not self.admin:
            hint = "Make one with `turnout keys new NAME --admin`."
            raise RefusedError("key", "be one for administration", self.name, hint, **_FORBIDDEN)


_FORBIDDEN: dict[str, Any] = {
    "status": 403,
    "code": "out_of_scope",
    "kind": "permission_error",
    "reason": "key",
}


@dataclass(frozen=True, slots=True)
class Made:
    """A key with the secret that opens it.

    Parameters
    ----------
    key : Key
    secret : str
        Nowhere else: whoever loses it needs another.
    """

    key: Key
    secret: str = field(repr=False)


def make(name: str, *, now: float, taken: frozenset[str] = frozenset(), **fields: Any) -> Made:
    """A new key and its secret, which is nowhere else.

    Parameters
    ----------
    name : str
    now : float
        Seconds since 1970.
    taken : frozenset of str
        Ids that are in use.
    **fields
        As `Key`.

    Raises
    ------
    InputError
        A field breaks a rule.
    """
    id_ = _new_id()
    while id_ in taken:
        id_ = _new_id()
    secret = _new_secret(id_)
    return Made(Key(id=id_, name=name, digest=_digest(secret), made=now, **fields), secret)


def rotated(key: Key, *, now: float, grace: float) -> Made:
    """The key with a new secret; the present one is good for `grace` seconds more.

    Raises
    ------
    InputError
        The key has expired, or the grace is no time.
    """
    _check.number("grace", grace, low=0.0)
    if now >= key.expires:
        raise InputError("key", "not have expired", key.name, "Revoke it and make a new one.")
    secret = _new_secret(key.id)
    previous = (key.digest, now + grace) if grace else (NO_DIGEST, -math.inf)
    digest = _digest(secret)
    return Made(
        replace(key, digest=digest, previous=previous[0], previous_until=previous[1]), secret
    )


def _new_id() -> str:
    return "".join(secrets.choice(ID) for _ in range(8))


def _new_secret(id_: str) -> str:
    return f"tn-{id_}-{secrets.token_urlsafe(32)}"


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
