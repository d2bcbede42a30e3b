from __future__ import annotations

import io
import math
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from turnout.bench import evaluate, output, show
from turnout.bench.fitting import budgets, fit_and_measure, price_points
from turnout.bench.results import Evaluation
from turnout.core import Frontier, InputError


@pytest.fixture(scope="module")
def found(kit: SimpleNamespace) -> Evaluation:
    """A method that knows everything beside a coin."""
    table = kit.two_models(80)
    truth = {str(t): tuple(row) for t, row in zip(table.inputs, table.quality, strict=True)}
    methods = {"coin": kit.Coin(), "known": kit.Known(truth, (1.0, 5.0))}
    return evaluate(table, methods, folds=2, resamples=50)


def printed(what: object, width: int = 100) -> str:
    buffer = io.StringIO()
    Console(file=buffer, width=width).print(what)
    return buffer.getvalue()


def test_table_fits_a_hundred_columns(found: Evaluation) -> None:
    """No line is longer, nothing is cut off, landmarks stand first and the best method next."""
    lines = printed(show.table(found)).rstrip().splitlines()
    assert max(len(line.rstrip()) for line in lines) <= 100
    text = "\n".join(lines)
    assert "…" not in text
    order = ["random mixture", "cheapest", "best single", "zero-router hull"]
    order += ["prompt length alone", "group mean (sees label)", "oracle", "known", "coin"]
    starts = [next((name for name in order if line.startswith(name)), None) for line in lines]
    assert [name for name in starts if name] == order


@pytest.mark.parametrize("width", [50, 60, 70, 80, 90, 100, 140])
def test_a_narrow_table_has_fewer_columns_and_no_cut_figure(found: Evaluation, width: int) -> None:
    """What does not fit is left out whole and named; AIQ and cost to match stay."""
    lines = printed(show.table(found), width).rstrip().splitlines()
    text = "\n".join(lines)
    assert max(len(line.rstrip()) for line in lines) <= width
    assert "…" not in text
    assert "AIQ" in "".join(lines[:3])
    assert re.search(r"^oracle +0\.\d{3} ", text, re.MULTILINE)
    told = text.replace("\n", " ")
    for title in ("95 % interval", "APGR", "CPT50", "CPT80", "ECE", "µs p50/p99"):
        assert title in told
    assert ("A wider terminal also shows" in text) == (width < 100)


def test_headline_is_one_finding(kit: SimpleNamespace, found: Evaluation) -> None:
    """The saving of the best method; that there is none; that reading gains nothing."""
    assert re.fullmatch(
        r"known reaches the best single model's quality at \d+ % of its cost",
        show.headline(found),
    )
    table = kit.two_models(40)
    blind = kit.Known(dict.fromkeys(table.inputs, (0.9, 0.1)), (1.0, 5.0))
    poor = evaluate(table, {"blind": blind}, folds=2, resamples=10)
    assert show.headline(poor) == "No method is told apart from prompt length alone"
    none = evaluate(table, {}, folds=2, resamples=10)
    assert "before any method" in show.headline(none)
    never = tuple(replace(row, cost_to_match=math.nan) for row in found.rows)
    assert "known buys the most for its cost, but no method" in show.headline(
        replace(found, rows=never)
    )


def test_of_several_that_match_the_best_by_aiq_is_named(found: Evaluation) -> None:
    """Not the one that matches at the least cost: among many one does by luck."""
    cheap = found.row("coin")
    cheap = replace(cheap, cost_to_match=0.5)
    rows = tuple(cheap if row.method == "coin" else row for row in found.rows)
    said = show.conclusion(replace(found, rows=rows))[0]
    assert said.startswith("known matches")


def test_footer_says_how_it_was_judged(kit: SimpleNamespace, found: Evaluation) -> None:
    """Protocol, seed, rows, and every note."""
    assert "2 folds, out of fold, pooled, seed 0; 80 of 80 rows judged" in show.footer(found)
    noted = replace(found, notes=("3 of 9 rows have a blank",))
    assert "Note: 3 of 9 rows have a blank." in show.footer(noted)


