"""The load-aware policy against static models and rules, on a real service's arrivals.

Most of the gain over static models is in reading the prompt and in looking at the counts at all:
the greedy rule that takes the best destination predicted for the prompt among those expected to be
in time is about as good (a few per cent better with one seed, worse with the other). What the
policy adds over the bandit (gamma 0) is of that size, too. The step times are measured when the
claim is run, so that the figures move with the machine.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from turnout.lab import models, outcomes, problems
from turnout.lab.pool import one_thread
from turnout.lab.serving import (
    Rule,
    Score,
    always,
    at_random,
    best_in_time,
    by_policy,
    lookahead,
    measure,
    quickest,
    read_trace,
    score,
)
from turnout.llms.best_effort import BestEffort
from turnout.parts.queues import Servers, serve

TRACE = "levels/traces/azure_llm_2023_code.csv.gz"
#: Mean rate over what the best model carries with all the hardware.
SPEEDS = (0.03, 0.1, 0.3, 1.0, 3.0)
SLOTS = 32
ANSWERS_TO_DEADLINE = 5.0


def run(seed: int, data: Path | None, *, half: int = 1, requests: int = 60_000) -> dict[str, float]:
    assert data is not None
    rng = np.random.default_rng(seed)
    table, _ = outcomes(1200, seed=seed)
    sample = sorted((p.prompt for p in problems(96, seed=1000 + seed)), key=len)[30:66]
    with one_thread():
        timed = [measure(model, sample) for model in models().values()]
    alone, slope = np.array(timed).T
    # operations tell how long each answer is; the clock how long a mean one takes
    work = table.cost / table.cost.mean(axis=0) * alone
    table = replace(table, latency=work)
    learn, judge = table.take(np.arange(600)), table.take(np.arange(600, 1200))
    best = int(learn.mean_quality().argmax())
    deadline = ANSWERS_TO_DEADLINE * float(alone[best])
    shared = Servers(slope, np.full(table.m, SLOTS))
    whole = shared.shares(table.m)
    carried = float(whole.capacity[best] / alone[best])

    fits = {}
    for name, gamma in (("policy", 0.9), ("bandit", 0.0)):
        recipe = BestEffort(
            deadline=deadline,
            slope=tuple(slope.tolist()),
            slots=SLOTS,
            gamma=gamma,
            requests=requests,
        )
        fits[name] = recipe.fit(learn, learn.pool(), rng=np.random.default_rng(seed))

    trace = read_trace(data / TRACE)
    middle = trace.n // 2
    part = trace.take(0, middle) if half == 0 else trace.take(middle, trace.n)
    rows = rng.integers(judge.n, size=part.n)
    texts = [judge.inputs[int(i)] for i in rows]
    worth = judge.quality[rows]
    assert judge.latency is not None
    seconds = judge.latency[rows]
    found: dict[str, list[Score]] = {}
    for speed in SPEEDS:
        times = part.at_rate(speed * carried).arrival
        greedy = best_in_time(np.tile(learn.mean_quality(), (part.n, 1)), alone, deadline)
        rules: dict[str, tuple[Rule, Servers]] = {
            name: (by_policy(fit, texts), shared) for name, fit in fits.items()
        }
        told = fits["policy"].quality(texts)
        rules["greedy"] = (greedy, shared)
        rules["reading_greedy"] = (best_in_time(told, alone, deadline), shared)
        rules["no_load"] = (best_in_time(told, alone, 1e9 * deadline), shared)
        rules["random"] = (at_random(table.m, rng=np.random.default_rng(seed)), shared)
        rules["quickest"] = (quickest(alone), shared)
        for j, name in enumerate(table.names):
            rules[f"static_{name}"] = (always(j), whole)
        for name, (rule, servers) in rules.items():
            served = serve(times, seconds, servers, rule)
            found.setdefault(name, []).append(score(served, worth, deadline))
        some = slice(0, 800)
        ahead = lookahead(times[some], seconds[some], worth[some], deadline, greedy, ahead=20)
        for name, rule in (("ahead_800", ahead), ("policy_800", by_policy(fits["policy"], texts))):
            served = serve(times[some], seconds[some], shared, rule)
            found.setdefault(name, []).append(score(served, worth[some], deadline))

    mean = {name: float(np.mean([s.goodput for s in each])) for name, each in found.items()}
    static = {name: value for name, value in mean.items() if name.startswith("static_")}
    large = found[f"static_{table.names[best]}"]
    policy = found["policy"]
    result = {
        "gain_over_best_static": mean["policy"] / max(static.values()) - 1.0,
        "over_greedy": mean["policy"] / mean["greedy"] - 1.0,
        "over_reading_greedy": mean["policy"] / mean["reading_greedy"] - 1.0,
        "over_no_load": mean["policy"] / mean["no_load"] - 1.0,
        "in_time_heaviest_gap": policy[-1].in_time - large[-1].in_time,
        "windows_96_ratio": _ratio([s.above_96 for s in policy], [s.above_96 for s in large]),
        "windows_98_ratio": _ratio([s.above_98 for s in policy], [s.above_98 for s in large]),
        "light_goodput": policy[0].goodput,
    }
    result |= {f"goodput_{name}": value for name, value in mean.items()}
    for i, speed in enumerate(SPEEDS):
        result[f"in_time_policy_at_{speed:g}"] = policy[i].in_time
        result[f"in_time_large_at_{speed:g}"] = large[i].in_time
        result[f"goodput_policy_at_{speed:g}"] = policy[i].goodput
        result[f"goodput_greedy_at_{speed:g}"] = found["greedy"][i].goodput
    return result


def _ratio(ours: list[float], theirs: list[float]) -> float:
    return float(np.sum(ours) / max(np.sum(theirs), 1e-9))
