"""`turnout trace`: the page, the pictures, the figures, conversion, and mistakes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from turnout.cli import main
from turnout.core import Trace


def make(seed: int = 0, e: int = 6, **more: Any) -> Trace:
    """120 tokens in three requests, two layers, two of e experts, skewed."""
    rng = np.random.default_rng(seed)
    scores = rng.gumbel(size=(2, 120, e)) + np.linspace(0, 2, e)
    trace = Trace.from_logits(scores, 2)
    fields: dict[str, Any] = {"requests": [0, 40, 80, 120], "tokens": rng.integers(0, 4, 120)}
    return Trace(experts=trace.experts, weights=trace.weights, e=e, **(fields | more))


@pytest.fixture
def trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A trace in a folder of its own, which is where the command runs."""
    monkeypatch.chdir(tmp_path)
    make().save("run.npz")
    return Path("run.npz")


def test_report_prints_and_writes_a_page(trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The summary here, one row a layer, and a page beside it under the trace's name."""
    main(["trace", "report", str(trace)])
    out = capsys.readouterr().out
    for words in ("120 tokens, 2 layers, 6 experts, 2 experts a token", "entropy", "max/mean"):
        assert words in out
    assert "is the least even" in out
    assert "Wrote run-report.html" in out
    text = Path("run-report.html").read_text()
    assert text.startswith("<!doctype html>")
    assert "<h1>run</h1>" in text
    assert "/" not in text.partition('<p class="source">')[2].partition("</p>")[0]


def test_report_with_everything_said(trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder gets the page; JSON, comparison and the text of tokens go together."""
    make(1).save("other.npz")
    Path("vocab.json").write_text(json.dumps({"the": 0, "Ġcat": 1}))
    options = ["--json", "rows.json", "--compare", "other.npz", "--vocab", "vocab.json"]
    main(["trace", "report", str(trace), "-o", "out", *options])
    assert "From run.npz to other.npz" in capsys.readouterr().out
    text = Path("out/report.html").read_text()
    assert "other.npz compared" in text
    assert "␣cat" in text
    one, two = json.loads(Path("rows.json").read_text())
    assert (one["name"], two["name"]) == ("run.npz", "other.npz")
    assert len(one["entropy"]) == 2
    assert one["srp"]["rows"][0]["window"] == 4


@pytest.mark.slow
def test_pictures_stand_beside_the_page(trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One PNG for each chart, those of the comparison too, named after the page."""
    pytest.importorskip("matplotlib")
    np.save("bare.npy", make().experts[:, :1, :1])
    main(["trace", "report", "bare.npy", "-o", "a.html", "--png", "--compare", "bare.npy"])
    names = {path.name for path in Path().glob("*.png")}
    assert {"a-load.png", "a-entropy.png", "a-compared-load.png"} <= names
    assert f"and {len(names)} pictures beside it" in capsys.readouterr().out
    assert all(Path(name).read_bytes().startswith(b"\x89PNG") for name in names)


def test_json_to_stdout_is_json_alone(trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """So that it can be piped; what is for people goes to stderr."""
    main(["trace", "show", str(trace), "--json", "-"])
    captured = capsys.readouterr()
    (row,) = json.loads(captured.out)
    assert row["tokens"] == 120
    assert "120 tokens" in captured.err
    assert [path.name for path in Path().iterdir()] == ["run.npz"]


def test_the_seed_is_all_there_is_of_chance(
    trace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Equal seeds give equal figures, others other intervals."""
    rows = []
    for seed in ("1", "1", "2"):
        main(["trace", "show", str(trace), "--json", "-", "--seed", seed])
        rows.append(json.loads(capsys.readouterr().out))
    assert rows[0] == rows[1]
    assert rows[0] != rows[2]


def test_report_on_statistics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Counts by expert make a section for each model."""
    monkeypatch.chdir(tmp_path)
    rows = [
        {"model": model, "domain": domain, "layer": layer, "top_k": 1, "counts": [90, 10 + layer]}
        for model in ("A", "B")
        for domain in ("arxiv", "code")
        for layer in (0, 7)
    ]
    Path("counts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    main(["trace", "report", "counts.jsonl", "-o", "page.html"])
    text = Path("page.html").read_text()
    assert "<h2>A</h2>" in text
    assert "<h2>B</h2>" in text
    assert "Layer 0 is the least even" in capsys.readouterr().out


def test_convert_from_arrays_to_rows(trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A bare array of expert numbers becomes a trace, with as many experts as said."""
    np.save("bare.npy", np.array([[[0, 1]], [[2, 1]]]))
    main(["trace", "convert", "bare.npy", "new.npz", "--experts", "8"])
    assert "2 tokens, 1 layers, 2 of 8 experts" in capsys.readouterr().out
    assert Trace.read("new.npz").e == 8


def test_convert_to_parquet_and_back(trace: Path) -> None:
    """Nothing is lost on the way."""
    pytest.importorskip("pyarrow")
    main(["trace", "convert", str(trace), "run.parquet"])
    main(["trace", "convert", "run.parquet", "again.npz"])
    one, two = Trace.read(trace), Trace.read("again.npz")
    assert (one.experts == two.experts).all()
    assert (one.weights == two.weights).all()
    assert (one.tokens == two.tokens).all()


def test_logits_need_their_k(trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Router logits do not tell how many experts a token takes; --top-k does."""
    np.savez("logits.npz", layer_0=np.random.default_rng(0).normal(size=(20, 5)))
    main(["trace", "show", "logits.npz", "--top-k", "2"])
    assert "20 tokens, 1 layer, 5 experts, 2 experts a token" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["trace", "show", "logits.npz"])
    assert "--top-k" in capsys.readouterr().err


MISTAKES = [
    (["report", "none.npz"], "must be a file that exists"),
    (["report", "garbage"], "Known are"),
    (["report", "empty.npz"], "must hold at least one token"),
    (["report", "masked.npz"], "that is not masked"),
    (["report", "wide.npy", "--experts", "2"], "must have k <= e = 2"),
    (["report", "run.npz", "-o", "page.pdf"], "--output must be a folder or end in .html"),
    (["report", "run.npz", "-o", "no/where/page.html"], "--output must be in a folder"),
    (["report", "run.npz", "--json", "no/rows.json"], "--json must be in a folder"),
    (["report", "run.npz", "--compare", "other.npz"], "have 6 experts in layers 0, 1"),
    (["report", "run.npz", "--compare", "deep.npz"], "have 6 experts in layers 0, 1"),
    (["report", "run.npz", "--compare", "counts.jsonl"], "--compare must name a trace"),
    (["report", "counts.jsonl", "--compare", "run.npz"], "--compare must compare two traces"),
    (["report", "run.npz", "--vocab", "garbage"], "must be valid JSON"),
    (["report", "run.npz", "--experts", "0"], "--experts"),
    (["convert", "run.npz", "run.csv"], "TARGET must end in .npz or .parquet"),
    (["convert", "run.npz", "no/run.npz"], "TARGET must be in a folder"),
    (["convert", "counts.jsonl", "new.npz"], "SOURCE must hold a trace"),
]


@pytest.mark.parametrize(("words", "message"), MISTAKES)
def test_mistakes_are_one_clear_error(
    trace: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Status 2, one message with a rule, no traceback, no file left behind."""
    Path("garbage").write_text("Once upon a time")
    blank = -np.ones((3, 1, 2), dtype=int)
    Trace(experts=blank[:0], e=4).save("empty.npz")
    Trace(experts=blank, e=4, mask=np.zeros(3, dtype=bool)).save("masked.npz")
    np.save("wide.npy", np.array([[[0, 1, 0]]]))
    make(e=7).save("other.npz")
    make(layers=[0, 2]).save("deep.npz")
    Path("counts.jsonl").write_text(json.dumps({"layer": 0, "counts": [1, 2]}))
    before = set(Path().iterdir())
    with pytest.raises(SystemExit) as stopped:
        main(["trace", *words])
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert message in said
    assert "Traceback" not in said
    assert set(Path().iterdir()) == before


def test_letters_alone_where_blocks_cannot_be_shown(trace: Path) -> None:
    """A terminal of plain ASCII gets the table without pictures, not an error."""
    code = "from turnout.cli import main; main(['trace', 'show', 'run.npz'])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={"PYTHONIOENCODING": "ascii", "PATH": ""},
    )
    assert done.returncode == 0, done.stderr
    assert "entropy" in done.stdout
    assert "busiest first" not in done.stdout
