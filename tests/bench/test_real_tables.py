"""The real tables read as they are, with their gaps and oddities."""

from __future__ import annotations

import numpy as np
import pytest

from turnout.bench import evaluate, read
from turnout.testing import real_data


def test_routellm_table() -> None:
    """13,175 rows, 15 of them repeats, and a prompt length that is worth something."""
    table = read(real_data("routellm_gpt4_mixtral.csv.gz"))
    assert table.layout == "RouteLLM two models"
    assert (table.outcomes.n, table.outcomes.m, table.report.duplicates) == (13175, 2, 15)
    assert table.report.groups == 46
    assert table.outcomes.mean_cost().tolist() == [0, 1]
    found = evaluate(table.outcomes, {}, resamples=20)
    assert found.row("prompt_length").apgr == pytest.approx(0.59, abs=0.02)
    assert found.row("group_mean").apgr == pytest.approx(0.68, abs=0.02)
    assert found.row("oracle").apgr > 1


def test_routellm_answers() -> None:
    """Both full answers are kept, each with its model."""
    table = read(real_data("routellm_gsm8k_with_responses.csv.gz")).outcomes
    assert table.answers is not None
    assert table.answers[0, 0].startswith(" Janet starts")
    assert table.answers[0, 1].startswith("Janet uses 3 eggs")


def test_routerbench_copy() -> None:
    """92 blanks stay blank; costs are US dollars."""
    table = read(real_data("routerbench_0shot_arc_challenge_train.csv.gz"))
    assert table.layout == "RouterBench wide"
    assert (table.outcomes.n, table.outcomes.m) == (1039, 11)
    assert int((~table.outcomes.seen).sum()) == 92
    assert not str(table.outcomes.inputs[0]).startswith("[")
    gpt4 = table.outcomes.names.index("gpt-4-1106-preview")
    assert table.outcomes.mean_cost()[gpt4] == pytest.approx(0.0051, abs=1e-4)


def test_llmrouter_table_finds_its_prices() -> None:
    """Nine models, priced by the table that lies beside it."""
    table = read(real_data("llmrouter_9models.csv.gz"))
    assert table.layout == "scores and prices"
    assert (table.outcomes.n, table.outcomes.m, table.report.groups) == (5608, 9, 14)
    assert np.isfinite(table.outcomes.cost).all()
    assert table.report.duplicates == 0
