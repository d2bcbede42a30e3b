"""Pool: where an input can go, and what that costs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from turnout.core import _check
from turnout.core._check import Bool, Float
from turnout.core.errors import InputError

__all__ = ["Pool"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Pool:
    """The destinations an input can be sent to.

    Prices may be given per item, per token, or both (then they add up); the unit stands in the
    field's name, and "usd" may be read as any one currency used throughout.

    Parameters
    ----------
    names : sequence of str
        The m destinations: unique, non-empty. Their order is the column order of every array.
    usd_per_item : array (m,), optional
        Price of one item, whatever its length. >= 0.
    usd_per_input_token, usd_per_output_token : array (m,), optional
        Price of one token read, of one token written. >= 0.
    capacity : array (m,), optional
        Most items a destination takes in one batch; infinity = no limit. >= 0.
    up : array of bool (m,), optional
        Which destinations can be used now. All of them unless said.
    description : sequence of str, optional
        One text a destination, for methods that read about their candidates.
    features : array (m, d), optional
        One vector a destination, likewise.

    Raises
    ------
    InputError
        A name is missing or repeated, an array has another length than `names`, a price is
        negative or not finite, or every destination is down.
    """

    names: tuple[str, ...]
    usd_per_item: Float | None = None
    usd_per_input_token: Float | None = None
    usd_per_output_token: Float | None = None
    capacity: Float | None = None
    up: Bool | None = None
    description: tuple[str, ...] | None = None
    features: Float | None = None

    def __post_init__(self) -> None:
        set_ = object.__setattr__
        set_(self, "names", _check.names("pool.names", self.names))
        for field in ("usd_per_item", "usd_per_input_token", "usd_per_output_token"):
            value = getattr(self, field)
            if value is not None:
                set_(self, field, _check.floats(f"pool.{field}", value, (self.m,), low=0.0))
        if self.capacity is not None:
            capacity = _check.floats("pool.capacity", self.capacity, (self.m,), low=0.0, inf=True)
            set_(self, "capacity", capacity)
        up = np.ones(self.m, dtype=np.bool_) if self.up is None else np.asarray(self.up)
        if up.dtype != np.bool_:
            raise InputError("pool.up", "hold booleans", up.dtype.name, "Use True or False.")
        _check.expect_shape("pool.up", up, (self.m,))
        if not up.any():
            raise InputError(
                "pool.up", "leave at least one destination up", up.tolist(), "Bring one back up."
            )
        set_(self, "up", _check.frozen(up))
        if self.description is not None:
            texts = tuple(self.description)
            if len(texts) != self.m or not all(isinstance(text, str) for text in texts):
                rule = f"hold {self.m} texts, one a destination"
                raise InputError("pool.description", rule, texts, "Use '' where there is none.")
            set_(self, "description", texts)
        if self.features is not None:
            features = _check.floats("pool.features", self.features, (self.m, None))
            set_(self, "features", features)

    @property
    def m(self) -> int:
        """Number of destinations."""
        return len(self.names)

    @property
    def available(self) -> Bool:
        """Which destinations are up, (m,); always set."""
        assert self.up is not None
        return self.up

    def index(self, name: str) -> int:
        """Column of one destination by name."""
        try:
            return self.names.index(name)
        except ValueError:
            hint = f"Choose one of: {', '.join(self.names)}."
            raise InputError("destination", "be in the pool", name, hint) from None

    def expected_cost(self, input_tokens: Float, output_tokens: Float) -> Float:
        """Cost (n, m) of items of known length under this pool's prices.

        Parameters
        ----------
        input_tokens : array (n,)
            Tokens read by any destination.
        output_tokens : array (n, m) or (n, 1)
            Tokens each destination is expected to write.
        """
        cost = np.zeros((len(input_tokens), self.m))
        if self.usd_per_item is not None:
            cost += self.usd_per_item
        if self.usd_per_input_token is not None:
            cost += np.asarray(input_tokens)[:, None] * self.usd_per_input_token
        if self.usd_per_output_token is not None:
            cost += np.asarray(output_tokens) * self.usd_per_output_token
        return cost

    def with_down(self, down: Iterable[str]) -> Pool:
        """The same pool with some destinations down."""
        up = self.available.copy()
        for name in down:
            up[self.index(name)] = False
        return replace(self, up=up)

    def select(self, names: Sequence[str]) -> Pool:
        """The pool of `names`, in that order."""
        rows = [self.index(name) for name in names]

        def pick(array: Float | None) -> Float | None:
            return None if array is None else array[rows]

        return Pool(
            names=tuple(names),
            usd_per_item=pick(self.usd_per_item),
            usd_per_input_token=pick(self.usd_per_input_token),
            usd_per_output_token=pick(self.usd_per_output_token),
            capacity=pick(self.capacity),
            up=self.available[rows],
            description=None if self.description is None else [self.description[r] for r in rows],  # type: ignore[arg-type]
            features=pick(self.features),
        )

    def __repr__(self) -> str:
        down = "" if self.available.all() else f", {int((~self.available).sum())} down"
        return f"Pool({', '.join(self.names)}{down})"
