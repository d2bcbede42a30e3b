"""Claims: what is read, what is refused, what a run records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from turnout.catalog.claims import state_in
from turnout.cli import claims as cli
from turnout.core import ConfigError, InputError, TurnoutError
from turnout.testing.claims import claims_in, load_claim, read_result, select
from turnout.testing.runs import run_claim, verdict, write_result

TOML = """\
method = "llms.words"
paper = "A paper, 2024, arXiv:2401.00001"
claim = "Routing gains (table 1)."
small = "Ten rows."
data = "made here"
seeds = [0, 1, 2]
measure = "gain"
direction = "higher"
band = [0.5, inf]
budget_seconds = 60
written = "2026-11-22"

[[also]]
measure = "loss"
band = [0, 0.2]
text = "and loses little"
"""

RUN = "def run(seed, data):\n    return {'gain': 0.9 + 0.1 * seed, 'loss': 0.1, 'other': 5}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A claim that holds."""
    place = tmp_path / "llms" / "words"
    place.mkdir(parents=True)
    (place / "claim.toml").write_text(TOML)
    (place / "run.py").write_text(RUN)
    return place


def rewrite(folder: Path, old: str, new: str) -> None:
    text = (folder / "claim.toml").read_text()
    assert old in text
    (folder / "claim.toml").write_text(text.replace(old, new))


def test_a_run_records_mean_spread_and_every_seed(folder: Path) -> None:
    """Mean 1.0 and sample standard deviation 0.1 of 0.9, 1.0, 1.1."""
    result = run_claim(load_claim(folder))
    assert result["value"] == pytest.approx(1.0)
    assert result["spread"] == pytest.approx(0.1)
    assert [row["seed"] for row in result["per_seed"]] == [0, 1, 2]
    assert result["per_seed"][0]["other"] == 5
    assert result["status"] == "holds"
    assert result["also"][0]["met"]
    assert result["within_time"]
    assert {"hardware", "python", "packages", "commit", "date", "seconds"} <= set(result)


def test_a_result_is_json_that_any_reader_takes(folder: Path) -> None:
    """An open end of a band is written as text, as JSON has no infinity."""
    claim = load_claim(folder)
    write_result(claim, run_claim(claim))
    record = read_result(claim)
    assert record is not None
    assert record["band"] == [0.5, "inf"]
    assert state_in(folder.parents[1], "llms.words") == "holds"


@pytest.mark.parametrize(
    ("old", "new", "status"),
    [
        ("[0.5, inf]", "[0.5, inf]", "holds"),
        ("[0, 0.2]", "[0, 0.05]", "partly"),  # a further band missed
        ("[0.5, inf]", "[2.0, inf]", "fails"),  # the main band missed
        ("[0.5, inf]", "[0.5, 0.95]", "fails"),  # above its high end
    ],
)
def test_the_verdict_follows_the_bands(folder: Path, old: str, new: str, status: str) -> None:
    """All bands met: holds; the main one only: partly; else: fails."""
    rewrite(folder, old, new)
    assert run_claim(load_claim(folder))["status"] == status


@given(
    value=st.floats(-2, 2),
    band=st.tuples(st.floats(-1, 0), st.floats(0, 1)),
    also=st.lists(st.booleans(), max_size=3),
)
def test_a_missed_main_band_always_fails(
    value: float, band: tuple[float, float], also: list[bool]
) -> None:
    """No further measure can save a claim whose main measure is out of its band."""
    inside = band[0] <= value <= band[1]
    assert (verdict(value, band, also) == "fails") == (not inside)
    assert (verdict(value, band, also) == "holds") == (inside and all(also))


def test_an_edited_band_takes_the_result_away(folder: Path) -> None:
    """The state falls back to untested as soon as the claim differs from the one measured."""
    claim = load_claim(folder)
    write_result(claim, run_claim(claim))
    rewrite(folder, "[0.5, inf]", "[0.0, inf]")
    assert state_in(folder.parents[1], "llms.words") == "untested"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("measure = ", "mesure = ", "Did you mean measure"),  # misspelt key
        ('text = "and', 'txt = "and', "Did you mean text"),  # misspelt key of a further measure
        ("seeds = [0, 1, 2]\n", "", "seeds must be given"),  # missing key
        ("llms.words", "llms.other", "as its folder says"),  # another method
        ('"higher"', '"up"', "higher, lower, within"),  # unknown direction
        ("[0, 1, 2]", "[0, 0]", "different whole numbers"),  # a seed twice
        ("[0, 1, 2]", "[]", "one at least"),  # no seed
        ("[0.5, inf]", "[0.5]", "low, high"),  # no pair
        ("[0.5, inf]", "[1.0, 0.5]", "low <= high"),  # upside down
        ("[0.5, inf]", "[-inf, inf]", "one side at least"),  # a band nothing can miss
        ("[0.5, inf]", "[nan, 1]", "low <= high"),  # NaN
        ("= 60", "= 0", "seconds > 0"),  # no time
        ('"2026-11-22"', '"soon"', "be a date"),  # no date
        ('"Ten rows."', '" "', "non-empty text"),  # nothing said
        ("seeds = ", "seeds == ", "be TOML"),  # bad syntax
    ],
)
def test_a_claim_that_breaks_a_rule_is_refused(
    folder: Path, old: str, new: str, message: str
) -> None:
    """The refusal names the file, the key and the rule."""
    rewrite(folder, old, new)
    with pytest.raises(ConfigError, match=message) as caught:
        load_claim(folder)
    assert "claim.toml" in str(caught.value)


