"""An analysis as plain numbers, for JSON; matrices of pairs are left out."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from turnout.bench.traces import measures
from turnout.bench.traces.consistency import SegmentRouting
from turnout.bench.traces.findings import findings
from turnout.bench.traces.results import Analysis

__all__ = ["record"]


def record(analysis: Analysis) -> dict[str, Any]:
    """Everything measured, by layer where it is; null = not told.

    Keys that the source does not fill are absent.
    """
    made: dict[str, Any] = {
        "name": analysis.name,
        "tokens": analysis.t,
        "experts": analysis.e,
        "choices_per_token": analysis.k,
        "layers": _plain(analysis.layers),
        "counts": _plain(analysis.counts),
        "entropy": _plain(measures.entropy(analysis.counts)),
        "max_over_mean": _plain(measures.max_over_mean(analysis.counts)),
        "variation": _plain(measures.variation(analysis.counts)),
        "dead": _plain(measures.dead(analysis.counts)),
        "findings": findings(analysis),
        "notes": list(analysis.notes),
        "meta": dict(analysis.meta),
    }
    if analysis.drops is not None:
        made["drop_share"] = _plain(analysis.drops)
    if analysis.top_weight is not None and analysis.effective is not None:
        made["top_weight"] = _plain(analysis.top_weight)
        made["effective_experts"] = _plain(analysis.effective)
    if analysis.overlap is not None:
        made["overlap"] = _plain(analysis.overlap)
    if analysis.groups:
        made["tags"] = {
            name: {
                "names": list(group.names),
                "bits": _plain(group.bits),
                "counts": _plain(group.counts),
            }
            for name, group in analysis.groups.items()
        }
    if analysis.tokens is not None:
        made["token_ids"] = {
            "layers": _plain(analysis.layers[analysis.tokens.layers]),
            "bits": _plain(analysis.tokens.bits),
            "covered": _plain(analysis.tokens.covered),
        }
    if analysis.positions is not None:
        made["positions"] = {
            "starts": _plain(analysis.positions.starts),
            "ends": _plain(analysis.positions.ends),
            "bits": _plain(analysis.positions.bits),
        }
        if analysis.positions.drops is not None:
            made["positions"]["drop_share"] = _plain(analysis.positions.drops)
    if analysis.transitions:
        made["transitions"] = [
            {"from": one.source, "to": one.target, "bits": _plain(one.bits)}
            for one in analysis.transitions
        ]
    if analysis.routing is not None:
        made["srp"] = {
            "tokens": analysis.routing.tokens,
            "rows": [_segment(row) for row in analysis.routing.rows],
            "shuffled": [_segment(row) for row in analysis.routing.shuffled],
        }
    if analysis.caches is not None:
        made["cache_hits"] = {
            "tokens": analysis.caches.tokens,
            "tokens_ahead": {str(m): _plain(rate) for m, rate in analysis.caches.rates.items()},
        }
    return made


def _segment(row: SegmentRouting) -> dict[str, Any]:
    return {
        "window": row.m,
        "windows": row.windows,
        "value": _plain(row.value),
        "low": _plain(row.low),
        "high": _plain(row.high),
        "by_layer": _plain(row.by_layer),
        "set_size": _plain(row.size),
    }


def _plain(value: Any) -> Any:
    """Lists and numbers that JSON knows."""
    if isinstance(value, np.ndarray):
        return [_plain(one) for one in value.tolist()]
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
