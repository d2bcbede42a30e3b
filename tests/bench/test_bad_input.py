"""Each kind of damaged input: one clear error, or a correct result, and nothing half-written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from turnout.bench import read
from turnout.cli import main
from turnout.core import DataError

HEADER = "prompt,model,quality,cost\n"
GOOD = HEADER + "a,s,1,1\na,l,1,2\nb,s,0,1\nb,l,1,2\n"

#: What is wrong, the bytes, and what the one line must say.
REFUSED: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "hold data"),
    "only blanks": (b"\n\n \n", "hold data"),
    "only a header": (HEADER.encode(), "at least one row"),
    "all blank column": (
        (HEADER + "a,s,,1\na,l,1,2\nb,l,1,2\n").encode(),
        "'s'.*in at least one row",
    ),
    "quality above 1": ((HEADER + "a,s,1.5,1\na,l,1,2\n").encode(), "quality of 's', row 1.*1.5"),
    "quality in percent": ((HEADER + "a,s,55,1\na,l,70,2\n").encode(), "Divide"),
    "quality below 0": ((HEADER + "a,s,-1,1\na,l,1,2\n").encode(), "quality of 's'"),
    "quality infinite": ((HEADER + "a,s,inf,1\na,l,1,2\n").encode(), "quality of 's'"),
    "negative cost": ((HEADER + "a,s,1,-1\na,l,1,2\n").encode(), "cost of 's', row 1.*>= 0"),
    "a word for a number": ((HEADER + "a,s,good,1\n").encode(), "'quality', row 1.*'good'"),
    "no model name": ((HEADER + "a,,1,1\n").encode(), "name a model"),
    "a cell too many": ((HEADER + "a,s,1,1,9\n").encode(), "row 1 must have 4 cells"),
    "column named twice": (b"prompt,m,m\na,1,0\n", "each column once.*'m'"),
    "UTF-16 unmarked": (GOOD.encode("utf-16-le"), "byte order mark"),
    "UTF-16 cut off": (GOOD.encode("utf-16")[:-1], "whole UTF-16"),
    "open quote": (b'prompt,model,quality,cost\n"a,s,1,1\n', "must"),
}

#: Odd but right: the bytes, and the prompts they hold.
READ: dict[str, tuple[bytes, tuple[str, ...]]] = {
    "byte order mark": (GOOD.encode("utf-8-sig"), ("a", "b")),
    "UTF-16": (GOOD.encode("utf-16"), ("a", "b")),
    "stray Latin-1": (
        GOOD.replace("b,", "café €,").encode().replace("é".encode(), b"\xe9"),
        ("a", "caf\xe9 €"),
    ),
    "null bytes": (GOOD.replace("b,", "b\0c,").encode(), ("a", "b\0c")),
    "a megabyte": (GOOD.replace("b,", "x" * 2**20 + ",").encode(), ("a", "x" * 2**20)),
    "line ends of Windows": (GOOD.replace("\n", "\r\n").encode(), ("a", "b")),
    "semicolons": (GOOD.replace(",", ";").encode(), ("a", "b")),
    "words that look blank": (GOOD.replace("b,", "None,").encode(), ("a", "None")),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused_with_one_line_and_status_2(
    what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The reader raises, the commands print one line and write nothing."""
    content, message = REFUSED[what]
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read(path)
    for arguments in (
        ["bench", str(path), "-m", "knn", "--json", str(tmp_path / "out.json")],
        ["fit", str(path), "-m", "knn", "-o", str(tmp_path / "out.turnout")],
    ):
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        assert stopped.value.code == 2
        captured = capsys.readouterr()
        assert captured.err.startswith("error: ")
        assert captured.err.count("\n") == 1
        assert captured.out == ""
    assert [entry.name for entry in tmp_path.iterdir()] == ["t.csv"]


