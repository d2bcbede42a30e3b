"""`turnout graph`: traces, tables and logs, their questions, their files, mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from turnout.cli.graph import command
from turnout.core import InputError, Trace


def run(*arguments: str) -> None:
    command.main(args=list(arguments), prog_name="turnout graph", standalone_mode=False)


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """Tokens of two chains of experts, three layers."""
    experts = np.array([[[0], [1], [2]]] * 30 + [[[3], [2], [0]]] * 10)
    Trace(experts=experts, e=4, requests=[0, 30, 40]).save(tmp_path / "run.npz")
    return tmp_path / "run.npz"


def test_the_usual_questions(trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What there is is counted; load, ways, paths, devices and requests are told."""
    run(str(trace), "--devices", "2")
    out = capsys.readouterr().out
    assert "12 Expert" in out
    assert "expert:0:0 is chosen most; 6 of 12 never are" in out
    assert "0.0 1.1 2.2" in out
    assert "of transitions go to another device" in out
    assert "A request reaches 3.0 destinations on average" in out


def test_one_question_as_json(trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With --json - the answers alone go to standard output."""
    nodes = ("--node", "expert:0:3", "--to", "expert:2:0")
    run(str(trace), "-q", "path", *nodes, "--json", "-")
    record = json.loads(capsys.readouterr().out)
    assert record["answers"]["path"]["rows"] == [{"experts by layer": "0.3 1.2 2.0", "p": 1.0}]
    assert record["counts"]["NEXT"] == 4


def test_questions_are_listed(trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With what each is about."""
    run(str(trace), "--query", "list")
    assert "communities    about experts" in capsys.readouterr().out


def test_the_graph_is_written(trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The ending says how."""
    target = trace.with_suffix(".svg")
    run(str(trace), "-q", "hot-experts", "-o", str(target))
    assert "Wrote" in capsys.readouterr().out
    assert target.read_text().startswith("<svg")


def test_logs_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two logs of the same requests: which went elsewhere."""
    for name, models in (("a", "xy"), ("b", "xx")):
        rows = [{"id": f"tn-{i}", "key": "web", "model": m} for i, m in enumerate(models)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run(str(tmp_path / "a.jsonl"), "--against", str(tmp_path / "b.jsonl"))
    out = capsys.readouterr().out
    assert "1 of 2 requests changed" in out
    assert "model:y" in out


def test_a_table_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Models of a table of outcomes, and the cheapest that is good enough."""
    lines = ["prompt,model,quality,cost"]
    lines += [f"q{i},{m},{q},{c}" for i in range(3) for m, q, c in (("s", 0.5, 1), ("l", 1, 9))]
    (tmp_path / "log.csv").write_text("\n".join(lines))
    run(str(tmp_path / "log.csv"), "-q", "models", "--quality", "0.9")
    assert "model:l is the cheapest" in capsys.readouterr().out


def test_mistakes_are_one_error(trace: Path) -> None:
    """Questions and endings that are not there are named."""
    with pytest.raises(InputError, match="query must be one of"):
        run(str(trace), "-q", "hottest")
    with pytest.raises(InputError, match="--export must end in one of"):
        run(str(trace), "-o", str(trace.with_suffix(".png")))
