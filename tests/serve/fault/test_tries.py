"""How often and where a request is tried again, and when it is not."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from .payloads import WORDS
from .rig import Gateway
from .upstream import BadUpstream

ANSWER = "".join(WORDS)
Serve = Callable[..., AbstractContextManager[Gateway]]


@pytest.mark.parametrize("stream", [False, True])
def test_the_last_destination_is_tried_again(serve: Serve, bad: BadUpstream, stream: bool) -> None:
    """What may pass is tried so often; the one before it is left after its first failure."""
    retry = "tries = 3\nbase_seconds = 0.001"
    with serve("flaky:2", "status:503", "flaky:9", retry=retry) as gateway:
        answer = gateway.chat("status:503>flaky:2", stream=stream)
        assert (answer.status, answer.text) == (200, ANSWER)
        row = gateway.row(answer)
        assert (row["tries"], row["fallback_from"]) == (4, "status:503")
        assert gateway.chat("flaky:9", stream=stream).code == "status_503"
    assert bad.counts == {"status:503": 1, "flaky:2": 3, "flaky:9": 3}


def test_retries_have_a_budget(serve: Serve, bad: BadUpstream) -> None:
    """An upstream that is down is asked little more often than there are requests."""
    retry = "tries = 3\nbase_seconds = 0\nburst = 2\nshare = 0.5\nper_second = 0"
    breaker = "in_a_row = 1000\nminimum = 1000"
    with serve("status:500", retry=retry, breaker=breaker) as gateway:
        for _ in range(10):
            assert gateway.chat("status:500").code == "status_500"
    # two saved up, and a half for each request; what goes beyond the burst is lost
    assert 10 < bad.counts["status:500"] <= 10 + 2 + 5


@pytest.mark.parametrize("name", ["silent", "status:401", "html", "bad-json", "slow-body"])
def test_what_will_not_pass_is_not_tried_again(serve: Serve, bad: BadUpstream, name: str) -> None:
    """Not after a timeout, and not where the configuration or the upstream is at fault."""
    retry = "tries = 5\nbase_seconds = 0"
    with serve(name, entry="timeout_seconds = 0.15", retry=retry) as gateway:
        assert gateway.chat(name).status in (502, 504)
    assert bad.counts[name] == 1


def test_a_stream_that_began_is_not_tried_again(serve: Serve, bad: BadUpstream) -> None:
    """Part of it is with the client already."""
    with serve("die", retry="tries = 5\nbase_seconds = 0") as gateway:
        assert gateway.chat("die", stream=True).code == "truncated"
    assert bad.counts["die"] == 1


def test_fallbacks_are_asked_in_their_order(serve: Serve, bad: BadUpstream) -> None:
    """One after the other, and no more than may be; the ledger says whose answer it is."""
    names = ("status:500", "hangup", "html", "good")
    router = f'model = "{names[0]}"\nfallbacks = 3'
    with serve(*names, router=router) as gateway:
        answer = gateway.chat(">".join(names))
        assert (answer.status, answer.headers["x-turnout-destination"]) == (200, "good")
        row = gateway.row(answer)
        assert (row["destination"], row["fallback_from"], row["tries"]) == ("good", names[0], 4)
        assert gateway.chat(">".join(("html", *names))).status == 502
    assert [seen.manner for seen in bad.seen][:4] == list(names)
    assert len(bad.seen) == 8
    metrics = [one["failures"] for one in gateway.worker._view.state()["pool"]]
    assert sum(metrics) == 1


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", [429, 503])
def test_a_destination_that_asks_for_rest_gets_it(
    serve: Serve, bad: BadUpstream, status: int, stream: bool
) -> None:
    """A long `Retry-After` is handed on and kept to; it is not waited for."""
    name = f"status:{status}:7"
    with serve(name, "good", retry="tries = 3\nbase_seconds = 0") as gateway:
        answer = gateway.chat(name, stream=stream)
        assert (answer.status, answer.code) == (status, f"status_{status}")
        assert answer.headers["retry-after"] == "7"
        assert gateway.row(answer)["status"] == status
        answer = gateway.chat(name, stream=stream)
        assert (answer.status, answer.code) == (503, "circuit_open")
        assert 1 <= int(answer.headers["retry-after"]) <= 7
        assert gateway.chat(f"{name}>good", stream=stream).status == 200
    assert bad.counts == {name: 1, "good": 1}


def test_a_time_to_come_back_is_told_of_those_who_name_it(serve: Serve) -> None:
    """Not where no time was said, nor of a status that is no request for rest."""
    names = ("status:503", "status:429", "status:500:7", "status:502:7", "status:529:7")
    with serve(*names) as gateway:
        answers = [gateway.chat(name) for name in names]
        assert [answer.status for answer in answers] == [503, 429, 502, 502, 502]
        assert [answer for answer in answers if "retry-after" in answer.headers] == []
