from __future__ import annotations

import json
import sys
from importlib.resources import files
from subprocess import run

import numpy as np
import pytest

from turnout import lab
from turnout.core.errors import DataError, InputError
from turnout.lab import tokenizer
from turnout.lab.plans import PLANS
from turnout.lab.pool import read
from turnout.lab.tasks import Problem

WEIGHTS = files("turnout.lab").joinpath("weights")


@pytest.fixture(scope="module")
def asked() -> tuple[list[Problem], lab.Asked]:
    drawn = lab.problems(400, seed=77)
    return drawn, lab.ask(drawn)


def test_the_weights_are_small() -> None:
    """All weights together take at most 6 MB."""
    sizes = [WEIGHTS.joinpath(f"{name}.safetensors").read_bytes() for name in lab.names()]
    assert sum(map(len, sizes)) <= 6_000_000


@pytest.mark.parametrize("name", lab.names())
def test_the_weights_are_those_of_the_plan(name: str) -> None:
    """The record beside the weights tells of the training that the plan describes."""
    record = json.loads(WEIGHTS.joinpath(f"{name}.json").read_text())
    plan = PLANS[name]
    assert lab.load(name).config == plan.config == lab.Config.from_dict(record["config"])
    assert tuple((task, weight) for task, weight in record["mix"]) == plan.mix
    kept = (record["steps"], record["batch"], record["rate"], record["vocabulary"])
    assert kept == (plan.steps, plan.batch, plan.rate, tokenizer.fingerprint())


def test_the_record_holds_what_the_weights_do() -> None:
    """The recorded accuracy is found again on the same held-out problems."""
    record = json.loads(WEIGHTS.joinpath("pico.json").read_text())
    table = lab.ask(lab.problems(record["held_out"]["n"], seed=1), [lab.load("pico")])
    assert table.quality.mean() == pytest.approx(record["held_out"]["accuracy"], abs=2e-3)


def test_the_pool_has_something_to_route(asked: tuple[list[Problem], lab.Asked]) -> None:
    """The oracle is 8 points above the best single model, which costs 5 times the cheapest."""
    _, table = asked
    quality, cost = table.quality.mean(axis=0), table.cost.mean(axis=0)
    best = int(quality.argmax())
    assert table.names[best] == "grand"
    assert table.quality.max(axis=1).mean() - quality[best] >= 0.08
    assert cost[best] >= 5 * cost.min()


def test_specialists_beat_the_dear_generalist_at_home_for_less(
    asked: tuple[list[Problem], lab.Asked],
) -> None:
    """In its own tasks each specialist is better and at most half as dear."""
    drawn, table = asked
    grand = table.names.index("grand")
    for name, home in (
        ("letters", {"copy", "reverse", "sort", "brackets", "count"}),
        ("numbers", {"add", "subtract", "convert", "calendar", "extreme"}),
    ):
        rows = np.array([problem.task in home for problem in drawn])
        j = table.names.index(name)
        assert table.quality[rows, j].mean() > table.quality[rows, grand].mean()
        assert table.cost[rows, j].mean() <= 0.5 * table.cost[rows, grand].mean()


def test_the_cheap_generalist_does_part_of_everything(
    asked: tuple[list[Problem], lab.Asked],
) -> None:
    """It answers some easy problem of most tasks."""
    drawn, table = asked
    right = table.quality[:, table.names.index("pico")] == 1
    solved = {p.task for p, ok in zip(drawn, right, strict=True) if ok and p.difficulty <= 2}
    assert len(solved) >= 8


def test_replies_are_graded_and_charged_as_they_are(
    asked: tuple[list[Problem], lab.Asked],
) -> None:
    """Quality is the grade of the reply shown; cost is operations times the price of one."""
    drawn, table = asked
    for j, name in enumerate(table.names):
        model = lab.load(name)
        for i in range(0, 400, 40):
            (reply,) = model.generate([drawn[i].prompt])
            assert table.replies[i][j] == reply.text
            assert table.quality[i, j] == lab.grade(drawn[i], reply.text)
            exact = lab.USD_PER_TFLOP * reply.flops / 1e12
            assert table.cost[i, j] == pytest.approx(exact, rel=1e-12)
            spent = lab.cost(model, reply.prompt_tokens, reply.completion_tokens)
            assert spent == pytest.approx(exact, rel=1e-12)
    assert (table.latency > 0).all()


