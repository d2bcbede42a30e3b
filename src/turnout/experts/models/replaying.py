"""Replay: force the experts that were recorded, and weigh them as the model does now.

Reinforcement learning trains on sequences that a rollout engine made. Where training and rollout
choose other experts for a token, the update is taken at another function than the one that spoke.
Routing replay records the choice in the rollout and forces it in training: Zheng et al., "Group
Sequence Policy Optimization", 2025, arXiv:2507.18071, section 5.3; Ma et al., "Stabilizing MoE
Reinforcement Learning by Aligning Training and Inference Routers", 2025, arXiv:2510.11370.

The native router runs, and only its choice is replaced: while it runs, `topk` (or what its family
chooses by) answers with the recorded experts. Softmax, renormalisation, scale and bias stay the
family's own, so that nothing changes where nothing has changed, bit for bit, and the gradient
reaches the router.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextvars import Token
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from turnout.core.errors import InputError
from turnout.core.trace import Trace
from turnout.experts.models.context import FORCING, Reading
from turnout.experts.models.forcing import Forced
from turnout.experts.models.hooks import release, seated
from turnout.experts.models.layouts import Masks, layout_of
from turnout.experts.models.router import GATE
from turnout.experts.models.sites import Site, native_class, sites
from turnout.nn.gates import Decision, RouteLog

__all__ = ["Replay", "replay"]


@dataclass(eq=False)
class _Cursor:
    """How far the requests of a batch have been replayed."""

    cache: object | None
    first: int
    done: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))


class _TraceSource:
    """A trace, handed out batch by batch."""

    def __init__(self, trace: Trace, tower: tuple[Site, ...], partial: bool) -> None:
        self.trace, self.tower, self.partial = trace, tower, partial
        _check_fit(trace, tower)
        self.columns = _columns(trace, tower)
        real = np.ones(trace.t, dtype=bool) if trace.mask is None else trace.mask
        bounds = np.array([0, trace.t]) if trace.requests is None else trace.requests
        # Where the real tokens of each request stand in the trace.
        self.places: list[NDArray[np.int64]] = [
            start + np.flatnonzero(real[start:end])
            for start, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)
        ]
        self.next = 0
        self.cursors: list[_Cursor] = []

    def begin(self, reading: Reading) -> Forced:
        """What is forced in a forward."""
        if reading.shape is None:
            rule = "be given token ids or embeddings"
            raise InputError("input", rule, None, "Only sequences can be replayed.")
        b, s = reading.shape
        t = b * s
        real = np.ones(t, dtype=bool) if reading.mask is None else reading.mask.cpu().numpy()
        segment = np.zeros(t, dtype=np.int64)
        if reading.segments is not None:
            segment = reading.segments.cpu().numpy()
        group = _groups(np.repeat(np.arange(b), s), segment)
        cursor = self._cursor(reading, int(group.max()) + 1 if t else 0)
        rows = np.full(t, -1, dtype=np.int64)
        for number in range(len(cursor.done)):
            at = np.flatnonzero((group == number) & real)
            rows[at] = self._rows(cursor, number, len(at), reading)
            cursor.done[number] += len(at)
        self._same_tokens(reading, rows)
        chosen = self.trace.experts[np.maximum(rows, 0)]
        ids, known = {}, {}
        for column, key in enumerate(self.columns):
            site = next(site for site in self.tower if site.ordinal == key[0])
            picked = chosen[:, column]
            told = rows >= 0
            if not site.layout.startswith("triple+state"):
                told &= picked[:, 0] >= 0
            ids[key] = torch.from_numpy(picked.astype(np.int64))
            known[key] = torch.from_numpy(told)
        return Forced(ids, known)

    def _cursor(self, reading: Reading, groups: int) -> _Cursor:
        if reading.past > 0 and reading.cache is not None:
            for cursor in reversed(self.cursors):
                if cursor.cache is reading.cache and len(cursor.done) == groups:
                    return cursor
        if self.next + groups > len(self.places):
            rule = f"hold the {groups} sequences of this forward"
            left = f"{len(self.places) - self.next} left of {len(self.places)} requests"
            raise InputError("trace", rule, left, "Replay it on the batches it was recorded on.")
        cursor = _Cursor(reading.cache, self.next, np.zeros(groups, dtype=np.int64))
        self.next += groups
        self.cursors.append(cursor)
        return cursor

    def _rows(
        self, cursor: _Cursor, number: int, count: int, reading: Reading
    ) -> NDArray[np.int64]:
        """Rows of the trace for the next tokens of a request; -1 beyond its end."""
        request = cursor.first + number
        places = self.places[request]
        done = int(cursor.done[number])
        rows: NDArray[np.int64] = places[done : done + count]
        if self.partial:
            padded: NDArray[np.int64] = np.pad(rows, (0, count - len(rows)), constant_values=-1)
            return padded
        whole = {len(places)}
        if self.trace.phase is not None:
            whole.add(int((self.trace.phase[places] != 1).sum()))
        fits = len(rows) == count and (reading.past > 0 or count in whole)
        if not fits:
            rule = f"hold the {count} tokens of its sequence"
            hint = "Replay the same tokens, or allow the rest to be routed live: partial=True."
            raise InputError(f"request {request} of the trace", rule, len(places) - done, hint)
        return rows

    def _same_tokens(self, reading: Reading, rows: NDArray[np.int64]) -> None:
        if reading.tokens is None or self.trace.tokens is None:
            return
        told = self.trace.tokens[np.maximum(rows, 0)]
        live = reading.tokens.cpu().numpy()
        wrong = (rows >= 0) & (told >= 0) & (told != live)
        if wrong.any():
            at = int(np.flatnonzero(wrong)[0])
            rule = f"hold token {int(live[at])} at place {int(rows[at])}"
            raise InputError("trace.tokens", rule, int(told[at]), "Replay the same sequences.")


class _LogSource:
    """A log of decisions, handed out forward by forward."""

    def __init__(
        self, log: RouteLog, tower: tuple[Site, ...], towers: Mapping[str, object]
    ) -> None:
        mine = {site.ordinal: site for site in tower}
        self.forwards: list[dict[tuple[int, int], Decision]] = []
        for entry in log:
            if entry.layer not in mine or not isinstance(entry.decision, Decision):
                continue
            key = (entry.layer, entry.iteration)
            if not self.forwards or key in self.forwards[-1]:
                self.forwards.append({})
            self.forwards[-1][key] = entry.decision
            if entry.decision.e != mine[entry.layer].e:
                rule = f"choose among {mine[entry.layer].e} experts"
                hint = "Replay a log of this model."
                raise InputError(f"log of layer {entry.layer}", rule, entry.decision.e, hint)
        seen = {entry.layer for entry in log}
        if not self.forwards or (len(towers) == 1 and not seen <= set(mine)):
            found = sorted(seen)
            hint = "Replay a log of this model."
            raise InputError("log", f"hold the layers {sorted(mine)}", found, hint)
        self.next = 0

    def begin(self, reading: Reading) -> Forced:
        """What is forced in a forward."""
        if self.next >= len(self.forwards):
            rule = "hold one more forward"
            hint = "Record as many forwards as are replayed."
            raise InputError("log", rule, len(self.forwards), hint)
        forward = self.forwards[self.next]
        self.next += 1
        t = next(iter(forward.values())).t
        if reading.t is not None and reading.t != t:
            hint = "Replay the same tokens."
            raise InputError("log", f"hold the {reading.t} tokens of this forward", t, hint)
        ids, known = {}, {}
        for key, decision in forward.items():
            ids[key] = decision.experts.masked_fill(decision.experts >= decision.e, -1)
            known[key] = decision.real
        return Forced(ids, known)


class Replay:
    """A context in which recorded experts are forced; made by `replay`.

    It holds in the thread or task that entered it.

    Parameters
    ----------
    model : torch.nn.Module
    sources : mapping of str to source
        One a tower.
    """

    def __init__(self, model: nn.Module, sources: Mapping[str, Any]) -> None:
        self.model = model
        self.sources = dict(sources)
        self.board: object = None
        self._token: Token[Any] | None = None

    def __enter__(self) -> Replay:
        self.board = seated(self.model)
        self._token = FORCING.set(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._token is not None
        FORCING.reset(self._token)
        release(self.model)

    def begin(self, reading: Reading) -> Forced | None:
        """What is forced in a forward of a tower; None where it is no tower of this model."""
        source = self.sources.get(reading.tower)
        if source is None or reading.board is not self.board:
            return None
        forced: Forced = source.begin(reading)
        return forced


def replay(
    model: nn.Module,
    source: Trace | RouteLog | Mapping[str, Trace],
    *,
    partial: bool = False,
) -> Replay:
    """A context in which a model's routers choose the experts that were recorded.

    Real tokens are aligned in order, request by request and batch by batch, so that padding and the
    split into prefill and decoding steps may differ from the recording. Tokens whose experts were
    not recorded choose live. Noise that a family draws in training is drawn anew.

    Parameters
    ----------
    model : torch.nn.Module
    source : Trace, RouteLog, or mapping of str to Trace
        A mapping names the towers of a model with several. A trace without requests is one request.
    partial : bool
        Whether a sequence may have tokens beyond those recorded, such as the last token generated;
        they choose live.

    Raises
    ------
    InputError
        The record is of another model (experts, choices, layers), now or at the forward whose
        tokens do not fit it.
    """
    found = sites(model)
    towers: dict[str, tuple[Site, ...]] = {}
    for site in found:
        towers[site.tower] = (*towers.get(site.tower, ()), site)
    if isinstance(source, RouteLog):
        return Replay(
            model, {path: _LogSource(source, tower, towers) for path, tower in towers.items()}
        )
    if isinstance(source, Trace):
        path = source.meta.get("tower", next(iter(towers)))
        if path not in towers and len(towers) == 1:
            path = next(iter(towers))
        if len(towers) > 1 and "tower" not in source.meta:
            hint = "Pass {path: trace}."
            raise InputError("source", f"name one of the towers {list(towers)}", None, hint)
        source = {path: source}
    unknown = [path for path in source if path not in towers]
    if unknown:
        hint = "See Site.tower."
        raise InputError("source", f"name towers among {list(towers)}", unknown, hint)
    return Replay(
        model,
        {path: _TraceSource(trace, towers[path], partial) for path, trace in source.items()},
    )


def _check_fit(trace: Trace, tower: tuple[Site, ...]) -> None:
    """Refuse a trace of another model."""
    hint = "Replay a trace of this model."
    first = tower[0]
    if trace.e != first.e:
        raise InputError("trace.e", f"be {first.e}, the experts of the model", trace.e, hint)
    native = not any(GATE in site.router._modules for site in tower)
    if native and trace.k != first.k:
        raise InputError("trace.k", f"be {first.k}, the choices of a token", trace.k, hint)
    if native and trace.k > 1 and not isinstance(_layout(first), Masks):
        filled = (trace.experts >= 0).sum(axis=2)
        if bool(((filled > 0) & (filled < trace.k)).any()):
            rule = f"hold {trace.k} experts or none for each token, as the native router chooses"
            told = "a token with fewer"
            raise InputError("trace.experts", rule, told, "Replay it on the gate it is from.")


def _layout(site: Site) -> object:
    return layout_of(native_class(site.router))


def _columns(trace: Trace, tower: tuple[Site, ...]) -> list[tuple[int, int]]:
    """Ordinal and pass of each layer of a trace."""
    told = trace.meta.get("columns")
    if told is not None:
        columns = [(int(ordinal), int(pass_)) for ordinal, _, pass_ in json.loads(told)]
    else:
        columns = [(site.ordinal, 0) for site in tower]
        if trace.layers is not None and trace.l == len(tower):
            numbers = [site.layer for site in tower]
            if list(trace.layers) != numbers:
                rule = f"be {numbers}, the layers of the model"
                hint = "Replay a trace of this model."
                raise InputError("trace.layers", rule, list(trace.layers), hint)
    mine, told_of = {site.ordinal for site in tower}, {key[0] for key in columns}
    # Experts for one modality are not asked where it does not occur.
    fits = told_of <= mine if told is not None else told_of == mine
    if len(columns) != trace.l or not fits:
        rule = f"hold the {len(tower)} layers of the model"
        raise InputError("trace", rule, trace.l, "Replay a trace of this model.")
    return columns


def _groups(row: NDArray[np.int64], segment: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number of the sequence of each token: rows, and the documents packed in them, in order."""
    if not len(row):
        return row
    change = (np.diff(row) != 0) | (np.diff(segment) != 0)
    numbers: NDArray[np.int64] = np.concatenate(([0], np.cumsum(change)))
    return numbers
