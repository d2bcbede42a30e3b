"""Record what the routers of a model decide, forward by forward, as a `Trace`.

Works on any model with sites, swapped or not. Prefill and decoding steps of one sequence become one
request; padding is masked; the second run of a checkpointed layer is not recorded again.
"""

from __future__ import annotations

import json
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from types import TracebackType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from turnout._version import __version__
from turnout.core.errors import InputError
from turnout.core.trace import Trace
from turnout.experts.models.context import Reading
from turnout.experts.models.hooks import release, seated
from turnout.experts.models.router import Board
from turnout.experts.models.sites import Seat, sites
from turnout.nn.gates import Decision, LogEntry, RouteLog

__all__ = ["Recorder", "record"]


@dataclass(eq=False)
class _Chunk:
    """What one forward of one tower decided: b rows of s tokens, in numpy."""

    rows: int
    columns: tuple[tuple[int, int, int], ...]  # ordinal, layer, iteration
    e: int
    experts: NDArray[np.int32]
    weights: NDArray[np.float32]
    dropped: NDArray[np.bool_] | None
    fields: dict[str, NDArray[np.int64]]
    mask: NDArray[np.bool_] | None
    tags: dict[str, NDArray[np.int64]]
    decode: bool


@dataclass(eq=False)
class _Session:
    """Forwards of one tower over the same sequences."""

    tower: str
    chunks: list[_Chunk] = field(default_factory=list)
    cache: weakref.ReferenceType[Any] | None = None


