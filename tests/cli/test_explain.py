"""`turnout explain`: the figures, the reasons, and what in the prompt they come from."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import turnout
from turnout.cli import main
from turnout.core import Outcomes
from turnout.llms.clusters import Clusters
from turnout.llms.linear import Linear
from turnout.parts import store


@pytest.fixture(scope="module")
def routers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A router that can say why, and one that cannot."""
    table = Outcomes(
        inputs=["add two numbers now", "prove the theorem in full and show each step"] * 30,
        names=("a-model-with-a-rather-long-name-of-its-own", "large"),
        quality=np.array([[1.0, 1.0], [0.0, 1.0]] * 30),
        cost=np.array([[0.00001, 0.00009]] * 60),
    )
    folder = tmp_path_factory.mktemp("routers")
    made = {}
    for name, recipe in (("linear", Linear()), ("clusters", Clusters(c=2))):
        made[name] = folder / f"{name}.turnout"
        store.save(made[name], turnout.fit(recipe, table), table.pool(), method=f"llms.{name}")
    return made


def test_the_prompt_is_told_of_where_the_method_can(
    routers: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Chosen, by how much, what would change it, and which words; nothing is cut off."""
    main(["explain", "prove the theorem", "--router", str(routers["linear"]), "--price", "1000"])
    out = capsys.readouterr().out
    assert "…" not in out
    assert "e-05" not in out
    lines = out.splitlines()
    chosen = next(line for line in lines if line.startswith("large "))
    assert chosen.rstrip().endswith("<- chosen")
    assert "of quality ahead of a-model-with-a-rather-long-name-of-its-own, cost counted." in out
    assert "would save 0.00008 and lose" in out
    at = lines.index("What the prediction comes from:")
    assert "speak for large: they leave large as it is and lower a-model" in lines[at + 1]


def test_a_method_that_cannot_tell_says_nothing_of_the_prompt(
    routers: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """The figures and the reasons are there all the same."""
    main(["explain", "prove it", "--router", str(routers["clusters"])])
    out = capsys.readouterr().out
    assert "large" in out
    assert "comes from" not in out


def test_the_json_record_holds_the_sentences(
    routers: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Reasons on the choice, and because of what, apart; nothing else on standard output."""
    main(["explain", "theorem", "--router", str(routers["linear"]), "--json", "-"])
    record = json.loads(capsys.readouterr().out)
    assert {"destination", "price", "reasons", "because", "candidates"} <= set(record)
    assert "'theorem'" in record["because"][0]
    main(["explain", "add two", "--router", str(routers["clusters"]), "--json", "-"])
    assert json.loads(capsys.readouterr().out)["because"] == []


def test_a_prompt_cannot_steer_the_terminal(
    routers: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Escape sequences and markup in a prompt are not repeated."""
    text = "prove\x1b[31m [bold]the[/bold] \x9b theorem"
    main(["explain", text, "--router", str(routers["linear"])])
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\x9b" not in out


def test_help_says_what_it_tells(capsys: pytest.CaptureFixture[str]) -> None:
    """The columns are explained where one looks."""
    main(["explain", "--help"])
    assert "Net of cost is quality - price x cost" in " ".join(capsys.readouterr().out.split())
