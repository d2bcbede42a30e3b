from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from turnout import load
from turnout.bench import contestants
from turnout.bench.results import KEYS
from turnout.cli import main
from turnout.core import Budget, Outcomes


def write_table(path: Path, table: Outcomes) -> Path:
    rows = [
        {"prompt": text, "model": name, "quality": table.quality[i, j], "cost": table.cost[i, j]}
        | {"group": "" if table.group is None else table.group[i]}
        for i, text in enumerate(table.inputs)
        for j, name in enumerate(table.names)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def data(kit: SimpleNamespace, tmp_path: Path) -> Path:
    return write_table(tmp_path / "logs.jsonl", kit.two_models(60))


def test_bench_prints_and_writes(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The table with every landmark, the sentences, the JSON and the page."""
    rows, page = tmp_path / "rows.json", tmp_path / "page.html"
    main(
        ["bench", str(data), "-m", "knn", "--folds", "3", "--json", str(rows), "--plot", str(page)]
    )
    out = capsys.readouterr().out
    for words in ("random mixture", "zero-router hull", "prompt length alone", "oracle", "knn"):
        assert words in out
    assert "60 rows, 2 models, 2 groups" in out
    assert "3 folds, out of fold, pooled, seed 0; 60 of 60 rows judged" in out
    records = json.loads(rows.read_text())
    assert all(tuple(record) == KEYS for record in records)
    assert records[-1]["method"] == "knn"
    assert page.read_text().startswith("<!doctype html>")


def test_bench_json_to_stdout_is_json_alone(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """So that it can be piped; what is for people goes to stderr."""
    main(["bench", str(data), "-m", "knn", "--folds", "2", "--json", "-"])
    captured = capsys.readouterr()
    assert len(json.loads(captured.out)) == 8
    assert "oracle" in captured.err


def test_bench_on_another_table_counts_repeats(
    kit: SimpleNamespace, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A test table that overlaps the training table is warned about, with the count."""
    held = write_table(tmp_path / "held.jsonl", kit.two_models(60).take(range(7)))
    main(["bench", str(data), "--test", str(held), "-m", "knn"])
    assert "7 of 7 test rows repeat a training prompt" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-m", "nonsense"], "in the catalogue"),
        (["-m", "knn", "--folds", "1"], "folds must"),
        (["-m", "knn", "--plot", "x.pdf"], "--plot must end in .png or .html"),
        (["-m", "knn", "--json", "nowhere/x.json"], "folder that exists"),
        (["-m", "knn", "--leave-groups-out", "--test", "x"], "--leave-groups-out"),
        (["-m", "knn", "--prices", "none.json"], "exists"),
    ],
)
def test_bench_refuses_wrong_options_before_the_work(
    data: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line, status 2, nothing on standard output but the report of the table at most."""
    with pytest.raises(SystemExit) as stopped:
        main(["bench", str(data), *arguments])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_fit_writes_a_router_that_routes_elsewhere(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file holds the router, its pool, its method, and what each price bought."""
    target, report = tmp_path / "r.turnout", tmp_path / "report.json"
    main(["fit", str(data), "-m", "knn", "-o", str(target), "--json", str(report)])
    assert "What a budget buys" in capsys.readouterr().out
    saved = load(target)
    assert saved.method == "llms.knn"
    assert saved.pool.names == ("small", "large")
    assert len(saved.fingerprint) == 64
    assert saved.extra["best_single"] == "large"
    assert saved.extra["frontier"][0]["cost"] == pytest.approx(1.0)
    routed = saved.router.route(["short one"], saved.pool, budget=Budget(), rng=None)  # type: ignore[arg-type]
    assert routed.index.shape == (1, 1)
    written = json.loads(report.read_text())
    assert written["bytes"] == target.stat().st_size
    assert written["method"] == "llms.knn"


def test_fit_leaves_no_file_and_no_change_when_it_fails(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An earlier router file survives a failed fit."""
    target = tmp_path / "r.turnout"
    target.write_bytes(b"an earlier one")
    with pytest.raises(SystemExit) as stopped:
        main(["fit", str(tmp_path / "none.csv"), "-m", "knn", "-o", str(target)])
    assert stopped.value.code == 2
    assert target.read_bytes() == b"an earlier one"
    with pytest.raises(SystemExit):
        main(["fit", str(data), "-m", "knn", "-o", str(tmp_path / "no" / "r.turnout")])
    assert "folder that exists" in capsys.readouterr().err
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["logs.jsonl", "r.turnout"]


def test_fit_of_a_log_of_single_choices_is_not_measured(
    kit: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One destination seen a row: enough to fit, too little to judge, and said so."""
    header = ["prompt", "model", "quality", "cost"]
    rows = [[f"p {i} words", "s" if i % 2 else "l", i % 3 / 2, 1 + i % 2] for i in range(40)]
    path = kit.write_csv(tmp_path / "log.csv", header, rows)
    main(["fit", str(path), "-m", "knn", "-o", str(tmp_path / "r.turnout")])
    assert "fitted, but not measured" in capsys.readouterr().out
    assert "frontier" not in load(tmp_path / "r.turnout").extra


def test_a_log_with_propensities_is_judged_by_estimates(
    kit: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One choice a row and how likely it was: figures, and a note of what they are."""
    header = ["prompt", "model", "quality", "cost", "propensity"]
    rows = [
        [f"{'hard' * (i % 3)} words {i}", "s" if i % 2 else "l", i % 4 / 3, 1 + i % 2, 0.5]
        for i in range(120)
    ]
    path = kit.write_csv(tmp_path / "log.csv", header, rows)
    page = tmp_path / "page.html"
    main(["bench", str(path), "-m", "length", "--folds", "3", "--plot", str(page)])
    out = capsys.readouterr().out
    assert "doubly robust estimates" in out
    assert "length" in out
    assert page.read_text().startswith("<!doctype html>")
    with pytest.raises(SystemExit):
        main(["bench", str(path), "-m", "length", "--test", str(path)])
    assert "propensities" in capsys.readouterr().err


def test_the_default_set_leaves_cascades_to_tables_with_answers(kit: SimpleNamespace) -> None:
    """What reads answers is named as left out where there are none, and runs where there are."""
    table = kit.two_models(20)
    chosen, left = contestants.default(table)
    assert {"linear", "knn"} <= set(chosen)
    assert "cascade" not in chosen
    assert ("cascade", "reads answers, and the table holds none") in left
    answers = np.full((20, 2), "yes", dtype=object)
    assert "cascade" in contestants.default(replace(table, answers=answers))[0]


def test_several_methods_by_commas_or_repeated() -> None:
    """Both ways of naming them give the same set, in the order named."""
    assert list(contestants.choose(["knn,ratings"])) == ["knn", "ratings"]
    assert list(contestants.choose(["knn", "ratings"])) == ["knn", "ratings"]
