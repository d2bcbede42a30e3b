"""What the ledger and the counters of a gateway say, while it runs."""

from __future__ import annotations

from typing import Any

from .rig import Gateway, until

__all__ = ["kept", "series", "told"]


def kept(gateway: Gateway) -> list[dict[str, Any]]:
    """All rows, once all requests have come to their end."""
    until(lambda: gateway.desk.gate.in_hand == 0)
    gateway.desk.books.ledger.flush()
    return gateway.rows()


def told(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """Who was asked, how it ended and what it cost."""
    names = ("destination", "status", "error_type", "cost_pico")
    return [tuple(row[name] for name in names) for row in rows]


def series(gateway: Gateway, name: str) -> dict[str, float]:
    """The values of a counter that are not 0, by their labels."""
    lines = gateway.get("/metrics").body.decode().splitlines()
    found = (line.rpartition(" ") for line in lines if line.startswith(f"turnout_{name}{{"))
    return {
        labels.partition("{")[2].rstrip("}"): float(value)
        for labels, _, value in found
        if float(value)
    }
