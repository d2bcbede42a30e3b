"""Serving in the laboratory."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from turnout.core import DataError, InputError
from turnout.lab import load, serving
from turnout.parts.queues import Load, Queues, Served, Servers, serve
from turnout.testing.data import real_data

SERVERS = Servers(np.array([0.1, 1.0]), np.array([8, 8]))


def test_a_csv_and_a_jsonl_say_the_same(tmp_path: Path) -> None:
    """Both known forms give arrivals in seconds from the first, in order, and lengths."""
    one = tmp_path / "a.csv.gz"
    with gzip.open(one, "wt", encoding="utf-8") as file:
        file.write("TIMESTAMP,ContextTokens,GeneratedTokens\n")
        file.write("2023-11-16 18:17:04.5000000,30,8\n2023-11-16 18:17:03.0000000,10,5\n")
    two = tmp_path / "b.jsonl"
    rows = [(0, 10, 5), (1500, 30, 8)]
    two.write_text(
        "\n".join(
            json.dumps({"timestamp": t, "input_length": a, "output_length": b}) for t, a, b in rows
        )
    )
    for path in (one, two):
        trace = serving.read_trace(path)
        assert trace.arrival.tolist() == pytest.approx([0.0, 1.5])
        assert trace.read.tolist() == [10, 30]
        assert trace.written.tolist() == [5, 8]


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "TIMESTAMP,ContextTokens,GeneratedTokens\n"])
def test_what_is_no_trace_is_refused(tmp_path: Path, text: str) -> None:
    """The file is named."""
    path = tmp_path / "x.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=r"trace must be a trace of requests.*x\.csv"):
        serving.read_trace(path)


def test_a_real_trace_is_read_whole() -> None:
    """Azure's code trace: 8,819 requests in an hour, the first with 4,808 tokens."""
    trace = serving.read_trace(real_data("levels/traces/azure_llm_2023_code.csv.gz"))
    assert (trace.n, trace.read[0], trace.written[0]) == (8819, 4808, 10)
    assert trace.arrival[1] == pytest.approx(0.052)
    assert 3400 < trace.arrival[-1] < 3600


def test_a_rate_changes_time_alone() -> None:
    """At another rate the gaps shrink alike; a stretch starts at zero."""
    trace = serving.Trace(np.array([0.0, 1.0, 4.0]), np.arange(3), np.arange(3))
    assert trace.at_rate(5.0).arrival.tolist() == pytest.approx([0.0, 0.1, 0.4])
    assert trace.take(1, 3).arrival.tolist() == [0.0, 3.0]


def test_a_model_is_measured() -> None:
    """A batch takes time, and the slope is a slope; sizes that cannot be timed are refused."""
    prompts = ["2 + 2 =", "3 + 3 ="] * 4
    seconds, slope = serving.measure(load("pico"), prompts, batches=(1, 4), repeats=1)
    assert seconds > 0
    assert 0.0 <= slope <= 1.0
    with pytest.raises(InputError, match="batches must be 1 and other sizes of at most 8"):
        serving.measure(load("pico"), prompts, batches=(1, 9))
    with pytest.raises(InputError, match="batches"):
        serving.measure(load("pico"), prompts, batches=(2, 4))


def test_the_greedy_rule_by_hand() -> None:
    """Two fit into the deadline of the better one (1 s, then 2 s), the third is sent elsewhere."""
    work = np.tile([0.2, 1.0], (3, 1))
    rule = serving.best_in_time(np.tile([0.6, 0.9], (3, 1)), work.mean(axis=0), 2.5)
    assert serve(np.zeros(3), work, SERVERS, rule).choice.tolist() == [1, 1, 0]


def test_the_greedy_rule_reads_qualities() -> None:
    """Each request has an order of its own."""
    rule = serving.best_in_time(np.array([[0.9, 0.1], [0.1, 0.9]]), np.ones(2), 9.0)
    queues = Queues(SERVERS)
    assert [rule(i, 0.0, queues) for i in range(2)] == [0, 1]


def test_the_quickest_looks_at_the_line() -> None:
    """The light one until it is as slow as the heavy one."""
    queues = Queues(Servers(np.array([1.0, 1.0]), np.array([9, 9])))
    rule = serving.quickest(np.array([0.4, 1.0]))
    chosen = []
    for who in range(3):
        chosen.append(rule(who, 0.0, queues))
        queues.submit(who, chosen[-1], 1.0)
    assert chosen == [0, 0, 1]


def test_looking_ahead_keeps_room_for_what_comes() -> None:
    """The heavy one could be in time for the first, but then not for the second, worth more."""
    servers = Servers(np.array([0.0, 0.0]), np.array([9, 1]))
    times = np.array([0.0, 0.1])
    work = np.array([[0.1, 1.0], [5.0, 1.0]])
    worth = np.array([[0.4, 0.5], [1.0, 1.0]])
    greedy = serving.best_in_time(np.tile([0.0, 1.0], (2, 1)), np.ones(2), 1.5)
    ahead = serving.lookahead(times, work, worth, 1.5, greedy, ahead=5)
    assert serve(times, work, servers, greedy).choice[0] == 1
    assert serve(times, work, servers, ahead).choice.tolist() == [0, 1]


class _Shy:
    """Prefers the second until anything is in flight there; a fake policy."""

    window = 1.0

    def __init__(self) -> None:
        self.rates: list[float] = []

    def quality(self, inputs):
        return np.tile([0.5, 0.9], (len(inputs), 1))

    def delivered(self, quality, load: Load):
        self.rates.append(load.rate)
        return quality - np.array([0.0, load.in_flight[1]])


def test_a_policy_is_told_the_load() -> None:
    """Counts in flight and the rate so far reach it; a price weighs on its choice."""
    shy = _Shy()
    work = np.full((3, 2), 5.0)
    times = np.array([0.0, 0.1, 0.2])
    served = serve(times, work, SERVERS, serving.by_policy(shy, ["a", "b", "c"]))
    assert served.choice.tolist() == [1, 0, 0]
    assert shy.rates == [0.0, 1.0, 2.0]
    dear = serving.by_policy(shy, ["a"], cost=np.array([[0.0, 1.0]]), price=0.5)
    assert dear(0, 0.0, Queues(SERVERS)) == 0


def test_late_counts_as_nothing_by_hand() -> None:
    """Of four, one is late and one half as good: 2.5 of a peak of 4; one window of two is full."""
    served = Served(np.array([1, 1, 0, 1]), np.array([1.0, 1.0, 1.0, 9.0]))
    found = serving.score(served, np.tile([0.5, 1.0], (4, 1)), 2.0, window=2)
    assert found == serving.Score(goodput=0.625, in_time=0.75, above_96=0.5, above_98=0.5)


def test_simple_rules_go_where_they_say() -> None:
    """Always, and at random with the generator's seed."""
    queues = Queues(SERVERS)
    assert serving.always(1)(0, 0.0, queues) == 1
    draws = [
        [rule(i, 0.0, queues) for i in range(20)]
        for rule in (serving.at_random(2, rng=np.random.default_rng(5)) for _ in range(2))
    ]
    assert draws[0] == draws[1]
    assert set(draws[0]) == {0, 1}
