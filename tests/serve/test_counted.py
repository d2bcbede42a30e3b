"""What a gateway that runs counts of itself."""

from __future__ import annotations

import contextlib
import http.client
import re
import threading
from collections.abc import Callable
from typing import Any


def value(text: bytes, series: str) -> float:
    """One series of an answer to `GET /metrics`."""
    found = re.search(rf"^turnout_{re.escape(series)} (\S+)$", text.decode(), re.MULTILINE)
    assert found, f"there is no {series}"
    return float(found[1])


def test_traffic_is_counted_on_both_sides(gateway: Callable[..., Any]) -> None:
    """Bytes of clients and upstreams grow, and connections kept to an upstream are seen."""
    series = [
        f'bytes_total{{side="{side}",direction="{direction}"}}'
        for side in ("client", "upstream")
        for direction in ("in", "out")
    ]
    series.append('connections{side="upstream"}')
    with gateway() as served:
        assert served.chat("hi").status == 200
        for _ in range(10_000):  # the counts are brought up to date four times a second
            text = served.get("/metrics").body
            if all(value(text, one) > 0 for one in series):
                break
        assert [one for one in series if not value(text, one) > 0] == []
        assert value(text, series[1]) > value(text, series[2])  # also answers the metrics


def test_a_full_queue_is_counted(gateway: Callable[..., Any], fake: Any) -> None:
    """A request that finds no room is refused with status 503, and counted as such."""

    def ask() -> None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            served.chat("hi")

    more = "[load]\nparallel = 1\nqueue = 0"
    with gateway(cheap="hang", dear="hang", server="drain_seconds = 0", more=more) as served:
        thread = threading.Thread(target=ask)
        thread.start()
        assert fake.asked.wait(20)
        answer = served.chat("hi")
        assert (answer.status, answer.error["code"]) == (503, "queue")
        assert value(served.get("/metrics").body, 'refused_total{reason="queue"}') == 1
    thread.join()