def test_conclusion_says_what_is_saved_and_against_what(found: Evaluation) -> None:
    """The method, the best single destination, the share of its cost, and the trivial rules."""
    first, second = show.conclusion(found)
    assert first.startswith("known matches the best single destination (large, quality ")
    assert re.search(r"at \d+ % of its cost\.$", first)
    assert "prompt length alone" in second
    assert "the group mean (which sees the label)" in second


def test_conclusion_without_a_match_and_without_methods(kit: SimpleNamespace) -> None:
    """A method that never reaches the best single destination is said not to."""
    table = kit.two_models(40)
    small = kit.Known(dict.fromkeys(table.inputs, (0.9, 0.1)), (1.0, 5.0))
    found = evaluate(table, {"small": small}, folds=2, resamples=10)
    assert show.conclusion(found)[0].startswith("No method matches the best single destination")
    assert "landmarks alone" in show.conclusion(evaluate(table, {}, folds=2, resamples=10))[0]


def test_chart_draws_landmarks_methods_and_single_destinations(found: Evaluation) -> None:
    """Readable without colour: letters, digits and crosses, none beyond the width."""
    text = show.chart(found, width=70).plain
    body = text.split("+---")[0]
    for sign in ("l", "1", "2", "x"):
        assert sign in body
    assert max(map(len, body.splitlines())) <= 70
    assert "known" in text


def test_write_replaces_whole_or_not_at_all(tmp_path: Path) -> None:
    """An existing file stays when the new one cannot be made; nothing is left beside it."""
    path = tmp_path / "out.json"
    output.write_json("--json", path, [1])
    assert path.read_text() == "[\n  1\n]\n"
    with pytest.raises(ValueError, match="JSON"):
        output.write_json("--json", path, [float("nan")])
    assert path.read_text() == "[\n  1\n]\n"
    with pytest.raises(InputError, match="folder that exists"):
        output.check_folder("--json", tmp_path / "none" / "x.json")
    with pytest.raises(InputError, match="--json must be a file"):
        output.check_folder("--json", tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.json"]


def test_price_points_choose_the_setting_they_promise() -> None:
    """Each price lies strictly between its breakpoint and the next."""
    frontier = Frontier(
        np.array([1.0, 2.0, 3.0]), np.array([0.5, 0.8, 0.9]), np.array([np.inf, 0.3, 0.1])
    )
    points = price_points(frontier)
    assert [point["price"] for point in points] == pytest.approx([1.6, 0.2, 0.05])
    assert [point["cost"] for point in points] == [1, 2, 3]
    bare = Frontier(np.array([1.0]), np.array([0.5]))
    assert price_points(bare) == [{"price": None, "cost": 1.0, "quality": 0.5}]


def test_fit_and_measure_notes_what_a_gateway_needs(kit: SimpleNamespace) -> None:
    """Best single, range of costs, frontier by price; budgets rise with what they buy."""
    table = kit.two_models(40)
    truth = {str(t): tuple(row) for t, row in zip(table.inputs, table.quality, strict=True)}
    fitted = fit_and_measure("known", kit.Known(truth, (1.0, 5.0)), table, folds=2)
    assert fitted.extra["best_single"] == "large"
    assert fitted.extra["cost_range"] == [1.0, 5.0]
    assert [point["cost"] for point in fitted.extra["frontier"]] == sorted(
        point["cost"] for point in fitted.extra["frontier"]
    )
    assert fitted.evaluation is not None
    bought = budgets(fitted.evaluation, "known")
    assert bought[0][0] == pytest.approx(1.0)
    assert all(ours >= mixed - 1e-9 for _, ours, mixed in bought)
    assert [ours for _, ours, _ in bought] == sorted(ours for _, ours, _ in bought)
