"""`turnout similar`: groups, prompts learnt from and judged on, communities, mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from turnout.cli.similar import command
from turnout.core import DataError, InputError


def run(*arguments: str) -> None:
    command.main(args=list(arguments), prog_name="turnout similar", standalone_mode=False)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Two prompts that nearly repeat each other among ten that do not."""
    texts = [f"{word} is what this prompt is about and nothing else" for word in "abcdefghij"]
    texts[:2] = [
        "how long does it take to boil an egg until it is quite hard",
        "How long does it take to boil an egg until it is quite hard?",
    ]
    file = tmp_path / "log.jsonl"
    file.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts))
    return file


def test_groups_are_told(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """How many repeat, which rows, and how one of them reads."""
    run(str(log))
    out = capsys.readouterr().out
    assert "10 prompts, 10 of them different" in out
    assert "2 nearly repeat another, in 1 group: one of each kept, 10.0% would go" in out
    assert "1, 2" in out
    assert "how long does it take" in out


def test_what_is_judged_on_is_compared(
    log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Prompts of a test file that were learnt from are counted, and shown."""
    test = tmp_path / "test.jsonl"
    rows = ["how long does it take to boil an egg until it is quite hard!", "never seen before"]
    test.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in rows))
    run(str(log), "--test", str(test), "--json", "-")
    captured = capsys.readouterr()
    record = json.loads(captured.out)
    assert record["groups"] == [[0, 1]]
    assert [(one["row"], one["of"]) for one in record["test"]["repeats"]] == [(0, 0)]
    assert "1 of 2 prompts (50.0%) nearly repeat one learnt from, 0 to the letter" in captured.err
    assert "Figures on them flatter" in captured.err


def test_communities_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Their size, their words, and a prompt of each."""
    file = tmp_path / "log.csv"
    lines = [
        f"{a} {b} {c}"
        for words in ("rain wind cloud storm", "card bank money account")
        for a in words.split()
        for b in words.split()
        for c in words.split()
        if len({a, b, c}) == 3
    ]
    file.write_text("text\n" + "\n".join(lines) + "\n")
    run(str(file), "--communities")
    out = capsys.readouterr().out
    assert "2 communities of alike prompts hold 48 of them (100%)" in out
    assert "24" in out
    assert "rain" in out


def test_nothing_repeats(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A log of different prompts is said to be one."""
    file = tmp_path / "log.csv"
    file.write_text("text\none thing entirely\nanother matter altogether\n")
    run(str(file))
    assert "No two nearly repeat each other" in capsys.readouterr().out


def test_mistakes_are_one_error(log: Path, tmp_path: Path) -> None:
    """Files and columns that are not there are named."""
    with pytest.raises(DataError, match="be a file that exists"):
        run(str(tmp_path / "none.csv"))
    with pytest.raises(InputError, match="column must be a column: prompt"):
        run(str(log), "--column", "text")
