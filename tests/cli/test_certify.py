"""`turnout certify`: a promise from a table and a router file, or a refusal that says why."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import turnout
from turnout.cli import main
from turnout.core import Outcomes
from turnout.parts import store
from turnout.parts.guarantees.conformal import keep_quality, keep_up, limit_wrong
from turnout.parts.guarantees.heldout import HeldOut

NAMES = ("small", "large")


def rows(n: int, seed: int) -> Outcomes:
    """Sums are easy for the small one, proofs are not; the large one is right nine times in ten."""
    rng = np.random.default_rng(seed)
    hard = rng.random(n) < 0.5
    chance = np.column_stack([np.where(hard, 0.3, 0.9), np.full(n, 0.92)])
    kind = np.where(hard, "prove the lemma", "add the numbers")
    return Outcomes(
        inputs=[f"{word} {seed} {row}" for row, word in enumerate(kind)],
        names=NAMES,
        quality=(rng.random((n, 2)) < chance).astype(float),
        cost=np.tile([1.0, 9.0], (n, 1)),
    )


def write(path: Path, table: Outcomes, *, blank: tuple[int, int] | None = None) -> Path:
    """A table of one row an answer, as `turnout fit` reads it."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["prompt", "model", "quality", "cost"])
        for i, prompt in enumerate(table.inputs):
            for j, name in enumerate(table.names):
                if (i, j) != blank:
                    writer.writerow([prompt, name, table.quality[i, j], table.cost[i, j]])
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a training table, held-out rows and the router fitted on the former."""
    folder = tmp_path_factory.mktemp("certify")
    write(folder / "train.csv", rows(400, 0))
    write(folder / "held.csv", rows(400, 1))
    words = ["fit", str(folder / "train.csv"), "-m", "linear"]
    main([*words, "-o", str(folder / "router.turnout")])
    return folder


@pytest.fixture
def router(made: Path, tmp_path: Path) -> Path:
    """A copy of the router file, to write to."""
    copy = tmp_path / "router.turnout"
    copy.write_bytes((made / "router.turnout").read_bytes())
    return copy


def run(capsys: pytest.CaptureFixture[str], *words: str | Path) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of the command."""
    capsys.readouterr()
    code = 0
    try:
        main(["certify", *map(str, words)])
    except SystemExit as stop:
        code = int(stop.code or 0)
    out, err = capsys.readouterr()
    return code, " ".join(out.split()), err


def as_json(capsys: pytest.CaptureFixture[str], *words: str | Path) -> dict[str, Any]:
    capsys.readouterr()
    main(["certify", *map(str, words), "--json", "-"])
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def held_out(router: Path, table: Outcomes) -> HeldOut:
    """The rows with the router's predictions, by the parts themselves."""
    saved = store.load(router)
    quality, cost = saved.router.predict(table.inputs)  # type: ignore[attr-defined]
    return HeldOut(quality, cost, table.quality, table.cost)


@pytest.mark.parametrize(
    ("options", "promise"),
    [
        (["--quality", "0.8"], lambda held: keep_quality(held, floor=0.8, confidence=0.95)),
        (
            ["--quality", "0.8", "--confidence", "0.5"],
            lambda held: keep_quality(held, floor=0.8, confidence=0.5),
        ),
        (["--wrong-weak", "0.2"], lambda held: limit_wrong(held, strong=1, alpha=0.2)),
        (
            ["--wrong-weak", "0.2", "--confidence", "0.9", "--strong", "small"],
            lambda held: limit_wrong(held, strong=0, alpha=0.2, confidence=0.9),
        ),
        (["--margin", "0.1"], lambda held: keep_up(held, strong=1, margin=0.1, confidence=0.95)),
    ],
)
def test_the_promise_is_that_of_the_parts(
    made: Path, capsys: pytest.CaptureFixture[str], options: list[str], promise: Any
) -> None:
    """Same rows, same predictions, same guarantee; the best of the training table is strong."""
    found = as_json(capsys, made / "held.csv", "--router", made / "router.turnout", *options)
    want = promise(held_out(made / "router.turnout", rows(400, 1)))
    assert want.price is not None
    assert {key: found[key] for key in want.record()} == pytest.approx(want.record())
    assert found["strong"] == ("small" if "small" in options else "large")
    first = found["settings"][0]
    assert (first["setting"], first["price"]) == ("promised", want.price)
    assert first["cost"] == pytest.approx(want.cost)
    measured = {"quality": 1 - first["quality"], "wrong": first["wrong_weak"]}
    assert measured.get(want.kind, want.risk) == pytest.approx(want.risk)


