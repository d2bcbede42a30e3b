"""`turnout methods` prints the catalogue."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from turnout import catalog
from turnout.cli.methods import command
from turnout.core import InputError


def test_json_holds_every_method_with_the_documented_keys() -> None:
    """One object a method: name, system, paper, level, file, claim."""
    done = CliRunner().invoke(command, ["--json"])
    assert done.exit_code == 0
    rows = json.loads(done.stdout)
    assert [row["name"] for row in rows] == [entry.name for entry in catalog.methods()]
    assert all(list(row) == ["name", "system", "paper", "level", "file", "claim"] for row in rows)


def test_the_table_names_every_method_and_the_state_of_its_claim() -> None:
    """One line a method where nobody sees lines wrap, so that it can be searched."""
    lines = CliRunner().invoke(command, ["--level", "llms"]).stdout.splitlines()
    for entry in catalog.methods("llms"):
        (line,) = [line for line in lines if line.startswith(f"{entry.name} ")]
        assert entry.claim in line


def test_an_unknown_level_is_refused() -> None:
    """The refusal lists the levels there are."""
    with pytest.raises(InputError, match="llms"):
        CliRunner().invoke(command, ["--level", "lms"], catch_exceptions=False)
