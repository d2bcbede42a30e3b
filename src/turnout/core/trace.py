"""Trace: what a router decided, token by token and layer by layer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from turnout.core import _check
from turnout.core._check import Float, Int
from turnout.core.errors import DataError, InputError, MissingExtraError

__all__ = ["Trace"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Trace:
    """Decisions of a router inside a network: t tokens, l layers, k choices each.

    Parameters
    ----------
    experts : integer array (t, l, k)
        Chosen expert, 0 to e - 1; -1 = masked or dropped.
    e : int
        Experts in each layer.
    weights : array (t, l, k), optional
        Weight of each choice, >= 0; 0 where the expert is -1.
    requests : integer array (r + 1,), optional
        Token offsets of the r requests: starts at 0, ends at t, does not decrease.

    Raises
    ------
    InputError
        A shape, an expert number, a weight or an offset breaks the above.
    """

    experts: NDArray[np.int32]
    e: int
    weights: NDArray[np.float32] | None = None
    requests: Int | None = None

    def __post_init__(self) -> None:
        set_ = object.__setattr__
        set_(self, "e", _check.integer("trace.e", self.e, low=1))
        experts = np.asarray(self.experts)
        if not np.issubdtype(experts.dtype, np.integer):
            raise InputError("trace.experts", "hold integers", experts.dtype.name, "Cast it.")
        _check.expect_shape("trace.experts", experts, (None, None, None))
        if experts.size and (experts.min() < -1 or experts.max() >= self.e):
            wrong = experts.min() if experts.min() < -1 else experts.max()
            rule = f"lie in [-1, {self.e - 1}]"
            raise InputError("trace.experts", rule, int(wrong), "-1 stands for a masked token.")
        set_(self, "experts", _check.frozen(experts.astype(np.int32, copy=False)))
        if self.weights is not None:
            weights = _check.floats("trace.weights", self.weights, experts.shape, low=0.0)
            if bool((weights[experts < 0] > 0).any()):
                hint = "Set the weight to 0 where nothing is chosen."
                raise InputError("trace.weights", "be 0 where experts is -1", "a positive", hint)
            set_(self, "weights", _check.frozen(weights.astype(np.float32)))
        if self.requests is not None:
            offsets = np.asarray(self.requests, dtype=np.int64)
            ordered = (
                offsets.ndim == 1
                and len(offsets) >= 1
                and offsets[0] == 0
                and offsets[-1] == len(experts)
                and bool((np.diff(offsets) >= 0).all())
            )
            if not ordered:
                rule = f"rise from 0 to {len(experts)}, one offset a request and one at the end"
                raise InputError("trace.requests", rule, offsets.tolist(), "Recount the tokens.")
            set_(self, "requests", _check.frozen(offsets))

    @classmethod
    def from_logits(cls, logits: Any, k: int) -> Trace:
        """The top-k trace of router logits, one array (t, e) a layer, weights by softmax."""
        stack = np.stack([np.asarray(layer, dtype=np.float64) for layer in logits], axis=1)
        e = stack.shape[2]
        _check.integer("k", k, low=1, high=e)
        experts = np.argsort(-stack, axis=2, kind="stable")[:, :, :k]
        top = np.take_along_axis(stack, experts, axis=2)
        weights = np.exp(top - top.max(axis=2, keepdims=True))
        weights /= weights.sum(axis=2, keepdims=True)
        return cls(experts=experts.astype(np.int32), e=e, weights=weights.astype(np.float32))

    def load(self) -> Float:
        """Share of each layer's kept choices that each expert receives, (l, e)."""
        layers = self.experts.shape[1]
        counts = np.zeros((layers, self.e))
        for layer in range(layers):
            chosen = self.experts[:, layer].ravel()
            counts[layer] = np.bincount(chosen[chosen >= 0], minlength=self.e)
        shares: Float = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1.0)
        return shares

    def save(self, path: str | Path) -> None:
        """Write `.npz`, or `.parquet` (one row a choice: token, layer, slot, expert, weight)."""
        path = Path(path)
        if path.suffix == ".npz":
            arrays: dict[str, Any] = {"experts": self.experts, "e": np.int64(self.e)}
            if self.weights is not None:
                arrays["weights"] = self.weights
            if self.requests is not None:
                arrays["requests"] = self.requests
            with path.open("wb") as file:
                np.savez_compressed(file, **arrays)
        elif path.suffix == ".parquet":
            self._save_parquet(path)
        else:
            raise _unknown_suffix(path)

    @classmethod
    def read(cls, path: str | Path) -> Trace:
        """Read what `save` wrote. Never unpickles."""
        path = Path(path)
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                missing = {"experts", "e"} - set(arrays.files)
                if missing:
                    hint = "Write the file with Trace.save."
                    raise DataError(str(path), f"hold {sorted(missing)}", arrays.files, hint)
                return cls(
                    experts=arrays["experts"],
                    e=int(arrays["e"]),
                    weights=arrays["weights"] if "weights" in arrays.files else None,
                    requests=arrays["requests"] if "requests" in arrays.files else None,
                )
        if path.suffix == ".parquet":
            return cls._read_parquet(path)
        raise _unknown_suffix(path)

    def _save_parquet(self, path: Path) -> None:
        arrow, parquet = _parquet()
        t, layers, k = self.experts.shape
        token, layer, slot = np.indices((t, layers, k), dtype=np.int32).reshape(3, -1)
        columns: dict[str, Any] = {
            "token": token,
            "layer": layer,
            "slot": slot,
            "expert": self.experts.ravel(),
        }
        if self.weights is not None:
            columns["weight"] = self.weights.ravel()
        shape = {"t": t, "l": layers, "k": k, "e": self.e}
        meta = {f"turnout.{key}": str(value) for key, value in shape.items()}
        if self.requests is not None:
            meta["turnout.requests"] = ",".join(map(str, self.requests.tolist()))
        table = arrow.table(columns).replace_schema_metadata(meta)
        parquet.write_table(table, path, compression="zstd")

    @classmethod
    def _read_parquet(cls, path: Path) -> Trace:
        _, parquet = _parquet()
        table = parquet.read_table(path)
        meta = {
            key.decode().removeprefix("turnout."): value.decode()
            for key, value in (table.schema.metadata or {}).items()
        }
        missing = {"t", "l", "k", "e"} - set(meta)
        if missing:
            hint = "Write the file with Trace.save."
            raise DataError(str(path), f"carry metadata {sorted(missing)}", sorted(meta), hint)
        shape = (int(meta["t"]), int(meta["l"]), int(meta["k"]))
        where = tuple(table[axis].to_numpy() for axis in ("token", "layer", "slot"))
        experts = np.full(shape, -1, dtype=np.int32)
        experts[where] = table["expert"].to_numpy()
        weights = None
        if "weight" in table.column_names:
            weights = np.zeros(shape, dtype=np.float32)
            weights[where] = table["weight"].to_numpy()
        offsets = meta.get("requests")
        requests = None if offsets is None else np.array(offsets.split(","), dtype=np.int64)
        return cls(experts=experts, e=int(meta["e"]), weights=weights, requests=requests)


def _parquet() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MissingExtraError("pyarrow", "parquet") from None
    return pyarrow, pyarrow.parquet


def _unknown_suffix(path: Path) -> InputError:
    return InputError("path", "end in .npz or .parquet", str(path), "Choose one of the two.")
