"""Every manner of a bad upstream, whole and streamed: what the client gets, and the ledger."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .manners import MANNERS
from .payloads import ABSURD, WORDS
from .rig import SHORT, Gateway, configure, places, serving
from .upstream import BadUpstream

ANSWER = "".join(WORDS)
#: In pico-dollars at the prices of the rig: what 11 and 19 tokens cost, twice as many, and what is
#: predicted for a request of which nothing is known but its 42 characters.
TOLD, TWICE, GUESSED = 87_000_000, 174_000_000, 1_035_000_000

#: By manner: status and code of a whole answer, then of a streamed one; a streamed one with status
#: 200 and a code broke off in the middle.
GOOD = (200, None)
BAD = (502, "bad_reply")
FAILURES: dict[str, tuple[tuple[int, str | None], tuple[int, str | None]]] = {
    "silent": ((504, "timeout"), (504, "headers_timeout")),
    "headers-only": ((504, "timeout"), (504, "first_token_timeout")),
    "slow-headers": ((504, "timeout"), (504, "headers_timeout")),
    "slow-body": ((504, "idle_timeout"), (504, "idle_timeout")),
    "hangup": ((502, "connection"), (502, "connection")),
    "hangup:rst": ((502, "connection"), (502, "connection")),
    "die": ((502, "truncated"), (200, "truncated")),
    "die:rst": ((502, "truncated"), (200, "truncated")),
    "head-dies": ((502, "truncated"), (502, "truncated")),
    "truncated": (BAD, (200, "truncated")),
    "truncated:length": (BAD, (200, "truncated")),
    "length:long": ((502, "truncated"), GOOD),  # all events came, and a length that is of no use
    "length:short": (BAD, (200, "truncated")),
    "both-lengths": (BAD, BAD),
    "two-lengths": (BAD, BAD),
    "garbage": (BAD, BAD),
    "bad-json": (BAD, BAD),
    "html": (BAD, BAD),
    "status:400": ((400, "status-400"), (400, "status-400")),
    "status:401": ((502, "status_401"), (502, "status_401")),
    "status:404": ((502, "status_404"), (502, "status_404")),
    "status:408": ((502, "status_408"), (502, "status_408")),
    "status:429": ((429, "status_429"), (429, "status_429")),
    "status:500": ((502, "status_500"), (502, "status_500")),
    "status:503": ((503, "status_503"), (503, "status_503")),
    "status:529": ((502, "status_529"), (502, "status_529")),
    "status:200": (BAD, BAD),  # an error object with status 200
    "redirect": ((502, "status_307"), (502, "status_307")),
    "redirect:metadata": ((502, "status_307"), (502, "status_307")),
    "early:413": ((413, "early"), (413, "early")),
    "early-close:413": ((413, "early"), (413, "early")),
    "gigabyte": (BAD, BAD),
    "gigabyte:length": (BAD, BAD),
    "rate-in-stream": (BAD, (200, "429")),
    "error-event": (BAD, (200, "busy")),
    "down": ((502, "connection"), (502, "connection")),
    "unreachable": ((504, "connect_timeout"), (504, "connect_timeout")),
    "unaccepted": ((504, "timeout"), (504, "headers_timeout")),
    "tls-hangs": ((504, "connect_timeout"), (504, "connect_timeout")),
    "tls-unknown": ((502, "tls"), (502, "tls")),
    "plain-to-tls": ((502, "connection"), (502, "connection")),
}
#: Those that do well, all in all, and what they cost whole and streamed.
WELL = {
    "good": (TOLD, TOLD),
    "informational": (TOLD, TOLD),
    "stale": (TOLD, TOLD),
    "bad-event": (None, TOLD),
    "crlf": (None, TOLD),
    "comments": (None, TOLD),
    "pings": (None, TOLD),
    "no-blank-line": (None, TOLD),
    "bytewise": (None, TOLD),
    "one-chunk": (None, TOLD),
    "huge-event:2000000": (None, TOLD),
    "no-usage": (GUESSED, GUESSED),
    "usage-twice": (TWICE, TWICE),
    **{f"usage:{which}": (GUESSED, GUESSED) for which in ABSURD},
}
#: Failures after which the upstream may want money all the same.
MAY_COST = {"timeout", "headers_timeout", "first_token_timeout", "idle_timeout", "truncated"}
CASES = [(name, stream) for name in FAILURES for stream in (False, True)]


@pytest.fixture(scope="module")
def gateway(
    _bad_server: BadUpstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    names = ("good", *FAILURES, *(name for name in WELL if name != "good"))
    folder = Path(tmp_path_factory.mktemp("manners"))
    slow = {name: SHORT for name, told in FAILURES.items() if told[0][0] == 504}
    limits = "answer_bytes = 5_000_000"
    config = configure(_bad_server, folder, names, entries=slow, limits=limits)
    with serving(config) as made:
        yield made


@pytest.mark.parametrize(("name", "stream"), CASES)
def test_a_failure_is_told_to_the_client_and_the_ledger(
    gateway: Gateway, name: str, stream: bool
) -> None:
    """One typed error, or what came of a stream and then one; never a clean end, never a hang."""
    status, code = FAILURES[name][stream]
    answer = gateway.chat(name, stream=stream)
    row = gateway.row(answer)
    assert answer.status == status
    assert answer.code == code
    assert answer.done == (code is None)
    assert not answer.broken
    assert answer.headers["x-turnout-destination"] == name
    if code is None:
        assert (row["status"], row["error_type"]) == (200, None)
    elif status == 200:  # it had begun
        assert ANSWER.startswith(answer.text)
        assert row["status"] == 502
        assert row["first_token_s"] is not None
        assert row["error_type"] == ("truncated" if code == "truncated" else "error_event")
    else:
        assert answer.headers["content-type"] == "application/json"
        assert row["status"] == status
        assert row["first_token_s"] is None
    costs = status == 200 or code in MAY_COST or (name.startswith("gigabyte") and not stream)
    assert bool(row["cost_pico"]) == costs
    assert row["tries"] == 1


@pytest.mark.parametrize(("name", "stream"), CASES)
def test_the_fallback_answers_whatever_goes_wrong_before_the_first_chunk(
    gateway: Gateway, name: str, stream: bool
) -> None:
    """Also after a timeout; but not where the request is at fault or the answer has begun."""
    status, code = FAILURES[name][stream]
    answer = gateway.chat(f"{name}>good", stream=stream)
    row = gateway.row(answer)
    if status < 500 and status != 429:
        assert (answer.status, answer.code) == (status, code)
        assert answer.headers["x-turnout-destination"] == name
        return_from = None
    else:
        assert (answer.status, answer.code, answer.text) == (200, None, ANSWER)
        assert answer.done == stream
        assert answer.headers["x-turnout-destination"] == "good"
        assert answer.headers["x-turnout-fallback-from"] == name
        assert (row["status"], row["cost_pico"], row["tries"]) == (200, TOLD, 2)
        return_from = name
    assert row["fallback_from"] == return_from


@pytest.mark.parametrize(
    ("name", "stream"),
    [(name, stream) for name, costs in WELL.items() for stream in (False, True) if costs[stream]],
)
def test_what_is_odd_but_whole_comes_through(gateway: Gateway, name: str, stream: bool) -> None:
    """The answer is whole, and its cost is what was told, or an estimate where that is absurd."""
    answer = gateway.chat(name, stream=stream)
    row = gateway.row(answer)
    assert (answer.status, answer.done, answer.broken) == (200, stream, False)
    assert answer.text.replace("x" * 2_000_000, "") == ANSWER
    assert (row["status"], row["cost_pico"]) == (200, WELL[name][stream])
    assert bool(row["estimated"]) == (WELL[name][stream] == GUESSED)


def test_every_manner_has_its_test(bad: BadUpstream) -> None:
    """A new manner has to be entered in a table here, or stand on its own below."""
    alone = {"endless", "paced", "flaky", "early", "early-close"}
    known = {name.partition(":")[0] for name in (*FAILURES, *WELL)}
    assert known | alone >= set(MANNERS)
    assert set(places(bad)) - {"tls-to-plain"} <= known
