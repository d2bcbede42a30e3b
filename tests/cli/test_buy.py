"""`turnout buy`: blank cells are put in order, kept within the spend, and written."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from turnout.cli.buy import command
from turnout.core.errors import TurnoutError


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Thirty prompts by two models: the first ten are seen, the others blank."""
    rng = np.random.default_rng(0)
    lines = ["prompt,model,quality,cost"]
    for i in range(30):
        for model, usd in (("small", 0.1), ("[bold]large", 0.4)):
            known = i < 10
            grade, paid = (str(int(rng.random() < 0.6)), str(usd)) if known else ("", "")
            lines.append(f"question {i} about rivers,{model},{grade},{paid}")
    path = tmp_path / "table.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def run(*words: object) -> tuple[str, str]:
    """Standard output and standard error of a command that succeeds."""
    done = CliRunner().invoke(command, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout, done.stderr


def fails(*words: object) -> str:
    with pytest.raises(TurnoutError) as caught:
        CliRunner().invoke(command, [str(word) for word in words], catch_exceptions=False)
    return str(caught.value)


def written(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_cells_are_printed_with_what_they_cost(data: Path) -> None:
    """A count a model, the first cells, and the sum, within the spend."""
    out, _ = run(data, "--spend", 20.0)
    assert out.count("[bold]large") >= 2
    assert out.count("question") == 12
    assert "... and 28 more: --output FILE writes them all." in out
    assert out.strip().splitlines()[-1] == "40 cells for an expected 10 of 20."
    few, _ = run(data, "--spend", 0.6)
    assert "more:" not in few


def test_csv_holds_all_cells_in_order(data: Path, tmp_path: Path) -> None:
    """To a file or to standard output, the same; only blank cells, at their expected cost."""
    path = tmp_path / "next.csv"
    run(data, "--spend", 3.0, "-o", path)
    out, _ = run(data, "--spend", 3.0, "-o", "-")
    assert path.read_text() == out
    rows = written(out)
    assert sum(float(row["cost"]) for row in rows) <= 3.0
    assert len({(row["prompt"], row["model"]) for row in rows}) == len(rows) > 5
    for row in rows:
        assert int(row["prompt"].split()[1]) >= 10
        assert float(row["cost"]) == pytest.approx({"small": 0.1, "[bold]large": 0.4}[row["model"]])
    fewer, _ = run(data, "--spend", 1.0, "-o", "-")
    assert out.startswith(fewer.rstrip("\n"))


def test_costs_in_the_table_are_taken(data: Path) -> None:
    """A blank cell whose cost is told costs that."""
    text = data.read_text().replace(
        "question 29 about rivers,small,,", "question 29 about,small,,7"
    )
    data.write_text(text)
    out, _ = run(data, "--spend", 100, "-o", "-")
    dear = [row for row in written(out) if row["prompt"] == "question 29 about"]
    assert {row["model"]: float(row["cost"]) for row in dear}["small"] == 7.0


def test_the_seed_decides(data: Path) -> None:
    """The same seed the same order; another another."""
    first, again, other = (run(data, "--spend", 2, "--seed", s, "-o", "-")[0] for s in (1, 1, 2))
    assert first == again != other


def test_too_little_buys_nothing(data: Path) -> None:
    """And says so."""
    out, _ = run(data, "--spend", 0.01)
    assert out == "0 cells for an expected 0 of 0.01.\n"


def test_mistakes_are_told(data: Path, tmp_path: Path) -> None:
    """A negative spend, several methods, a folder that is not there, costs never told."""
    assert "spend must be a finite number >= 0" in fails(data, "--spend", -1)
    assert "--method must name one method" in fails(data, "--spend", 1, "-m", "linear,knn")
    assert "--output must" in fails(data, "--spend", 1, "-o", tmp_path / "no" / "file.csv")
    text = data.read_text().replace(",0.4\n", ",\n")
    data.write_text(text)
    assert "cost of '[bold]large' must be known" in fails(data, "--spend", 1)