def test_list_prices_are_near_the_exact_cost(asked: tuple[list[Problem], lab.Asked]) -> None:
    """Linear prices per token come within 10 per cent of the mean exact cost."""
    drawn, table = asked
    for j, name in enumerate(table.names):
        model = lab.load(name)
        replies = model.generate([problem.prompt for problem in drawn])
        read_price, write_price = lab.prices(model)
        listed = [read_price * r.prompt_tokens + write_price * r.completion_tokens for r in replies]
        assert np.mean(listed) == pytest.approx(table.cost[:, j].mean(), rel=0.10)


def test_shipped_weights_stream_what_they_generate() -> None:
    """Real models too: pieces join to the batched answer."""
    drawn = lab.problems(6, seed=5)
    for model in lab.models().values():
        replies = model.generate([problem.prompt for problem in drawn])
        for problem, reply in zip(drawn, replies, strict=True):
            assert "".join(model.stream(problem.prompt)) == reply.text


def test_shipped_weights_score_the_same_in_torch() -> None:
    """Numpy and torch agree to 1e-4 on every shipped model."""
    torch = pytest.importorskip("torch")
    from turnout.lab import network

    for model in lab.models().values():
        weights = {key: torch.from_numpy(value) for key, value in model.weights.items()}
        for problem in lab.problems(8, seed=6):
            ids = model.tokens(problem.prompt)
            answer = model._answer([ids], 8)[0]
            row = np.array([ids + answer[:-1]])
            found = model.logits(row, np.array([len(ids)]), len(answer))[0]
            scored = torch.arange(len(ids) - 1, row.shape[1])
            expected = network.forward(
                weights, model.config, torch.from_numpy(row), torch.tensor([len(ids)]), scored
            )
            np.testing.assert_allclose(found, expected.numpy(), atol=1e-4)


def test_outcomes_are_ready_for_a_router() -> None:
    """The table and the pool name the same models; tasks are the groups."""
    seen: list[tuple[str, int]] = []
    table, pool = lab.outcomes(30, seed=9, progress=lambda name, count: seen.append((name, count)))
    assert table.names == pool.names == lab.names()
    assert (table.n, table.m) == (30, 4)
    assert set(table.group or ()) <= set(lab.TASKS)
    assert table.inputs[0] == lab.problems(30, seed=9)[0].prompt
    assert sum(count for _, count in seen) == 30 * 4
    assert pool.description is not None


def test_inference_needs_no_torch() -> None:
    """Importing and asking the laboratory never loads torch."""
    code = (
        "import sys, turnout.lab as lab; lab.ask(lab.problems(2, seed=0));"
        "sys.exit('torch' in sys.modules)"
    )
    assert run([sys.executable, "-c", code], check=False).returncode == 0


def test_unknown_models_and_damaged_files_are_refused() -> None:
    """Errors say what to do next."""
    with pytest.raises(InputError, match=r"^name must be a model of the pool; got 'huge'"):
        lab.load("huge")
    data = WEIGHTS.joinpath("pico.safetensors").read_bytes()
    for broken in (b"", b"\0" * 40, data[:-10]):
        with pytest.raises(DataError, match=r"^weights of pico must be a file the training wrote"):
            read("pico", broken)
    at = data.index(tokenizer.fingerprint().encode())
    with pytest.raises(DataError, match="use this vocabulary"):
        read("pico", data[:at] + b"0000000000000000" + data[at + 16 :])


def test_asking_nothing_or_nobody_is_refused() -> None:
    """There must be a problem and a model."""
    with pytest.raises(InputError, match=r"^asked must"):
        lab.ask([])
    with pytest.raises(InputError, match=r"^of must"):
        lab.ask(lab.problems(1, seed=0), [])
