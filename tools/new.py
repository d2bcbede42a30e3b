"""Scaffold a method: `new.py LEVEL NAME` writes its file, its test case and its claim.

What it writes passes the style checks and fails the contract, which says what is left to do.
"""

from __future__ import annotations

import argparse
import datetime
import keyword
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

METHOD = '''\
"""ONE PLAIN SENTENCE: sends what to what, by what.

What it routes; the idea in a paragraph.

Equations, with the variable of each symbol::

    Q_j(x) = ...                                        quality (n, m)

Shapes, units. Differs from the paper: see `CARD.differs`. Cost: fit O(...), route O(...) an item.
End with one doctest whose last line is a number worked out by hand.
"""

from __future__ import annotations

from dataclasses import dataclass

from numpy.random import Generator

from turnout.core import Card, Inputs, Outcomes, Pool
from turnout.core._check import Float
from turnout.parts.costs import CostModel

__all__ = ["CARD", "Fitted{kind}", "{kind}"]

CARD = Card(
    name="{level}.{name}",
    system="{kind}",
    title="TITLE OF THE PUBLICATION",
    authors="AUTHORS",
    year={year},
    id="WHERE TO LOOK IT UP, SUCH AS arXiv:YYMM.NNNNN",
    routes="WHAT TO WHAT",
    kind="score",
    recipe="{kind}",
    signal=("outcomes",),
    covers=(),
    differs=(),
    properties=("learns", "price_monotone", "per_item", "reads_inputs"),
    knobs=(("price", "quality per unit of cost"),),
    cost="fit: O(...); route: O(...) an item",
)


@dataclass(frozen=True, eq=False)
class Fitted{kind}:
    """What {kind} learned.

    Parameters
    ----------
    names : tuple of str
        The m destinations.
    costs : CostModel
        What an answer is expected to cost.
    """

    names: tuple[str, ...]
    costs: CostModel

    def predict(self, inputs: Inputs) -> tuple[Float, Float]:
        """Expected quality (n, m) in [0, 1] and cost (n, m) >= 0."""
        raise NotImplementedError("{level}.{name}: write predict")


@dataclass(frozen=True)
class {kind}:
    """Recipe: hyper-parameters with the defaults of the publication, checked in __post_init__."""

    def fit(self, outcomes: Outcomes, pool: Pool, *, rng: Generator) -> Fitted{kind}:
        """Learn from a table; cells that are NaN were never seen and teach nothing."""
        raise NotImplementedError("{level}.{name}: write fit")
'''

TEST = '''\
"""{kind}: one value worked out by hand, and what is particular to it."""

from __future__ import annotations

import pytest

from turnout.{level}.{name} import {kind}
from turnout.testing import Case

CASE = Case({kind}())


def test_a_value_worked_out_by_hand() -> None:
    """SAY WHICH EQUATION, and show the arithmetic."""
    pytest.fail("{level}.{name}: write the hand-worked value")
'''

GATE = '''\
"""Sends a token to ONE PLAIN SENTENCE.

Routes tokens to feed-forward experts; the idea in a paragraph.

Equations, with the variable of each symbol::

    h_j = x . w_j                                   logits (t, e)
    S   = ...                                       experts (t, k)
    g_j = ...                                       weights (t, k)

Differs from the paper: see `CARD.differs`. Cost: ... multiplications a token.
End with one doctest whose last line is a number worked out by hand.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from turnout.core import Card
from turnout.nn.gates import Gate

__all__ = ["CARD", "{kind}"]

CARD = Card(
    name="{level}.{name}",
    system="{kind}",
    title="TITLE OF THE PUBLICATION",
    authors="AUTHORS",
    year={year},
    id="WHERE TO LOOK IT UP, SUCH AS arXiv:YYMM.NNNNN",
    routes="a token to feed-forward experts",
    kind="score",
    recipe="{kind}",
    signal=("gradient",),
    covers=(),
    differs=(),
    needs=("torch",),
    properties=("causal_safe", "per_sequence", "reads_states", "learns"),
    cost="... multiplications a token",
)


@dataclass(frozen=True)
class {kind}:
    """Recipe: hyper-parameters with the defaults of the publication, checked in __post_init__."""

    def build(self, d: int, e: int, *, generator: torch.Generator) -> Gate:
        """A gate for width d and e experts, put together from the parts of `turnout.nn.gates`."""
        raise NotImplementedError("{level}.{name}: write build")
'''

GATE_TEST = '''\
"""{kind}: one value worked out by hand, and what is particular to it."""

from __future__ import annotations

import pytest

from turnout.{level}.{name} import {kind}
from turnout.testing.gates import GateCase

CASE = GateCase({kind}())


def test_a_value_worked_out_by_hand() -> None:
    """SAY WHICH EQUATION, and show the arithmetic."""
    pytest.fail("{level}.{name}: write the hand-worked value")
'''

#: Levels whose methods are gates.
GATES = {"experts"}

CLAIM = """\
# Write the band before the first run, then: turnout claims run {level}.{name}
method = "{level}.{name}"
paper = "TITLE, YEAR, IDENTIFIER"
claim = "What the paper claims, in our words (section or table)."
small = "Our small version: task, size, what is compared with what."
data = "Where the data comes from."
seeds = [0, 1, 2]
measure = "gain"
direction = "higher"
band = [0.0, inf]
budget_seconds = 120
written = "{today}"
"""

RUN = '''\
"""The claim of {level}.{name} in small."""

from __future__ import annotations

from pathlib import Path


def run(seed: int, data: Path | None) -> dict[str, float]:
    """Measure it once."""
    raise NotImplementedError("{level}.{name}: write the claim")
'''


def scaffold(root: Path, level: str, name: str) -> list[Path]:
    """Write the files of a new method below a checkout; refuses to overwrite any."""
    if not (root / "src" / "turnout" / level / "__init__.py").is_file():
        sys.exit(f"LEVEL must be a package of turnout; got {level!r}. See src/turnout/.")
    if not name.isidentifier() or name != name.lower() or keyword.iskeyword(name):
        sys.exit(f"NAME must be a lower-case module name; got {name!r}. Such as my_method.")
    words = {
        "level": level,
        "name": name,
        "kind": "".join(part.capitalize() for part in name.split("_")),
        "today": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "year": str(datetime.datetime.now(datetime.UTC).year),
    }
    claim = root / "claims" / level / name
    method, test = (GATE, GATE_TEST) if level in GATES else (METHOD, TEST)
    texts = {
        root / "src" / "turnout" / level / f"{name}.py": method,
        root / "tests" / "methods" / level / f"test_{name}.py": test,
        claim / "claim.toml": CLAIM,
        claim / "run.py": RUN,
    }
    for path in texts:
        if path.exists():
            sys.exit(f"{path.relative_to(root)} is already there. Choose another name.")
    for path, text in texts.items():
        for key, value in words.items():
            text = text.replace("{" + key + "}", value)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return list(texts)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("level", metavar="LEVEL", help="package it lives in, such as llms")
    parser.add_argument("name", metavar="NAME", help="what the literature calls it: my_method")
    arguments = parser.parse_args()
    for path in scaffold(ROOT, arguments.level, arguments.name):
        print(f"wrote {path.relative_to(ROOT)}")
    wanted = "build" if arguments.level in GATES else "fit and predict"
    print(f"Next: fill in the card, write {wanted}, then: make contract")


if __name__ == "__main__":
    main()
