"""`turnout join`: a new model joins a router file."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import turnout
from turnout.cli import main
from turnout.llms.linear import Linear
from turnout.parts import store
from turnout.parts.newcomer import Joined

N = 120


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A router of two models and the table it was fitted on, in a folder of their own."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    rows = []
    for i in range(N):
        easy = i % 2 == 0
        prompt = f"{'add the sums' if easy else 'sing a ballad'} of {i % 7} in line {i}"
        for model, cost, good in (("small", 0.1, (0.9, 0.2)), ("large", 1.0, (0.9, 0.8))):
            quality = float(rng.random() < good[0 if easy else 1])
            rows.append({"prompt": prompt, "model": model, "quality": quality, "cost": cost})
    write("table.csv", rows)
    table = turnout.read("table.csv").outcomes
    router = turnout.fit(Linear(), table)
    store.save(
        "router.turnout",
        router,
        table.pool(),
        fingerprint=table.fingerprint(),
        method="llms.linear",
        extra={"seed": 0, "aiq": 0.5, "frontier": [{"price": 1.0, "cost": 1.0, "quality": 1.0}]},
    )
    return tmp_path


def write(name: str, rows: list[dict[str, Any]]) -> None:
    with Path(name).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["prompt", "model", "quality", "cost"])
        writer.writeheader()
        writer.writerows(rows)


def read_rows() -> list[dict[str, Any]]:
    with Path("table.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def labels(count: int, quality: float = 1.0, cost: float = 0.4) -> list[dict[str, Any]]:
    prompts = list(dict.fromkeys(row["prompt"] for row in read_rows()))
    return [
        {"prompt": prompt, "model": "new", "quality": quality, "cost": cost}
        for prompt in prompts[:count]
    ]


def join(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    main(["join", "router.turnout", "table.csv", "--name", "new", "-o", "out.turnout", *words])
    return capsys.readouterr().out


def fails(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(["join", *words])
    assert stopped.value.code == 2
    assert not Path("out.turnout").exists()
    return capsys.readouterr().err


def loaded() -> Joined:
    predictor = turnout.load("out.turnout").router.predictor  # type: ignore[attr-defined]
    assert isinstance(predictor, Joined)
    return predictor


def test_from_the_price_alone(capsys: pytest.CaptureFixture[str]) -> None:
    """The file holds the old router and one model more, at its price, with a forecast."""
    said = join(capsys, "--price", "0.5")
    assert "new is told from its price and description." in said
    assert "fitted on 4 folds" in said
    saved = turnout.load("out.turnout")
    assert saved.router.names == saved.pool.names == ("small", "large", "new")
    assert saved.pool.usd_per_item == pytest.approx([0.1, 1.0, 0.5])
    assert saved.method == "llms.linear"
    assert saved.extra["measured"] == "forecast"
    assert saved.extra["joined"] == [{"name": "new", "labels": 0}]
    assert len(saved.extra["frontier"]) > 1
    assert "aiq" not in saved.extra
    before = turnout.load("router.turnout").router.predict(["add the sums"])
    after = saved.router.predict(["add the sums"])
    assert after[0][:, :2].tolist() == before[0].tolist()
    assert loaded().labels == 0


def test_labels_move_it(capsys: pytest.CaptureFixture[str]) -> None:
    """Labels in a table of their own, one of them of a prompt that nobody knows, count."""
    join(capsys, "--price", "0.5")
    first = loaded().predict_one("sing a ballad")[0][2]
    stranger = {"prompt": "a stranger", "model": "new", "quality": 1.0, "cost": 0.4}
    write("labels.csv", [*labels(60), stranger])
    said = join(capsys, "--price", "0.5", "--labels", "labels.csv")
    assert "labels of prompts that are not in table.csv: 1" in said
    assert "new is told from 61 labels." in said
    joined = loaded()
    assert joined.labels == 61
    assert joined.predict_one("sing a ballad")[0][2] > max(first, 0.8)
    assert joined.costs.predict(["x"])[0, 0] == pytest.approx(0.4, abs=0.005)


def test_labels_may_stand_in_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    """A column of the model's name in the table is its labels; the rest is still recognised."""
    write("table.csv", [*read_rows(), *labels(50, quality=0.0)])
    said = join(capsys, "--price", "0.5")
    assert "fitted on 4 folds" in said
    assert "new is told from 50 labels." in said
    assert loaded().predict_one("add the sums")[0][2] < 0.3


def test_the_report_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    """Every figure that is shown, alone on standard output."""
    write("labels.csv", labels(60))
    report = json.loads(join(capsys, "--labels", "labels.csv", "--price", "0.5", "--json", "-"))
    assert report["labels"] == 60
    assert report["quality_low"] < report["quality"] < report["quality_high"]
    assert [one["name"] for one in report["known"]] == ["small", "large"]
    assert report["file"] == "out.turnout"
    assert report["bytes"] == Path("out.turnout").stat().st_size