@pytest.mark.parametrize(
    ("run", "message"),
    [
        ("x = 1\n", "define run"),  # no function
        ("def run(seed, data):\n    return 3\n", "return a dict"),  # no dict
        ("def run(seed, data):\n    return {'gain': 1.0}\n", "return 'loss'"),  # one missing
        ("def run(seed, data):\n    return {'gain': float('nan'), 'loss': 0}\n", "be finite"),
    ],
)
def test_a_run_that_measures_nothing_is_refused(folder: Path, run: str, message: str) -> None:
    """What `run` returns must hold every measure the claim names, as finite numbers."""
    (folder / "run.py").write_text(run)
    with pytest.raises((ConfigError, InputError), match=message):
        run_claim(load_claim(folder))


def test_a_claim_that_needs_data_says_which_variable(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without its data a claim does not run, and says what to set."""
    rewrite(folder, "seeds =", 'needs = ["TURNOUT_DATA"]\nseeds =')
    monkeypatch.delenv("TURNOUT_DATA", raising=False)
    with pytest.raises(ConfigError, match="export TURNOUT_DATA"):
        run_claim(load_claim(folder))
    monkeypatch.setenv("TURNOUT_DATA", str(folder))
    assert run_claim(load_claim(folder))["status"] == "holds"


def test_a_claim_that_needs_an_absent_extra_says_how_to_install_it(folder: Path) -> None:
    """Extras in `needs` are checked before the run."""
    rewrite(folder, "seeds =", 'needs = ["no_such_extra"]\nseeds =')
    with pytest.raises(TurnoutError, match="pip install"):
        run_claim(load_claim(folder))


def test_a_pattern_selects_claims(folder: Path) -> None:
    """Shell patterns over `level.method`; one that matches nothing is refused."""
    root = folder.parents[1]
    assert [claim.method for claim in select(root, "llms.*")] == ["llms.words"]
    assert claims_in(root) == select(root, "*")
    with pytest.raises(ConfigError, match=r"Did you mean llms\.words"):
        select(root, "llms.word")


def invoke(*arguments: str) -> Any:
    return CliRunner().invoke(cli.command, list(arguments))


def test_the_command_runs_and_lists(folder: Path) -> None:
    """`run` writes the result, `list --json` shows it."""
    root = str(folder.parents[1])
    before = json.loads(invoke("list", "--json", "--dir", root).stdout)
    assert [row["state"] for row in before] == ["untested"]
    done = invoke("run", "llms.*", "--dir", root)
    assert done.exit_code == 0
    assert "holds" in done.stdout
    assert "and loses little" in done.stdout
    (row,) = json.loads(invoke("list", "--json", "--dir", root).stdout)
    assert row["state"] == "holds"
    assert row["value"] == pytest.approx(1.0)
    assert row["band"] == [0.5, "inf"]


def test_a_claim_that_fails_is_published_not_an_error(folder: Path) -> None:
    """A missed band gives the state "fails" and exit status 0."""
    rewrite(folder, "[0.5, inf]", "[2.0, inf]")
    done = invoke("run", "llms.words", "--json", "--dir", str(folder.parents[1]))
    assert done.exit_code == 0
    assert json.loads(done.stdout)[0]["state"] == "fails"
    assert json.loads((folder / "result.json").read_text())["status"] == "fails"


def test_a_claim_that_breaks_gives_exit_status_two(folder: Path) -> None:
    """An exception in `run` is shown, no result is written, and the status says so."""
    (folder / "run.py").write_text("def run(seed, data):\n    return 1 / 0\n")
    done = invoke("run", "llms.words", "--dir", str(folder.parents[1]))
    assert done.exit_code == 2
    assert "ZeroDivisionError" in done.stderr
    assert not (folder / "result.json").exists()


def test_the_folder_of_claims_is_found_upwards(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """From anywhere below the checkout; elsewhere the refusal says what to pass."""
    (tmp_path / "claims").mkdir()
    monkeypatch.chdir(folder)
    assert cli.find_claims(None) == tmp_path / "claims"
    with pytest.raises(ConfigError, match="--dir"):
        cli.find_claims(tmp_path / "absent")


def test_the_commands_have_help() -> None:
    """Every option of every command is explained."""
    for sub in cli.command.commands.values():
        assert sub.help
        assert all(option.help for option in sub.params if isinstance(option, click.Option))