@pytest.mark.parametrize("what", READ)
def test_odd_but_right(what: str, tmp_path: Path) -> None:
    """The prompts and figures are those that were meant."""
    content, prompts = READ[what]
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    table = read(path)
    assert table.outcomes.inputs == prompts
    assert table.outcomes.quality.tolist() == [[1, 1], [0, 1]]
    assert table.outcomes.cost.tolist() == [[1, 2], [1, 2]]


def test_stray_bytes_are_reported(tmp_path: Path) -> None:
    """A repair is never silent."""
    path = tmp_path / "t.csv"
    path.write_bytes(READ["stray Latin-1"][0])
    assert any("2 bytes are not UTF-8" in line for line in read(path).report.lines())


def test_half_a_character_pair_is_replaced(tmp_path: Path) -> None:
    """JSON can name half of a pair, which no encoding can write; it is replaced and reported."""
    path = tmp_path / "t.jsonl"
    row = '{"prompt": "x\\ud800y", "model": "%s", "quality": 1, "cost": 1}\n'
    path.write_text(row % "s" + row % "l")
    table = read(path)
    assert table.outcomes.inputs == ("x\ufffdy",)
    assert any("U+FFFD" in line for line in table.report.lines())


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.json", "{", "valid JSON"),
        ("t.json", "[]", "at least one row"),
        ("t.json", "[3]", "objects"),
        ("t.jsonl", '{"prompt": 1}\n{"a"\n', "line 2.*valid JSON"),
        ("t.jsonl", '{"a": 1, "a": 2}\n', "line 1.*each field once"),
        ("t.parquet", "nonsense", "Parquet"),
        ("t.csv.gz", "\x1f\x8bnonsense", "readable"),
        ("t.xlsx", "x", "end in one of"),
        ("t.json", "[" * 100_000, "valid JSON"),
    ],
)
def test_other_formats_are_refused_by_name(
    tmp_path: Path, name: str, content: str, message: str
) -> None:
    """Damage is named with the file and, where there are lines, the line."""
    path = tmp_path / name
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(DataError, match=message):
        read(path)


def test_missing_file(tmp_path: Path) -> None:
    """A file that is not there is said not to be there."""
    with pytest.raises(DataError, match="exists"):
        read(tmp_path / "none.csv")


def _one_model(path: Path) -> None:
    path.write_text(HEADER + "".join(f"p{i},s,1,1\n" for i in range(20)))


def _one_row(path: Path) -> None:
    path.write_text(HEADER + "a,s,1,1\na,l,0,2\n")


def _one_prompt(path: Path) -> None:
    path.write_text(HEADER + "a,s,1,1\na,l,0,2\n" * 9)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_one_model, "two destinations"),
        (_one_row, "different prompts"),
        (_one_prompt, "different prompts"),
    ],
)
@pytest.mark.parametrize("verb", ["bench", "fit"])
def test_too_little_to_learn_from(
    make: Callable[[Path], None],
    message: str,
    verb: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One model, one row, one prompt: readable, but nothing to route or to hold out."""
    path = tmp_path / "t.csv"
    make(path)
    assert read(path).outcomes.n >= 1
    option = "--json" if verb == "bench" else "-o"
    with pytest.raises(SystemExit) as stopped:
        main([verb, str(path), "-m", "knn", option, str(tmp_path / "out")])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
    assert [entry.name for entry in tmp_path.iterdir()] == ["t.csv"]


def test_numpy_cells_of_json_are_numbers(tmp_path: Path) -> None:
    """NaN, null and a missing field all mean never seen."""
    rows = [
        {"prompt": "a", "model": "s", "quality": float("nan"), "cost": 1},
        {"prompt": "b", "model": "s", "quality": None, "cost": 1},
        {"prompt": "c", "model": "s", "cost": 1},
        {"prompt": "d", "model": "s", "quality": True, "cost": 1},
    ]
    path = tmp_path / "t.json"
    path.write_text(json.dumps(rows))
    np.testing.assert_array_equal(read(path).outcomes.quality[:, 0], [np.nan, np.nan, np.nan, 1])
