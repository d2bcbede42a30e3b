"""Trace: what a router decided, token by token and layer by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from turnout.core import _check, _tracechecks, _tracefiles
from turnout.core._check import Bool, Float, Int
from turnout.core.errors import InputError

__all__ = ["Trace"]

#: Optional fields with one integer a token; -1 = unknown in each of them.
_TOKEN_FIELDS = ("tokens", "positions", "phase")


@dataclass(frozen=True, eq=False, kw_only=True)
class Trace:
    """Decisions of a router inside a network: t tokens, l layers, k choices each.

    In every field with one integer a token, -1 means unknown.

    Parameters
    ----------
    experts : integer array (t, l, k)
        Chosen expert, 0 to e - 1, in order of score; -1 = masked, dropped, or a slot not used.
    e : int
        Experts in each layer.
    weights : array (t, l, k), optional
        Weight of each choice, >= 0; 0 where the expert is -1.
    requests : integer array (r + 1,), optional
        Token offsets of the r requests: starts at 0, ends at t, does not decrease.
    tokens : integer array (t,), optional
        Id of each token in its tokenizer's vocabulary.
    positions : integer array (t,), optional
        Place of each token in its sequence, from 0.
    phase : integer array (t,), optional
        0 = read from the prompt (prefill), 1 = generated (decode).
    mask : bool array (t,), optional
        True = a real token. Masked tokens have no experts and count nowhere.
    dropped : bool array (t, l, k), optional
        Slots that were chosen and then dropped for want of capacity; their expert is -1.
    layers : integer array (l,), optional
        Number of each mixture-of-experts layer in the whole network, rising. 0 to l - 1 unless
        said.
    tags : mapping of str to integer array (t,)
        What else is known of each token, such as its domain.
    tag_names : mapping of str to sequence of str
        Names of the values 0, 1, ... of a tag, for example `{"domain": ("arxiv", "code")}`.
    meta : mapping of str to str
        Where the trace is from: model, hash of its configuration, gate, versions.

    Raises
    ------
    InputError
        A shape, an expert number, a weight, an offset or a name breaks the above.
    """

    experts: NDArray[np.int32]
    e: int
    weights: NDArray[np.float32] | None = None
    requests: Int | None = None
    tokens: Int | None = None
    positions: Int | None = None
    phase: Int | None = None
    mask: Bool | None = None
    dropped: Bool | None = None
    layers: Int | None = None
    tags: Mapping[str, Int] = field(default_factory=dict)
    tag_names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    meta: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        set_ = object.__setattr__
        set_(self, "e", _check.integer("trace.e", self.e, low=1))
        set_(self, "experts", _tracechecks.experts(self.experts, self.e))
        t, layers = self.experts.shape[:2]
        if self.weights is not None:
            set_(self, "weights", _tracechecks.weights(self.weights, self.experts))
        if self.requests is not None:
            set_(self, "requests", _tracechecks.offsets(self.requests, t))
        for name in _TOKEN_FIELDS:
            value = getattr(self, name)
            if value is not None:
                high = 1 if name == "phase" else None
                set_(self, name, _tracechecks.per_token(f"trace.{name}", value, t, high))
        if self.mask is not None:
            mask = _tracechecks.flags("trace.mask", self.mask, (t,))
            if bool((self.experts[~mask] >= 0).any()):
                hint = "Set experts to -1 where the mask is False."
                raise InputError("trace.mask", "be True where experts are chosen", False, hint)
            set_(self, "mask", mask)
        if self.dropped is not None:
            dropped = _tracechecks.flags("trace.dropped", self.dropped, self.experts.shape)
            if bool((self.experts[dropped] >= 0).any()):
                hint = "Set experts to -1 where a choice was dropped."
                raise InputError("trace.dropped", "be False where experts is >= 0", True, hint)
            if self.mask is not None and bool(dropped[~self.mask].any()):
                hint = "A masked token chooses nothing."
                raise InputError("trace.dropped", "be False where the mask is", True, hint)
            set_(self, "dropped", dropped)
        if self.layers is not None:
            set_(self, "layers", _tracechecks.numbers(self.layers, layers))
        tags = _tracechecks.tags(self.tags, t)
        set_(self, "tags", MappingProxyType(tags))
        set_(self, "tag_names", MappingProxyType(_tracechecks.names(self.tag_names, tags)))
        for key, value in self.meta.items():
            if not isinstance(key, str) or not isinstance(value, str):
                raise InputError("trace.meta", "map text to text", {key: value}, "Use str(value).")
        set_(self, "meta", MappingProxyType(dict(self.meta)))

    def __getstate__(self) -> dict[str, Any]:
        plain = ("tags", "tag_names", "meta")
        return self.__dict__ | {name: dict(getattr(self, name)) for name in plain}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            kept = MappingProxyType(value) if isinstance(value, dict) else value
            kept = _check.frozen(kept) if isinstance(kept, np.ndarray) else kept
            object.__setattr__(self, name, kept)

    @property
    def t(self) -> int:
        """Number of tokens, masked ones included."""
        return int(self.experts.shape[0])

    @property
    def l(self) -> int:  # noqa: E743 (the fixed letter of layers)
        """Number of layers."""
        return int(self.experts.shape[1])

    @property
    def k(self) -> int:
        """Choices of a token in a layer, at most."""
        return int(self.experts.shape[2])

    @property
    def layer_numbers(self) -> Int:
        """Number (l,) of each layer: `layers`, or 0 to l - 1."""
        return np.arange(self.l, dtype=np.int64) if self.layers is None else self.layers

    @classmethod
    def from_logits(cls, logits: Any, k: int) -> Trace:
        """The top-k trace of router logits, weights by a softmax over the k chosen.

        Ties go to the lower expert.

        Parameters
        ----------
        logits : sequence of arrays (t, e)
            One a layer; -infinity = never to be chosen.
        k : int
            Choices of a token in a layer.

        Raises
        ------
        InputError
            k lies outside 1 to e, the layers differ in shape, or a logit is NaN or +infinity.
        """
        layers = [np.asarray(layer) for layer in logits]
        if not layers:
            raise InputError("logits", "hold at least one layer", 0, "Pass one array a layer.")
        _check.expect_shape("logits[0]", layers[0], (None, None))
        t, e = layers[0].shape
        _check.integer("k", k, low=1, high=e)
        experts = np.empty((t, len(layers), k), dtype=np.int32)
        weights = np.empty(experts.shape, dtype=np.float32)
        for number, layer in enumerate(layers):
            values = _check.floats(f"logits[{number}]", layer, (t, e), inf=True)
            if values.size and values.max() == np.inf:
                hint = "Look at how they were computed."
                raise InputError(f"logits[{number}]", "not be infinite", np.inf, hint)
            best = np.argsort(-values, axis=1, kind="stable")[:, :k]
            top = np.take_along_axis(values, best, axis=1)
            possible = np.isfinite(top)
            shifted = np.where(possible, top, 0.0) - np.where(possible[:, :1], top[:, :1], 0.0)
            share = np.where(possible, np.exp(np.where(possible, shifted, 0.0)), 0.0)
            weights[:, number] = share / np.maximum(share.sum(axis=1, keepdims=True), 1e-300)
            experts[:, number] = np.where(possible, best, -1)
        return cls(experts=experts, e=e, weights=weights)

    def load(self) -> Float:
        """Share of each layer's kept choices that each expert receives, (l, e)."""
        counts = np.zeros((self.l, self.e))
        for layer in range(self.l):
            chosen = self.experts[:, layer].ravel()
            counts[layer] = np.bincount(chosen[chosen >= 0], minlength=self.e)
        shares: Float = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1.0)
        return shares

    def real(self) -> Trace:
        """The trace without its masked tokens; the requests keep their order."""
        if self.mask is None:
            return self
        if bool(self.mask.all()):
            return replace(self, mask=None)
        offsets = self.requests
        if offsets is not None:
            offsets = np.concatenate(([0], np.cumsum(self.mask)))[offsets]
        return self._at(np.flatnonzero(self.mask), requests=offsets, mask=None)

    def select(
        self, *, layers: Sequence[int] | None = None, requests: Sequence[int] | None = None
    ) -> Trace:
        """Some of the layers, some of the requests, or both, in the order asked for.

        Parameters
        ----------
        layers : sequence of int, optional
            Layer numbers as in `layer_numbers`, rising.
        requests : sequence of int, optional
            Requests from 0 to r - 1.

        Raises
        ------
        InputError
            A layer or a request is not there, or the trace has no requests.
        """
        trace = self if layers is None else self._with_layers(layers)
        return trace if requests is None else trace._with_requests(requests)

    def _with_layers(self, layers: Sequence[int]) -> Trace:
        known = {int(number): place for place, number in enumerate(self.layer_numbers)}
        missing = [number for number in layers if int(number) not in known]
        if missing or len(layers) == 0:
            rule = f"be at least one of {list(known)}"
            raise InputError("layers", rule, missing, "Name layers of this trace.")
        at = [known[int(number)] for number in layers]
        return replace(
            self,
            experts=self.experts[:, at],
            weights=None if self.weights is None else self.weights[:, at],
            dropped=None if self.dropped is None else self.dropped[:, at],
            layers=self.layer_numbers[at],
        )

    def _with_requests(self, requests: Sequence[int]) -> Trace:
        if self.requests is None:
            hint = "Make the trace with its request offsets."
            raise InputError("trace.requests", "be known to select by request", None, hint)
        chosen = np.asarray(requests, dtype=np.int64).reshape(-1)
        r = len(self.requests) - 1
        if chosen.size and (chosen.min() < 0 or chosen.max() >= r):
            wrong = int(chosen.min() if chosen.min() < 0 else chosen.max())
            raise InputError("requests", f"lie in [0, {r - 1}]", wrong, "Count from 0.")
        starts, ends = self.requests[chosen], self.requests[chosen + 1]
        offsets = np.concatenate(([0], np.cumsum(ends - starts)))
        # Token i of the result stands at i minus its new request's start plus the old start.
        at = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], ends - starts)
        return self._at(at, requests=offsets)

    def _at(self, at: Int, **changes: Any) -> Trace:
        """The tokens at some places; `changes` holds what does not follow from them."""
        for name in ("experts", "weights", *_TOKEN_FIELDS, "mask", "dropped"):
            array = getattr(self, name)
            changes.setdefault(name, None if array is None else array[at])
        tags = {name: tag[at] for name, tag in self.tags.items()}
        return replace(self, tags=tags, **changes)

    @classmethod
    def concatenate(cls, traces: Sequence[Trace]) -> Trace:
        """Traces of one model, one after the other.

        A trace without requests counts as one request. Where only some know a field, the others
        get -1 (tokens, positions, phase, tags), True (mask) or False (dropped); fewer choices
        are filled up with unused slots. Of `meta`, what all agree on is kept.

        Raises
        ------
        InputError
            There are none, they differ in experts, layers or names of a tag's values, or only
            some have weights.
        """
        parts = list(traces)
        if not parts:
            raise InputError("traces", "hold at least one trace", 0, "Pass one or more.")
        first, k = parts[0], max(trace.k for trace in parts)
        for trace in parts[1:]:
            fits = trace.e == first.e and np.array_equal(trace.layer_numbers, first.layer_numbers)
            if not fits:
                rule = f"all have {first.e} experts in layers {first.layer_numbers.tolist()}"
                found = f"{trace.e} experts in layers {trace.layer_numbers.tolist()}"
                raise InputError("traces", rule, found, "Join traces of one model.")
            if (trace.weights is None) != (first.weights is None):
                hint = "Drop the weights, or record them everywhere."
                raise InputError("traces", "all have weights, or none", "some", hint)
        merged: dict[str, Any] = {
            name: _joined([getattr(trace, name) for trace in parts], parts, fill)
            for name, fill in [*((name, -1) for name in _TOKEN_FIELDS), ("mask", True)]
        }
        for name, fill in (("experts", -1), ("weights", 0.0), ("dropped", False)):
            wide = [
                np.full((trace.t, trace.l, k), fill)
                if getattr(trace, name) is None
                else _widened(getattr(trace, name), k, fill)
                for trace in parts
            ]
            known = any(getattr(trace, name) is not None for trace in parts)
            merged[name] = np.concatenate(wide) if known else None
        offsets = [np.zeros(1, dtype=np.int64)]
        for trace in parts:
            inner = np.array([0, trace.t]) if trace.requests is None else trace.requests
            offsets.append(inner[1:] + offsets[-1][-1])
        names: dict[str, Sequence[str]] = {}
        for trace in parts:
            for tag, values in trace.tag_names.items():
                if names.setdefault(tag, values) != values:
                    hint = "Number the values alike."
                    raise InputError(f"traces' tag {tag!r}", f"name {names[tag]}", values, hint)
        tags = sorted({tag for trace in parts for tag in trace.tags})
        shared = set.intersection(*(set(trace.meta.items()) for trace in parts))
        return cls(
            e=first.e,
            requests=np.concatenate(offsets),
            layers=first.layers,
            tags={tag: _joined([trace.tags.get(tag) for trace in parts], parts) for tag in tags},
            tag_names=names,
            meta={key: value for key, value in first.meta.items() if (key, value) in shared},
            **merged,
        )

    def save(self, path: str | Path) -> None:
        """Write `.npz` (compact) or `.parquet` (one row a choice, for pandas and DuckDB).

        The Parquet columns are `token`, `layer`, `slot`, `expert`, then whatever is known of
        `weight`, `dropped`, `layer_number`, `request`, `token_id`, `position`, `phase`, `mask`
        and, a column each, the tags: as text where their values have names.

        Raises
        ------
        InputError
            The ending is neither.
        MissingExtraError
            Parquet without pyarrow.
        """
        arrays = {name: getattr(self, name) for name in _tracefiles.ARRAYS}
        header = _tracefiles.Header(
            e=self.e,
            tag_names={name: list(values) for name, values in self.tag_names.items()},
            meta=dict(self.meta),
        )
        _tracefiles.write(Path(path), arrays, dict(self.tags), header)

    @classmethod
    def read(cls, path: str | Path) -> Trace:
        """Read what `save` wrote, whatever the file is called. Never unpickles.

        Raises
        ------
        DataError
            There is no such file, it is damaged, or it holds no trace.
        MissingExtraError
            Parquet without pyarrow.
        """
        arrays, tags, header = _tracefiles.read(Path(path))
        return cls(e=header.e, tags=tags, tag_names=header.tag_names, meta=header.meta, **arrays)


def _joined(arrays: list[Any], parts: list[Trace], fill: Any = -1) -> Any:
    if all(array is None for array in arrays):
        return None
    pairs = zip(arrays, parts, strict=True)
    return np.concatenate(
        [np.full(part.t, fill) if array is None else array for array, part in pairs]
    )


def _widened(array: NDArray[Any], k: int, fill: Any) -> NDArray[Any]:
    if array.shape[2] == k:
        return array
    wide = np.full((*array.shape[:2], k), fill, dtype=array.dtype)
    wide[:, :, : array.shape[2]] = array
    return wide