class Recorder:
    """Sees every decision of a model; made by `record`.

    Parameters
    ----------
    model : torch.nn.Module
    sink : callable, optional
        Is given the trace of each forward when it ends, and nothing is kept.

    Attributes
    ----------
    log : RouteLog
        Decisions of the latest forward, with their gradients, for losses. Under reentrant
        checkpointing they have none.
    """

    def __init__(self, model: nn.Module, sink: Callable[[Trace], None] | None = None) -> None:
        self.model = model
        self.sink = sink
        self.log = RouteLog()
        self._sessions: list[_Session] = []
        self._open: dict[int, list[tuple[Seat, int, Decision]]] = {}
        self._lock = threading.Lock()
        self._board: Board | None = None
        self._meta = _meta(model)

    def __enter__(self) -> Recorder:
        self._board = seated(self.model)
        self._board.watch(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._board is not None
        self._board.unwatch(self)
        self._board = None
        release(self.model)

    def begin(self, reading: Reading) -> None:
        """A tower begins to read."""
        with self._lock:
            if reading.parent is None:
                self.log = RouteLog()
            self._open[id(reading)] = []

    def decided(
        self, reading: Reading | None, seat: Seat, iteration: int, decision: Decision
    ) -> None:
        """Keep one decision."""
        with self._lock:
            self.log.entries.append(LogEntry(seat.ordinal, iteration, decision))
            if reading is not None and id(reading) in self._open:
                light = _light(decision)
                self._open[id(reading)].append((seat, iteration, light))

    def end(self, reading: Reading, output: Any) -> None:
        """Keep one forward; a failed one is forgotten."""
        with self._lock:
            decisions = self._open.pop(id(reading), [])
            if not decisions or output is None:
                return
            chunk = _chunk(reading, decisions)
            if self.sink is not None:
                trace = _joined(_Session(reading.tower, [chunk]), self._meta)
                self.sink(trace)
                return
            session = self._session(reading)
            session.chunks.append(chunk)
            kept = reading.cache
            for name in ("cache", "past_key_values"):
                kept = getattr(output, name, None) if kept is None else kept
            session.cache = None if kept is None else weakref.ref(kept)

    def clear(self) -> None:
        """Forget what was recorded so far."""
        with self._lock:
            self._sessions = []
            self.log = RouteLog()

    @property
    def towers(self) -> tuple[str, ...]:
        """Paths of the pretrained models that have been recorded."""
        return tuple(dict.fromkeys(session.tower for session in self._sessions))

    def trace(self, tower: str | None = None) -> Trace:
        """What was recorded so far: one request a sequence, in the order they came.

        Rows of a batch are followed through the decoding steps by their cache; under beam search a
        row is a place in the batch, not a beam.

        Parameters
        ----------
        tower : str, optional
            Path of the pretrained model, for models with several, such as encoder and decoder.

        Raises
        ------
        InputError
            Nothing was recorded, or there are several towers and none is named.
        """
        towers = self.towers
        if not towers:
            hint = "Run the model inside `with record(model) as recorder`."
            raise InputError("recorder", "have seen a forward pass", 0, hint)
        if tower is None and len(towers) > 1:
            raise InputError("tower", f"be one of {list(towers)}", None, "Name it.")
        if tower is not None and tower not in towers:
            raise InputError("tower", f"be one of {list(towers)}", tower, "Name another.")
        with self._lock:
            wanted = [one for one in self._sessions if one.tower == (tower or towers[0])]
            parts = [_joined(session, self._meta) for session in wanted]
        return parts[0] if len(parts) == 1 else Trace.concatenate(parts)

    def _session(self, reading: Reading) -> _Session:
        """The session a forward belongs to: that of its cache, or a new one."""
        rows = 1 if reading.shape is None else reading.shape[0]
        if reading.past > 0 and reading.cache is not None:
            for session in reversed(self._sessions):
                known = None if session.cache is None else session.cache()
                same = session.tower == reading.tower and known is reading.cache
                if same and session.chunks[-1].rows == rows:
                    return session
        session = _Session(reading.tower)
        self._sessions.append(session)
        return session


def record(model: nn.Module, *, sink: Callable[[Trace], None] | None = None) -> Recorder:
    """A context in which every decision of a model is recorded; the model is not changed.

    Parameters
    ----------
    model : torch.nn.Module
        With mixture-of-experts layers, swapped or not.
    sink : callable, optional
        Is given the trace of each forward when it ends; nothing is kept then, so that a long run
        can be streamed to disk.

    Returns
    -------
    Recorder

    Raises
    ------
    InputError
        The model has no sites.
    """
    sites(model)
    return Recorder(model, sink)


def _light(decision: Decision) -> Decision:
    """A decision without gradients, scores and logits."""
    return Decision(
        experts=decision.experts.detach(),
        weights=decision.weights.detach(),
        e=decision.e,
        dropped=decision.dropped,
        mask=decision.mask,
    )


def _chunk(reading: Reading, decisions: list[tuple[Seat, int, Decision]]) -> _Chunk:
    """What one forward decided."""
    lengths = {decision.t for _, _, decision in decisions}
    counts = {decision.e for _, _, decision in decisions}
    if len(lengths) > 1 or len(counts) > 1:
        rule = "route the same tokens to as many experts in every layer, to be one trace"
        found = f"{sorted(lengths)} tokens, {sorted(counts)} experts"
        hint = "Read recorder.log instead."
        raise InputError(f"tower {reading.tower!r}", rule, found, hint)
    t = lengths.pop()
    e = counts.pop()
    shape = reading.shape if reading.t == t and reading.shape is not None else (1, t)
    wide = max(1, *(decision.k for _, _, decision in decisions))
    experts = torch.full((t, len(decisions), wide), -1, dtype=torch.int64)
    weights = torch.zeros((t, len(decisions), wide))
    dropped = torch.zeros((t, len(decisions), wide), dtype=torch.bool)
    for column, (_, _, decision) in enumerate(decisions):
        ids = decision.experts.cpu()
        experts[:, column, : decision.k] = ids.masked_fill(ids >= e, -1)
        weights[:, column, : decision.k] = decision.weights.float().cpu()
        if decision.dropped is not None:
            dropped[:, column, : decision.k] = decision.dropped.cpu()
    known = reading.t == t
    mask = reading.mask.cpu().numpy() if known and reading.mask is not None else None
    fields: dict[str, NDArray[np.int64]] = {}
    for name in ("tokens", "positions", "segments"):
        value = getattr(reading, name)
        if known and value is not None:
            array = value.cpu().numpy().astype(np.int64)
            fields[name] = array if mask is None or name == "segments" else _blank(array, mask)
    tags = {name: tag.cpu().numpy() for name, tag in reading.tags.items()} if known else {}
    if mask is not None:
        dropped &= torch.from_numpy(mask).reshape(-1, 1, 1)
    return _Chunk(
        rows=shape[0],
        columns=tuple((seat.ordinal, seat.layer, iteration) for seat, iteration, _ in decisions),
        e=e,
        experts=experts.numpy().astype(np.int32),
        weights=weights.clamp(min=0).numpy(),
        dropped=dropped.numpy() if bool(dropped.any()) else None,
        fields=fields,
        mask=mask,
        tags=tags,
        decode=reading.past > 0 and shape[1] == 1,
    )


def _blank(array: NDArray[np.int64], mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    blank: NDArray[np.int64] = np.where(mask, array, -1)
    return blank


def _joined(session: _Session, meta: dict[str, str]) -> Trace:
    """The trace of a session: its rows one after the other, and the documents packed in them."""
    chunks = session.chunks
    first = chunks[0]
    for chunk in chunks[1:]:
        if chunk.columns != first.columns:
            hint = "Read recorder.log instead."
            raise InputError("layers", "decide alike in every step", chunk.columns, hint)
    lengths = [len(chunk.experts) // chunk.rows for chunk in chunks]
    order = np.concatenate(
        [
            start + row * length + np.arange(length)
            for row in range(first.rows)
            for start, length in zip(_starts(chunks), lengths, strict=True)
        ]
    )
    # Requests end where a row ends, or where a packed document does.
    row_of = np.concatenate(
        [
            np.repeat(np.arange(chunk.rows), length)
            for chunk, length in zip(chunks, lengths, strict=True)
        ]
    )[order]
    segment = _gather(chunks, [chunk.fields.get("segments") for chunk in chunks], order, 0)
    key = np.stack([row_of, np.zeros_like(row_of) if segment is None else segment], axis=1)
    cuts = np.flatnonzero((np.diff(key, axis=0) != 0).any(axis=1)) + 1
    t = len(order)
    requests = np.concatenate(([0], cuts, [t])) if t else np.array([0])
    wide = max(chunk.experts.shape[2] for chunk in chunks)
    experts = np.concatenate([_widen(chunk.experts, wide, -1) for chunk in chunks])[order]
    weights = np.concatenate([_widen(chunk.weights, wide, 0.0) for chunk in chunks])[order]
    dropped = None
    if any(chunk.dropped is not None for chunk in chunks):
        filled = [
            np.zeros(chunk.experts.shape, dtype=bool) if chunk.dropped is None else chunk.dropped
            for chunk in chunks
        ]
        dropped = np.concatenate([_widen(part, wide, False) for part in filled])[order]
    phase = np.concatenate([np.full(len(c.experts), int(c.decode)) for c in chunks])[order]
    masks = [c.mask if c.mask is not None else np.ones(len(c.experts), dtype=bool) for c in chunks]
    known = any(chunk.mask is not None for chunk in chunks)
    mask = np.concatenate(masks)[order] if known else None
    numbers = [layer for _, layer, _ in first.columns]
    rising = all(a < b for a, b in pairwise(numbers))
    names = {name for chunk in chunks for name in chunk.tags}
    tags = {n: _gather(chunks, [c.tags.get(n) for c in chunks], order, -1) for n in sorted(names)}
    return Trace(
        experts=experts,
        e=first.e,
        weights=weights,
        requests=requests,
        tokens=_gather(chunks, [c.fields.get("tokens") for c in chunks], order, -1),
        positions=_gather(chunks, [c.fields.get("positions") for c in chunks], order, -1),
        phase=phase if mask is None else np.where(mask, phase, -1),
        mask=mask,
        dropped=dropped,
        layers=np.array(numbers) if rising else None,
        tags={name: tag for name, tag in tags.items() if tag is not None},
        meta={**meta, "tower": session.tower, "columns": json.dumps(first.columns)},
    )


def _starts(chunks: list[_Chunk]) -> list[int]:
    ends = np.cumsum([0, *(len(chunk.experts) for chunk in chunks)])
    return [int(end) for end in ends[:-1]]


def _gather(
    chunks: list[_Chunk], parts: list[NDArray[np.int64] | None], order: NDArray[np.int64], fill: int
) -> NDArray[np.int64] | None:
    if all(part is None for part in parts):
        return None
    pairs = zip(chunks, parts, strict=True)
    filled = [np.full(len(c.experts), fill) if part is None else part for c, part in pairs]
    joined: NDArray[np.int64] = np.concatenate(filled)[order]
    return joined


def _widen(array: NDArray[Any], wide: int, fill: Any) -> NDArray[Any]:
    room = ((0, 0), (0, 0), (0, wide - array.shape[2]))
    return np.pad(array, room, constant_values=fill)


def _meta(model: nn.Module) -> dict[str, str]:
    """Where a trace is from."""
    import transformers

    config = getattr(model, "config", None)
    return {
        "model": type(model).__name__,
        "family": str(getattr(config, "model_type", "")),
        "name": str(getattr(config, "_name_or_path", "") or ""),
        "turnout": __version__,
        "torch": str(torch.__version__),
        "transformers": str(transformers.__version__),
    }
