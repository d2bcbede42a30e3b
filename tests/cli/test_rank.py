"""`turnout rank`: the table, the sentences, the figures, and mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from turnout.cli.rank import command
from turnout.core import InputError


def run(*arguments: str) -> None:
    """The command as `turnout rank` calls it."""
    command.main(args=list(arguments), prog_name="turnout rank", standalone_mode=False)


@pytest.fixture
def scores(tmp_path: Path) -> Path:
    """Three systems; one task in thousands says the opposite of two others."""
    file = tmp_path / "scores.csv"
    file.write_text(
        "Model,acc,f1,points\ngood,0.9,0.8,1000\nfair,0.7,0.6,2000\npoor,0.1,0.2,9000\n"
    )
    return file


def test_rank_prints_the_order_and_what_it_is_worth(
    scores: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The leader by Borda, the mean's leader, and the task that matters most are named."""
    run(str(scores), "--resamples", "50")
    out = capsys.readouterr().out
    assert "3 systems, 3 tasks" in out
    rows = [line.split() for line in out.splitlines() if line.strip()[:1].isdigit()]
    assert [row[1] for row in rows[-3:]] == ["good", "fair", "poor"]
    assert "good leads by Borda's count" in out
    assert "its leader is poor" in out
    assert "the only such order" in out
    assert "No task moves the order more than" in out


def test_rank_writes_json(scores: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With --json - the figures alone go to standard output."""
    run(str(scores), "--lower", "points", "--resamples", "20", "--json", "-")
    captured = capsys.readouterr()
    record = json.loads(captured.out)
    assert record["order"] == [["good"], ["fair"], ["poor"]]
    assert record["lower"] == ["points"]
    assert record["kemeny"] == {"cost": 0.0, "unique": True}
    assert record["systems"][0] == {
        "system": "good",
        "place": 1.0,
        "points": 6.0,
        "place_low": 1.0,
        "place_high": 1.0,
        "first": 1.0,
        "kemeny_place": 1.0,
        "mean_place": 1.0,
    }
    assert "good leads" in captured.err


def test_long_tables_are_cut(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Twenty-five rows unless all are asked for."""
    file = tmp_path / "many.csv"
    file.write_text("Model,a,b\n" + "".join(f"m{i},{i},{i}\n" for i in range(30)))
    run(str(file), "--resamples", "5")
    out = capsys.readouterr().out
    assert "... and 5 more" in out
    run(str(file), "--resamples", "5", "--all")
    assert "more: --all" not in capsys.readouterr().out


def test_mistakes_are_one_error(scores: Path, tmp_path: Path) -> None:
    """An unknown column and a folder that is not there are named."""
    with pytest.raises(InputError, match="columns must be among acc, f1, points"):
        run(str(scores), "--columns", "bleu")
    with pytest.raises(InputError, match="--json must be in a folder that exists"):
        run(str(scores), "--json", str(tmp_path / "no" / "file.json"))
