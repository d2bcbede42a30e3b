"""A policy of queries trained by a minimax game: on thresholds, and on labels of real models.

Minimax training is noisy: policies of single levels may be worse at their own level than the last
policy is, and one of a hard level may end nowhere, so that gaps are taken against the best of all
learned policies at a level. Where the last policy is that best one at every level, its gap is 0 by
definition. It has also played six times as many games as each of the others (three adversaries,
twice the steps), so that its lead over them is not due to the objective alone. How far it is from
what can be reached is told by soft generalised binary search, which knows that thresholds are
thresholds: about as good at the easy level, up to a tenth better at the hardest.

On labels of real models it is no better than buying in turn and worse than sequential halving. In
its own game (five arms, 20 packets; seen while it was built, at one seed) it errs one or two
hundredths less often than halving at the hardest problem of every level. That is the worst case;
with real models the mean over draws is judged, and the best of five leads the next by 0.08 and 0.04
in the median of the two tables. Halving is the better choice there.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.random import Generator

from turnout.bench import read
from turnout.core._check import Float, Int
from turnout.llms.active_minimax import ActiveMinimax, buy
from turnout.parts.feedback.minimax import (
    Asker,
    Halving,
    Learning,
    Thresholds,
    Uniform,
    hardest,
    learn,
)

GAME = Thresholds(15, 15)
LEVELS = (2.0, 6.0, 18.0)
MODELS, LABELS, DRAWS = 5, 100, 300


def run(seed: int, data: Path | None, *, steps: int = 150) -> dict[str, float]:
    assert data is not None
    return _thresholds(seed, steps) | _models(seed, data, steps // 2)


@dataclass(frozen=True)
class _Halves:
    """Binary search, each item asked three times and believed by the sum."""

    def choose(self, counts: Float, sums: Float, t: int, rng: Generator) -> Int:
        asked = np.empty(len(counts), dtype=np.int64)
        for row in range(len(counts)):
            low, high = 0, GAME.arms - 1
            while low < high:
                middle = (low + high) // 2
                if counts[row, middle] < 3:
                    break
                low, high = (low, middle) if sums[row, middle] >= 0 else (middle + 1, high)
            else:
                middle = low if low == 0 or counts[row, low] <= counts[row, low - 1] else low - 1
            asked[row] = middle
        return asked


@dataclass(frozen=True)
class _Soft:
    """Soft generalised binary search: the item that halves the posterior, at a known margin."""

    margin: float = 0.7

    def choose(self, counts: Float, sums: Float, t: int, rng: Generator) -> Int:
        z = GAME.hypotheses
        score = self.margin * (sums @ z.T)
        belief = np.exp(score - score.max(axis=1, keepdims=True))
        belief /= belief.sum(axis=1, keepdims=True)
        lean = np.abs(belief @ z) + 1e-6 * rng.random((len(belief), GAME.arms))
        return np.asarray(lean.argmin(axis=1))


def _thresholds(seed: int, steps: int) -> dict[str, float]:
    learning = Learning(levels=LEVELS, steps=steps)
    found = learn(GAME, learning, rng=np.random.default_rng(seed))
    learned: dict[str, Asker] = {f"level_{r:g}": a for r, a in zip(LEVELS, found.each, strict=True)}
    learned["mapo"] = found.policy
    rules: dict[str, Asker] = {
        **learned,
        "uniform": Uniform(),
        "binary": _Halves(),
        "gbs": _Soft(),
    }
    loss = {
        name: [
            hardest(rule, GAME, level, restarts=45, rng=np.random.default_rng(1000 + seed))
            for level in LEVELS
        ]
        for name, rule in rules.items()
    }
    best = np.min([loss[name] for name in learned], axis=0)
    gap = {name: float(np.max(np.array(each) - best)) for name, each in loss.items()}
    single = min(gap[f"level_{LEVELS[0]:g}"], gap[f"level_{LEVELS[-1]:g}"])
    result = {
        "mapo_gap": gap["mapo"],
        "uniform_gap_less_mapo_gap": gap["uniform"] - gap["mapo"],
        "single_gap_less_mapo_gap": single - gap["mapo"],
        "gbs_gap_less_mapo_gap": gap["gbs"] - gap["mapo"],
    }
    for name, each in loss.items():
        result |= {f"loss_{name}_at_{r:g}": x for r, x in zip(LEVELS, each, strict=True)}
    return result


def _models(seed: int, data: Path, steps: int) -> dict[str, float]:
    rng = np.random.default_rng(2000 + seed)
    recipe = ActiveMinimax(labels=LABELS, steps=steps)
    game = recipe.game(MODELS)
    policy = learn(game, recipe.learning(game.labels), rng=np.random.default_rng(seed)).policy
    rules: dict[str, Asker] = {
        "mapo": policy,
        "uniform": Uniform(),
        "halving": Halving(game.labels),
    }
    regrets: dict[str, list[float]] = {name: [] for name in rules}
    result = {}
    for source, table in (("routerbench", _routerbench(data)), ("llmrouter", _llmrouter(data))):
        means = np.nanmean(table, axis=0)
        start = len(regrets["mapo"])
        for _ in range(DRAWS):
            some = rng.choice(table.shape[1], size=MODELS, replace=False)
            cells, truth = table[:, some], means[some]
            dice = int(rng.integers(2**31))
            for name, rule in rules.items():
                found = buy(rule, cells, LABELS, game.labels, rng=np.random.default_rng(dice))
                regrets[name].append(float(truth.max() - truth[found.best]))
        for name, each in regrets.items():
            result[f"regret_{name}_{source}"] = float(np.mean(each[start:]))
            result[f"error_{name}_{source}"] = float((np.array(each[start:]) > 1e-12).mean())
    mean = {name: float(np.mean(each)) for name, each in regrets.items()}
    return result | {
        "regret_less_uniform": mean["mapo"] - mean["uniform"],
        "regret_less_halving": mean["mapo"] - mean["halving"],
    }


def _routerbench(data: Path) -> Float:
    parts = [
        read(data / f"routerbench_0shot_{subset}_{part}.csv.gz").outcomes
        for subset in ("arc_challenge", "winogrande")
        for part in ("train", "test")
    ]
    return np.vstack([part.select(parts[0].names).quality for part in parts])


def _llmrouter(data: Path) -> Float:
    return np.asarray(read(data / "llmrouter_9models.csv.gz").outcomes.quality)
