"""Balancing: the biases that transformers never moves are moved, by what was really routed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from turnout.core import InputError
from turnout.experts import Site, bias_updates, sites, swap
from turnout.nn.balance import Sign
from turnout.nn.gates import Bias, Gate, LinearScorer, Renormalised, Sigmoid, TopK

sys.path.insert(0, str(Path(__file__).parent))
from families import FAMILIES, inputs, run, shared, tiny

torch.set_num_threads(1)

#: Families with a correction bias.
BIASED = [name for name in FAMILIES if any(site.bias_name for site in sites(shared(name)))]


def collapsed(name: str) -> Any:
    """A model in training whose first expert is taken by every token."""
    model = tiny(name).train()
    for site in sites(model):
        assert site.bias is not None
        with torch.no_grad():
            site.bias.view(-1)[0] = 1.0
            for parameter in site.router.parameters():
                if parameter.ndim == 2 and parameter.shape[1] == site.d:
                    parameter.mul_(30.0)  # scores that differ, as in a model that has learned
    return model


def test_many_families_carry_a_bias() -> None:
    """At least thirty of those covered."""
    assert len(BIASED) >= 30


@pytest.mark.parametrize("name", ["deepseek_v3", "minimax_m2", "ernie4_5_moe", "lfm2_moe"])
def test_a_collapsed_model_is_balanced(name: str) -> None:
    """Under updates alone, with no gradient, the loads come out even."""
    model = collapsed(name)
    generator = torch.Generator().manual_seed(0)
    reports = []
    with bias_updates(model, Sign(0.05)) as updates:
        for _ in range(40):
            model(torch.randint(3, 64, (4, 32), generator=generator))
            reports.append(updates.step())
    for ordinal in reports[0]:
        assert reports[0][ordinal].max_over_mean == pytest.approx(2.0)
        late = [report[ordinal].max_over_mean for report in reports[-5:]]
        assert sum(late) / len(late) < 1.6


def test_the_optimizer_calls() -> None:
    """After each of its steps, over all micro-batches; padding does not count; closed, no more."""
    model = collapsed("deepseek_v3")
    ids, mask = inputs()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    updates = bias_updates(model, Sign(0.1), optimizer=optimizer)
    run(model, ids, mask)
    run(model, ids, mask)
    optimizer.step()
    assert {report.pairs for report in updates.reports.values()} == {2 * 10 * 2}
    bias = sites(model)[0].bias
    assert bias is not None
    assert float(bias[0]) == pytest.approx(0.9)
    model.eval()
    run(model, ids, mask)
    optimizer.step()
    assert float(bias[0]) == pytest.approx(0.9)
    model.train()
    updates.close()
    updates.close()
    run(model, ids, mask)
    optimizer.step()
    assert float(bias[0]) == pytest.approx(0.9)
    assert type(sites(model)[0].router).__name__ == "DeepseekV3TopkRouter"


@pytest.mark.filterwarnings("ignore")
def test_second_runs_do_not_count() -> None:
    """Under checkpointing every token is counted once."""
    model = collapsed("deepseek_v3")
    ids, mask = inputs()
    model.activation_checkpointing_enable({"use_reentrant": False})
    with bias_updates(model, Sign()) as updates:
        run(model, ids, mask, use_cache=False).logits.sum().backward()
        assert {report.pairs for report in updates.step().values()} == {20}


def test_a_gates_own_bias_is_moved() -> None:
    """Where a gate is in place, its bias and not the native one."""
    model = tiny("mixtral").train()

    def gate(site: Site) -> Gate:
        parts = [Sigmoid(), Bias(site.e)]
        return Gate(LinearScorer(32, 4), TopK(1), Renormalised(), e=4, processors=parts)

    with swap(model, gate, layers=[1]) as handle:
        with bias_updates(model, Sign(0.1)) as updates:
            model(inputs()[0])
            assert set(updates.step()) == {1}
        assert float(handle.gates[1].processors[1].bias.abs().sum()) > 0  # type: ignore[union-attr, index]


def test_a_trainer_can_call() -> None:
    """The callback moves the biases after an optimizer step."""
    model = collapsed("deepseek_v3")
    with bias_updates(model, Sign(0.1)) as updates:
        callback = updates.callback()
        model(inputs()[0])
        callback.on_optimizer_step(None, None, None)
    bias = sites(model)[0].bias
    assert bias is not None
    assert float(bias[0]) == pytest.approx(0.9)


def test_a_model_without_a_bias_is_refused() -> None:
    """The names looked for are given."""
    with pytest.raises(InputError, match=r"must have a correction bias \(e_score_correction_bias"):
        bias_updates(tiny("mixtral"), Sign())