def test_what_is_printed_says_what_holds_and_what_it_costs(
    made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The table beside single destinations, the sentence, the saving, the line for the gateway."""
    code, out, err = run(
        capsys, made / "held.csv", "--router", made / "router.turnout", "--quality", "0.8"
    )
    assert (code, err) == (0, "")
    for words in (
        "price mean cost quality wrong weak to strong",
        "price 0 0 ",
        "always small 1 ",
        "always large 9 0.",
        "Mean quality >= 0.8 on new requests like these, confidence 0.95, at any price up to",
        "% less than always large (9).",
        "is taken on trust; with --train TABLE it is looked up.",
        "certify again when traffic, models or router change",
        "[budget] price = 0.",
    ):
        assert words in out
    printed = float(out.split("[budget] price = ")[1])
    exact = as_json(
        capsys, made / "held.csv", "--router", made / "router.turnout", "--quality", "0.8"
    )["price"]
    assert exact * (1 - 1e-4) < printed <= exact, "rounded down: lower prices keep it, too"


def test_a_promise_can_be_stored_in_the_router_file(
    made: Path, router: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file holds what was promised beside all it held before, and routes as it did."""
    before = store.load(router)
    options = ["--wrong-weak", "0.2", "--write"]
    code, out, _ = run(capsys, made / "held.csv", "--router", router, *options)
    assert code == 0
    assert "Wrote the promise to" in out
    after = store.load(router)
    kept = dict(after.extra)
    promise = kept.pop("certified")
    assert kept == before.extra
    assert (after.method, after.fingerprint) == (before.method, before.fingerprint)
    assert promise["kind"] == "wrong"
    assert promise["data"] == "held.csv"
    assert promise["price"] > 0
    inputs = rows(20, 3).inputs
    for one, other in zip(
        before.router.predict(inputs),  # type: ignore[attr-defined]
        after.router.predict(inputs),  # type: ignore[attr-defined]
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


def test_what_cannot_be_promised_is_refused(
    made: Path, router: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit status 1, a reason, nothing written; with too few rows, how many would do."""
    before = router.read_bytes()
    code, out, _ = run(
        capsys, made / "held.csv", "--router", router, "--quality", "0.99", "--write"
    )
    assert code == 1
    assert "Nothing can be promised (mean quality >= 0.99, confidence 0.95)" in out
    assert "more rows would not help" in out
    assert router.read_bytes() == before
    few = write(made / "few.csv", rows(15, 2))
    code, out, _ = run(capsys, few, "--router", router, "--wrong-weak", "0.01")
    assert code == 1
    assert "Nothing can be promised (wrong answers from another than the strong one" in out
    assert "Send everything to large: then no wrong answer comes from another." in out
    assert out.split("wrong weak to strong")[1].startswith(" price 0")
    code, out, _ = run(capsys, few, "--router", router, "--margin", "0.1")
    assert code == 1
    assert "rows like these would have been needed" in out


def test_rows_of_the_training_table_are_left_out(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With --train repeats of its prompts are not counted; the promise is that of the others."""
    old, new = rows(400, 0), rows(400, 1)
    both = Outcomes(
        inputs=[*old.inputs[:100], *new.inputs],
        names=NAMES,
        quality=np.concatenate([old.quality[:100], new.quality]),
        cost=np.concatenate([old.cost[:100], new.cost]),
    )
    mixed = write(tmp_path / "mixed.csv", both)
    options = ["--router", made / "router.turnout", "--quality", "0.8"]
    found = as_json(capsys, mixed, *options, "--train", made / "train.csv")
    assert found["rows"] == 400
    assert found["rows_left_out"] == 100
    assert "100 rows repeat a training prompt and are left out" in found["notes"]
    assert found["price"] == as_json(capsys, made / "held.csv", *options)["price"]
    other = as_json(capsys, mixed, *options, "--train", made / "held.csv")
    assert "the table of --train is not the one that the router was fitted on" in other["notes"]


def test_rows_with_blanks_are_left_out(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was never seen is never made up: the row goes, and that is said."""
    gap = write(tmp_path / "gap.csv", rows(400, 1), blank=(7, 1))
    found = as_json(capsys, gap, "--router", made / "router.turnout", "--quality", "0.8")
    assert found["rows"] == 399
    assert any(note.startswith("1 rows have a blank and are left out") for note in found["notes"])


def test_repeated_prompts_are_spoken_of(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where more than one in a hundred repeats another, for they may not be independent."""
    once = rows(100, 1)
    twice = write(tmp_path / "twice.csv", once.take(np.arange(200) % 100))
    code, out, _ = run(capsys, twice, "--router", made / "router.turnout", "--quality", "0.7")
    assert code == 0
    assert "100 rows repeat a prompt: fine if requests do so, too" in out


def test_the_training_table_itself_is_refused(
    made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The router file knows what it was fitted on."""
    code, _, err = run(
        capsys, made / "train.csv", "--router", made / "router.turnout", "--quality", "0.8"
    )
    assert code == 2
    assert "the table must hold rows the router has not learnt from" in err
    copies = ["--train", made / "train.csv", "--quality", "0.8"]
    part = write(made / "part.csv", rows(400, 0).take(np.arange(50)))
    code, _, err = run(capsys, part, "--router", made / "router.turnout", *copies)
    assert code == 2
    assert "must hold new rows in which every destination has a quality and a cost" in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "must be given one of the three"),
        (["--quality", "0.8", "--margin", "0.1"], "must be given one of the three"),
        (["--quality", "1.8"], "floor must be a finite number in [0, 1]"),
        (["--quality", "0.8", "--confidence", "1"], "confidence must lie between 0 and 1"),
        (["--wrong-weak", "0.1", "--strong", "huge"], "--strong must be one of: small, large"),
        (["--quality", "0.8", "--json", "nowhere/f.json"], "--json must be in a folder"),
    ],
)
def test_wrong_options_are_refused(
    made: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    """Exit status 2 and one line."""
    code, _, err = run(capsys, made / "held.csv", "--router", made / "router.turnout", *options)
    assert code == 2
    assert message in err


def test_a_table_without_a_destination_is_refused(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The router knows a model that the rows do not."""
    only = rows(30, 1).select(["small"])
    other = Outcomes(
        inputs=only.inputs,
        names=("small", "medium"),
        quality=np.repeat(only.quality, 2, axis=1),
        cost=np.repeat(only.cost, 2, axis=1),
    )
    path = write(tmp_path / "other.csv", other)
    code, _, err = run(capsys, path, "--router", made / "router.turnout", "--quality", "0.8")
    assert code == 2
    assert "the table must hold 'large'; got 'no such column'" in err


def test_a_router_that_predicts_nothing_is_refused(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Random assignments have no price; and where the file names no best, --strong must."""
    from turnout.llms.random import Random

    table = rows(400, 0)
    path = tmp_path / "random.turnout"
    turnout.save(path, turnout.fit(Random(), table), table.pool())
    options = ["--quality", "0.8", "--router", path]
    code, _, err = run(capsys, made / "held.csv", *options)
    assert code == 2
    assert "--strong must be one of: small, large; got None" in err
    code, _, err = run(capsys, made / "held.csv", *options, "--strong", "large")
    assert code == 2
    assert "router must predict quality and cost" in err
