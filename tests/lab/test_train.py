from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from turnout.core.errors import InputError
from turnout.lab import network, pool, tokenizer
from turnout.lab.config import Config
from turnout.lab.optimiser import Optimiser, orthogonal
from turnout.lab.plans import Plan
from turnout.lab.tasks import held_out
from turnout.lab.train import _batch, loss_of, train

PLAN = Plan(
    "toy",
    "learns nothing much",
    Config(16, 2, 2, tokenizer.VOCABULARY),
    (("copy", 1.0), ("count", 2.0)),
    steps=6,
    batch=8,
)


def run(out: Path, **options: Any) -> dict[str, Any] | None:
    return train(PLAN, out, examined=24, **options)


def test_training_is_deterministic_and_resuming_changes_nothing(tmp_path: Path) -> None:
    """Stopped after 2 and after 4 steps and resumed, the weights are those of one run."""
    whole = run(tmp_path / "whole")
    for stop in (2, 4):
        assert run(tmp_path / "parts", stop_after=stop) is None
        assert (tmp_path / "parts/toy.checkpoint.safetensors").exists()
    parts = run(tmp_path / "parts")
    assert whole is not None
    assert parts is not None
    one, two = (tmp_path / name / "toy.safetensors" for name in ("whole", "parts"))
    assert one.read_bytes() == two.read_bytes()
    assert whole["held_out"] == parts["held_out"]
    assert not list(tmp_path.rglob("*checkpoint*"))
    other = run(tmp_path / "other", seed=1)
    assert other is not None
    assert (tmp_path / "other/toy.safetensors").read_bytes() != one.read_bytes()


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    """Resuming with another seed or plan would be neither run; --fresh starts over."""
    run(tmp_path, stop_after=2)
    with pytest.raises(InputError, match="be a checkpoint of this run"):
        run(tmp_path, seed=1)
    assert run(tmp_path, seed=1, fresh=True) is not None


def test_the_record_says_how_the_weights_came_to_be(tmp_path: Path) -> None:
    """Config, seed, steps, seconds and accuracies lie beside weights that load and run."""
    run(tmp_path)
    record = json.loads((tmp_path / "toy.json").read_text())
    assert record["steps"] == 6
    assert record["seed"] == 0
    assert record["seconds"] > 0
    assert record["held_out"]["n"] == 24
    model = pool.read("toy", (tmp_path / "toy.safetensors").read_bytes())
    assert model.config == PLAN.config
    assert len(model.generate(["Say exactly abc"])) == 1


def test_training_learns() -> None:
    """Forty steps on one batch make its answers much more likely."""
    config = PLAN.config
    weights = network.initial(config, generator=torch.Generator().manual_seed(0))
    for value in weights.values():
        value.requires_grad_(True)
    optimiser = Optimiser(weights, Optimiser.fresh(weights))
    rows = _batch(PLAN, 0, 0)
    losses = []
    for step in range(40):
        loss = loss_of(weights, config, rows) / len(rows)
        gradients = torch.autograd.grad(loss, list(weights.values()))
        optimiser.step(dict(zip(weights, gradients, strict=True)), 1e-2, step + 1)
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]


def test_training_never_sees_a_held_out_prompt() -> None:
    """The batches of training hold no evaluation prompt."""
    plan = replace(PLAN, batch=400)
    for prompt, _ in _batch(plan, 0, 0):
        assert not held_out(tokenizer.decode(prompt))


def test_the_loss_is_that_of_the_answer_alone() -> None:
    """Rows count separately and padding not at all: a batch's loss is the sum of its rows'."""
    config = PLAN.config
    weights = network.initial(config, generator=torch.Generator().manual_seed(1))
    rows = _batch(PLAN, 0, 0)
    together = loss_of(weights, config, rows).item()
    alone = sum(loss_of(weights, config, [row]).item() for row in rows)
    assert together == pytest.approx(alone, rel=1e-5)


def test_orthogonal_has_singular_values_near_one() -> None:
    """Five Newton-Schulz steps bring all singular values near 1, tall or wide."""
    generator = torch.Generator().manual_seed(0)
    for shape in ((12, 40), (40, 12)):
        matrix = torch.randn(shape, generator=generator)
        values = torch.linalg.svdvals(orthogonal(matrix)).numpy()
        assert np.all((values > 0.6) & (values < 1.3))


def test_plans_check_themselves() -> None:
    """Bad fields are refused by name."""
    for change, field in (
        ({"steps": 0}, "steps"),
        ({"batch": 0}, "batch"),
        ({"rate": 0.0}, "rate"),
        ({"mix": (("juggle", 1.0),)}, "mix"),
        ({"mix": (("copy", 0.0),)}, "mix"),
    ):
        with pytest.raises(InputError, match=f"^{field} must"):
            replace(PLAN, **change)


def test_optimiser_state_must_belong_to_the_weights() -> None:
    """State of other weights is refused."""
    weights = network.initial(PLAN.config, generator=torch.Generator().manual_seed(0))
    with pytest.raises(InputError, match=r"^state must"):
        Optimiser(weights, {})
