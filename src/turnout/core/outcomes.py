"""Outcomes: what happened when each input went to each destination."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from turnout.core import _check
from turnout.core._check import Bool, Float
from turnout.core.errors import InputError
from turnout.core.pool import Pool

__all__ = ["Outcomes"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Outcomes:
    """A table of n inputs by m destinations: how good each answer was, and what it cost.

    The same type holds a full benchmark (every cell seen) and a log of single choices (one cell
    seen a row, with the `propensity` of that choice).

    Parameters
    ----------
    inputs : sequence of str, or array (n, d)
        What was asked.
    names : sequence of str
        The m destinations, in column order.
    quality : array (n, m)
        In [0, 1]; NaN = never seen.
    cost : array (n, m)
        Price really paid for each answer, any one currency; >= 0; NaN = never seen.
    latency : array (n, m), optional
        Seconds to the whole answer; >= 0; NaN = never seen.
    propensity : array (n, m), optional
        Probability with which the logging policy chose each cell; in (0, 1]; NaN = unknown.
    group : sequence of str, optional
        One label a row: which benchmark, which subject, which tenant.
    answers : array of object (n, m), optional
        What each destination answered (str, or None = never seen).

    Raises
    ------
    InputError
        Shapes disagree, a quality lies outside [0, 1], a cost is negative or infinite, a
        destination was never seen at all, or there is no row.
    """

    inputs: Sequence[str] | NDArray[Any]
    names: tuple[str, ...]
    quality: Float
    cost: Float
    latency: Float | None = None
    propensity: Float | None = None
    group: tuple[str, ...] | None = None
    answers: NDArray[np.object_] | None = None

    def __post_init__(self) -> None:
        set_ = object.__setattr__
        set_(self, "names", _check.names("outcomes.names", self.names))
        inputs = self.inputs
        if isinstance(inputs, str):
            raise InputError("outcomes.inputs", "be a sequence", inputs, "Wrap it in a list.")
        if isinstance(inputs, np.ndarray) and inputs.ndim == 2:
            inputs = _check.floats("outcomes.inputs", inputs, (None, None))
        else:
            inputs = tuple(inputs)
            for row, text in enumerate(inputs):
                if not isinstance(text, str):
                    rule = "hold strings (or be an array (n, d))"
                    raise InputError(f"outcomes.inputs[{row}]", rule, text, "Convert it to text.")
        set_(self, "inputs", inputs)
        n, m = len(inputs), len(self.names)
        if n == 0:
            raise InputError("outcomes.inputs", "hold at least one row", 0, "Add rows.")
        shape = (n, m)
        quality = _check.floats("outcomes.quality", self.quality, shape, low=0, high=1, nan=True)
        set_(self, "quality", quality)
        set_(self, "cost", _check.floats("outcomes.cost", self.cost, shape, low=0, nan=True))
        never = np.isnan(quality).all(axis=0)
        if never.any():
            name = self.names[int(np.flatnonzero(never)[0])]
            raise InputError(
                f"outcomes.quality of {name!r}",
                "be seen in at least one row",
                "only NaN",
                "Drop this destination or add rows in which it answered.",
            )
        if self.latency is not None:
            value = _check.floats("outcomes.latency", self.latency, shape, low=0, nan=True)
            set_(self, "latency", value)
        if self.propensity is not None:
            value = _check.floats(
                "outcomes.propensity", self.propensity, shape, low=1e-300, high=1, nan=True
            )
            set_(self, "propensity", value)
        if self.group is not None:
            group = tuple(str(label) for label in self.group)
            if len(group) != n:
                raise InputError("outcomes.group", f"hold {n} labels", len(group), "One a row.")
            set_(self, "group", group)
        if self.answers is not None:
            answers = np.asarray(self.answers, dtype=object)
            _check.expect_shape("outcomes.answers", answers, shape)
            set_(self, "answers", _check.frozen(answers))

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.inputs)

    @property
    def m(self) -> int:
        """Number of destinations."""
        return len(self.names)

    @property
    def seen(self) -> Bool:
        """Cells with a quality, (n, m)."""
        return ~np.isnan(self.quality)

    def take(self, rows: NDArray[np.integer[Any]] | NDArray[np.bool_] | Sequence[int]) -> Outcomes:
        """The table of some rows: indices or a mask (n,)."""
        index = np.asarray(rows)
        index = np.flatnonzero(index) if index.dtype == np.bool_ else index.astype(np.int64)
        inputs = self.inputs
        return replace(
            self,
            inputs=inputs[index]
            if isinstance(inputs, np.ndarray)
            else tuple(inputs[int(i)] for i in index),
            quality=self.quality[index],
            cost=self.cost[index],
            latency=None if self.latency is None else self.latency[index],
            propensity=None if self.propensity is None else self.propensity[index],
            group=None if self.group is None else tuple(self.group[int(i)] for i in index),
            answers=None if self.answers is None else self.answers[index],
        )

    def select(self, names: Sequence[str]) -> Outcomes:
        """The table of some destinations, in the order of `names`."""
        unknown = [name for name in names if name not in self.names]
        if unknown:
            hint = f"Choose among: {', '.join(self.names)}."
            raise InputError("names", "be destinations of the table", unknown[0], hint)
        columns = [self.names.index(name) for name in names]
        return replace(
            self,
            names=tuple(names),
            quality=self.quality[:, columns],
            cost=self.cost[:, columns],
            latency=None if self.latency is None else self.latency[:, columns],
            propensity=None if self.propensity is None else self.propensity[:, columns],
            answers=None if self.answers is None else self.answers[:, columns],
        )

    def mean_quality(self) -> Float:
        """Mean quality (m,) of each destination over the rows in which it was seen."""
        return np.asarray(np.nanmean(self.quality, axis=0))

    def mean_cost(self) -> Float:
        """Mean cost (m,) of each destination over the rows in which it was seen; 0 if never."""
        seen = ~np.isnan(self.cost)
        total = np.where(seen, self.cost, 0.0).sum(axis=0)
        return np.asarray(total / np.maximum(seen.sum(axis=0), 1))

    def pool(self) -> Pool:
        """A pool of these destinations priced at their mean cost per item."""
        return Pool(names=self.names, usd_per_item=self.mean_cost())

    def fingerprint(self) -> str:
        """Hash of everything a router learns from: inputs, names, quality and cost."""
        digest = hashlib.sha256()
        digest.update("\0".join(self.names).encode())
        if isinstance(self.inputs, np.ndarray):
            digest.update(np.ascontiguousarray(self.inputs).tobytes())
        else:
            for text in self.inputs:
                raw = text.encode("utf-8", "surrogatepass")
                digest.update(len(raw).to_bytes(8, "little") + raw)
        digest.update(np.ascontiguousarray(self.quality).tobytes())
        digest.update(np.ascontiguousarray(self.cost).tobytes())
        return digest.hexdigest()

    def __repr__(self) -> str:
        blank = int((~self.seen).sum())
        return f"Outcomes(n={self.n}, m={self.m}, blank={blank}, names={', '.join(self.names)})"
