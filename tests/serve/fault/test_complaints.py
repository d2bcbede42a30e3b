"""What users of other gateways complain about, each complaint as a test that it is none here."""

from __future__ import annotations

import gc
import http.client
import json
import logging
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from turnout.core import ConfigError

from .payloads import WORDS
from .rig import SHORT, Answer, Gateway, ask, configure, make_keys, opened, until
from .upstream import BadUpstream

ANSWER = "".join(WORDS)
Serve = Callable[..., AbstractContextManager[Gateway]]
#: A tenth of a dollar a request, whatever its tokens.
TENTH = (
    "usd_per_million_input_tokens = 0\nusd_per_million_output_tokens = 0\nusd_per_request = 0.1\n"
)


def statuses(answers: list[Answer]) -> dict[int, int]:
    """How many answers have each status."""
    found = [answer.status for answer in answers]
    return {status: found.count(status) for status in set(found)}


# --- keys -----------------------------------------------------------------------------------


def test_an_api_key_is_demanded_for_local_models(
    serve: Serve, bad: BadUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without any key in the environment a local model answers, and is shown none."""
    for name in [name for name in os.environ if name.endswith("_KEY")]:
        monkeypatch.delenv(name)
    with serve("good") as gateway:
        assert gateway.chat("good").text == ANSWER
    (seen,) = bad.seen
    assert seen.header("authorization") is None


# --- budgets --------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
def test_budgets_are_not_enforced(serve: Serve, bad: BadUpstream, stream: bool) -> None:
    """Many at once: exactly as many are let in as the budget pays for, and no more is asked."""
    budgets = {"budgets.all": 'usd = 1.0\nperiod = "total"'}
    with serve("good", entry=TENTH, **budgets) as gateway:
        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(lambda _: gateway.chat("good", stream=stream), range(40)))
        assert statuses(answers) == {200: 10, 429: 30}
        refused = next(answer for answer in answers if answer.status == 429)
        assert (refused.code, refused.json["error"]["type"]) == (
            "budget_exceeded",
            "insufficient_quota",
        )
        # it never starts anew, and nothing in flight could leave room any more
        assert "retry-after" not in gateway.chat("good").headers
    assert len(bad.seen) == 10
    assert sum(row["cost_pico"] for row in gateway.rows()) == 10**12


def test_a_budget_fires_at_forty_cents_of_fifteen_dollars(serve: Serve) -> None:
    """It refuses when it is spent, to the cent, and not before."""
    budgets = {"budgets.all": 'usd = 15\nperiod = "total"'}
    with serve("good", entry=TENTH, **budgets) as gateway:
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: gateway.chat("good"), range(150)))
        assert statuses(answers) == {200: 150}
        assert gateway.chat("good").code == "budget_exceeded"


def test_a_budget_is_exceeded_by_requests_that_failed(serve: Serve) -> None:
    """What did not reach the upstream, or was refused there, costs nothing, and so holds none."""
    budgets = {"budgets.all": 'usd = 0.1\nperiod = "total"'}
    names = ("down", "unreachable", "tls-unknown", "status:500", "status:429", "html", "hangup")
    with serve("good", *names, entry=TENTH, entries={"unreachable": SHORT}, **budgets) as gateway:
        for name in names:
            for stream in (False, True):
                assert gateway.chat(name, stream=stream).code != "budget_exceeded"
        assert gateway.chat("good").status == 200
        assert gateway.chat("good").code == "budget_exceeded"


def test_a_budget_is_exceeded_by_what_was_only_predicted(serve: Serve) -> None:
    """What a request was expected to cost is given back at its end; what it cost counts."""
    # predicted: 256 output tokens of 4 dollars a million; told: 19, and 11 of input
    budgets = {"budgets.all": 'usd = 0.0012\nperiod = "total"'}
    with serve("good", **budgets) as gateway:
        assert [gateway.chat("good").status for _ in range(3)] == [200, 200, 200]
        assert sum(row["cost_pico"] for row in gateway.rows()) < 0.0003 * 10**12


def test_a_budget_is_exceeded_by_somebody_else(serve: Serve, tmp_path: Path) -> None:
    """A budget of each key is each key's own."""
    secrets = make_keys(tmp_path, alice={}, bob={})
    budgets = {
        "budgets.each": 'usd = 0.2\nperiod = "day"\nper = "key"',
        "keys": 'file = "keys.json"',
    }
    with serve("good", entry=TENTH, **budgets) as gateway:

        def chat(name: str) -> int:
            return gateway.chat("good", headers={"authorization": f"Bearer {secrets[name]}"}).status

        assert [chat("alice") for _ in range(3)] == [200, 200, 429]
        assert [chat("bob") for _ in range(3)] == [200, 200, 429]


def test_a_budget_is_exceeded_by_clients_that_left_before_anything_was_asked(
    serve: Serve, bad: BadUpstream
) -> None:
    """Whoever leaves while it waits for its turn has cost nothing."""
    budgets = {"budgets.all": 'usd = 0.2\nperiod = "total"'}
    one = "parallel = 1"
    with serve("silent", "good", entry=TENTH, entries={"silent": one}, **budgets) as gateway:
        with closing(opened(gateway, "silent")):
            bad.wait_for_requests(1)
            with closing(opened(gateway, "silent")):
                until(lambda: gateway.desk.gate.waiting() == 1)
            until(lambda: gateway.desk.gate.in_hand == 1)
        until(lambda: gateway.desk.gate.in_hand == 0)
        gateway.desk.books.ledger.flush()
        rows = gateway.rows()
        assert sorted((row["tries"], row["cost_usd"]) for row in rows) == [(0, 0.0), (1, 0.1)]
        assert {row["status"] for row in rows} == {499}
        assert gateway.chat("good").status == 200


def test_streamed_spend_is_recorded_as_zero(serve: Serve, bad: BadUpstream) -> None:
    """A stream costs what the same answer costs whole, though the client did not ask for usage."""
    with serve("good", "no-usage", "die", "endless") as gateway:
        whole, streamed = gateway.chat("good"), gateway.chat("good", stream=True)
        assert b'"usage"' not in streamed.body
        assert gateway.row(whole)["cost_pico"] == gateway.row(streamed)["cost_pico"] == 87_000_000
        # where the upstream tells nothing, an estimate stands; never nothing
        for name in ("no-usage", "die"):
            row = gateway.row(gateway.chat(name, stream=True))
            assert row["estimated"]
            assert row["cost_pico"] >= 19 * 4_000_000
        # a client that leaves in mid-stream pays for what it has seen
        connection = opened(gateway, "endless", stream=True)
        with closing(connection):
            got = b""
            while got.count(b"again") < 1000:
                got += connection.recv(65_536)
        until(lambda: gateway.desk.gate.in_hand == 0)
        gateway.desk.books.ledger.flush()
        left = gateway.rows()[-1]
        assert (left["status"], left["destination"]) == (499, "endless")
        assert left["cost_pico"] >= 1000 * 4_000_000


@pytest.mark.parametrize(
    "path",
    [
        "/v1/completions",
        "/v1/embeddings",
        "/v1/responses",
        "/v1/messages",
        "/openai/v1/chat/completions",
        "//v1/chat/completions",
        "/v1/chat/completions/",
        "/v1/./chat/completions",
        "/v1/chat%2fcompletions",
    ],
)
def test_a_pass_through_bypasses_the_budget(serve: Serve, bad: BadUpstream, path: str) -> None:
    """There is one way to an upstream; every other path is answered here."""
    with serve("good", **{"budgets.all": 'usd = 0\nperiod = "total"'}) as gateway:
        body = {"model": "good", "messages": [{"role": "user", "content": "hi"}], "input": "hi"}
        answer = ask(gateway.url, path, body)
        assert answer.status == 404
        asked = ask(gateway.url, "/v1/chat/completions?api-version=1", body)
        assert (asked.status, asked.code) == (429, "budget_exceeded")
    assert not bad.seen


def test_a_named_model_bypasses_the_budget(serve: Serve, bad: BadUpstream) -> None:
    """Also a fallback needs money: it is not asked where its own budget is spent."""
    budgets = {"budgets.all": 'usd = 0.1\nperiod = "total"\nmodels = ["good"]'}
    with serve("good", "status:500", entry=TENTH, **budgets) as gateway:
        assert gateway.chat("good").status == 200
        assert gateway.chat("good").code == "budget_exceeded"
        assert gateway.chat("status:500>good").status == 502
    assert bad.counts == {"good": 1, "status:500": 1}


# --- limits -----------------------------------------------------------------------------------


def test_rate_limits_do_not_limit(serve: Serve, bad: BadUpstream, tmp_path: Path) -> None:
    """Of each key its own: so many requests a minute, tokens a minute, requests at once."""
    limits: dict[str, dict[str, Any]] = {
        "few": {"limits": limit(requests_per_minute=3)},
        "tokens": {"limits": limit(tokens_per_minute=600)},
        "alone": {"limits": limit(parallel=1)},
    }
    secrets = make_keys(tmp_path, **limits)
    with serve("good", "silent", keys='file = "keys.json"') as gateway:

        def chat(name: str) -> Answer:
            return gateway.chat("good", headers={"authorization": f"Bearer {secrets[name]}"})

        answers = [chat("few") for _ in range(5)]
        assert [answer.status for answer in answers] == [200, 200, 200, 429, 429]
        assert answers[-1].code == "rate_limit_exceeded"
        assert 1 <= int(answers[-1].headers["retry-after"]) <= 20
        answers = [chat("tokens") for _ in range(30)]
        assert {200, 429} == {answer.status for answer in answers}
        header = f"authorization: Bearer {secrets['alone']}\r\n"
        with closing(opened(gateway, "silent", header=header)):
            bad.wait(lambda bad: "silent" in [seen.manner for seen in bad.seen])
            answer = chat("alone")
            assert (answer.status, answer.code) == (429, "too_many_parallel")
            assert "retry-after" in answer.headers
        until(lambda: gateway.desk.gate.in_hand == 0)
        assert chat("alone").status == 200
        assert chat("admin").status == 200


def limit(**limits: int) -> Any:
    from turnout.serve.guard.key import KeyLimits

    return KeyLimits(**limits)


# --- memory, options, feedback --------------------------------------------------------------


def test_memory_grows_with_requests(
    serve: Serve, bad: BadUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    """After thousands of requests, good and bad, whole and streamed, no more is held."""
    caplog.set_level(logging.CRITICAL, "turnout.serve")  # whose lines pytest would keep
    asked = [("good", False), ("status:400", False), ("none", False), ("good", True)]
    asked += [("good", False), ("status:400", False), ("none", False), ("die", True)]
    breaker = "in_a_row = 1000000\nminimum = 1000000"
    with serve("good", "status:400", "die", breaker=breaker) as gateway:
        connection = http.client.HTTPConnection(urlsplit(gateway.url).netloc, timeout=20)

        def held_after(count: int) -> int:
            for i in range(count):
                name, stream = asked[i % len(asked)]
                message = {"role": "user", "content": f"question {i}"}
                raw = json.dumps({"model": name, "stream": stream, "messages": [message]})
                connection.request("POST", "/v1/chat/completions", raw.encode())
                connection.getresponse().read()
            gateway.desk.books.ledger.flush()
            bad.clear()
            gc.collect()
            return sys.getallocatedblocks()

        with closing(connection):
            held_after(400)
            before = held_after(200)
            after = held_after(1200)
    # one object kept of each request would be 1200
    assert after - before < 600


def test_an_option_is_there_and_does_nothing(bad: BadUpstream, tmp_path: Path) -> None:
    """What this gateway does not have cannot be switched on."""
    with pytest.raises(ConfigError, match="cache must be a known key"):
        configure(bad, tmp_path, ["good"], cache="enabled = true")


@pytest.mark.parametrize("stream", [False, True])
def test_feedback_comes_too_early(serve: Serve, stream: bool) -> None:
    """Whoever has read the last byte of an answer can rate it at once, by either of its names."""
    with serve("good", "die") as gateway:
        for _ in range(20):
            answer = gateway.chat("good", stream=stream)
            told = ask(gateway.url, "/v1/feedback", {"id": answer.id, "quality": 0.5})
            assert (told.status, told.json["id"]) == (200, answer.id)