def test_prices_by_the_token(capsys: pytest.CaptureFixture[str]) -> None:
    """A prompt of 400 characters reads 100 tokens; 50 written as said."""
    words = ("--input-price", "1000", "--output-price", "2000", "--answer-tokens", "50")
    join(capsys, *words)
    assert loaded().costs.predict(["x" * 400])[0, 0] == pytest.approx(0.1 + 0.1)


def test_descriptions_place_it(capsys: pytest.CaptureFixture[str]) -> None:
    """Described as the strong one is, it is taken for stronger than described as the weak one."""
    guess = {}
    for like in ("small", "large"):
        texts = {"small": "tiny chatty toy", "large": {"feature": "careful expert reasoning"}}
        same = texts[like] if like == "small" else "careful expert reasoning"
        Path("texts.json").write_text(json.dumps(texts), encoding="utf-8")
        join(capsys, "--price", "0.3", "--descriptions", "texts.json", "--description", str(same))
        guess[like] = loaded().predict_one("sing a ballad")[0][2]
        saved = turnout.load("out.turnout").pool
        assert saved.description == ("tiny chatty toy", "careful expert reasoning", same)
    assert guess["small"] < guess["large"]


def test_one_after_another(capsys: pytest.CaptureFixture[str]) -> None:
    """What has joined can be joined by the next, whose file says who came."""
    write("table.csv", [*read_rows(), *labels(50)])
    join(capsys, "--price", "0.5")
    words = ["out.turnout", "table.csv", "--name", "newer", "--price", "0.7", "-o", "two.turnout"]
    main(["join", *words])
    assert "fitted on 4 folds" in capsys.readouterr().out
    saved = turnout.load("two.turnout")
    assert saved.router.names == ("small", "large", "new", "newer")
    assert [one["name"] for one in saved.extra["joined"]] == ["new", "newer"]


def test_folds_can_be_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    """With none, or a table the router was not fitted on, the router itself predicts."""
    assert "by the router itself" in join(capsys, "--price", "0.5", "--folds", "0")
    write("table.csv", read_rows()[:-2])
    assert "by the router itself" in join(capsys, "--price", "0.5")
    assert "fitted on 3 folds" in join(capsys, "--price", "0.5", "--folds", "3")


def test_what_has_joined_can_be_explained(capsys: pytest.CaptureFixture[str]) -> None:
    """`turnout explain` reads the file, and its forecast gives a budget its price."""
    write("labels.csv", labels(60))
    join(capsys, "--labels", "labels.csv", "--price", "0.5")
    main(["explain", "sing a ballad", "--router", "out.turnout", "--budget", "0.4"])
    heard = capsys.readouterr()
    assert "new" in heard.out
    assert heard.err == ""


FILES = ("router.turnout", "table.csv", "-o", "out.turnout")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((*FILES, "--name", "new"), "newcomer must have a price"),
        ((*FILES, "--name", "new", "--price", "-1"), "usd_per_item"),
        ((*FILES, "--name", "new", "--output-price", "-1"), "usd_per_output_token"),
        ((*FILES, "--name", "small", "--price", "1"), "none of the known destinations"),
        ((*FILES, "--name", " ", "--price", "1"), "must hold non-empty strings"),
        ((*FILES, "--price", "1"), "Missing option '--name'"),
        ((*FILES, "--name", "new", "--price", "1", "--answer-tokens", "-2"), "answer_tokens"),
        ((*FILES, "--name", "new", "--price", "1", "--folds", "1"), "folds must"),
        ((*FILES, "--name", "new", "--price", "1", "--labels", "none.csv"), "none.csv must"),
        ((*FILES, "--name", "new", "--price", "1", "--labels", "table.csv"), "hold a column 'new'"),
        ((*FILES, "--name", "new", "--price", "1", "--labels", "bad.csv"), "quality of 'new'"),
        ((*FILES, "--name", "new", "--price", "1", "--descriptions", "list.json"), "map each"),
        ((*FILES, "--name", "new", "--price", "1", "--descriptions", "odd.json"), "be a text"),
        ((*FILES, "--name", "new", "--price", "1", "--json", "no/x"), "--json must"),
        (("none.turnout", *FILES[1:], "--name", "new", "--price", "1"), "router file must exist"),
        (("plain.turnout", *FILES[1:], "--name", "new", "--price", "1"), "predict quality"),
        (
            ("unnamed.turnout", *FILES[1:], "--name", "new", "--price", "1", "--folds", "2"),
            "say by which method",
        ),
        (("router.turnout", "one.csv", *FILES[2:], "--name", "x", "--price", "1"), "'large'"),
    ],
)
def test_mistakes(capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str) -> None:
    """Each mistake is one clear message with exit status 2, and no file is written."""
    write("bad.csv", labels(3, quality=1.5))
    write("one.csv", [row for row in read_rows() if row["model"] == "small"])
    Path("list.json").write_text("[]", encoding="utf-8")
    Path("odd.json").write_text('{"small": 3}', encoding="utf-8")
    table = turnout.read("table.csv").outcomes
    from turnout.llms.random import Random

    store.save("plain.turnout", turnout.fit(Random(), table), table.pool())
    store.save("unnamed.turnout", turnout.load("router.turnout").router, table.pool())
    assert said in fails(capsys, *words)
