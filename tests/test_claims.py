"""Every committed claim can be read, and every committed result is of the claim as it stands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from turnout import catalog
from turnout.catalog.claims import PACKAGED
from turnout.testing.claims import Claim, claims_in, load_claim, read_result
from turnout.testing.runs import verdict

ROOT = Path(__file__).parents[1] / "claims"
FOLDERS = sorted(path.parent for path in ROOT.glob("*/*/claim.toml"))
RESULTS = sorted(path.parent for path in ROOT.glob("*/*/result.json"))


def name(folder: Path) -> str:
    return f"{folder.parent.name}.{folder.name}"


@pytest.mark.parametrize("folder", FOLDERS, ids=name)
def test_a_claim_is_well_formed(folder: Path) -> None:
    """Its file names the method of its folder, a band, and what decides."""
    assert load_claim(folder).method == name(folder)


@pytest.mark.parametrize("folder", RESULTS, ids=name)
def test_a_result_is_of_the_claim_as_it_stands(folder: Path) -> None:
    """The band was not edited after the run: the recorded hash is that of `claim.toml`."""
    claim = load_claim(folder)
    record = read_result(claim)
    assert record is not None
    assert record["claim_sha256"] == claim.sha256, (
        "run it again: turnout claims run " + claim.method
    )


@pytest.mark.parametrize("folder", RESULTS, ids=name)
def test_a_result_says_what_its_figures_say(folder: Path) -> None:
    """Value, spread and status follow from the figures of the seeds; nothing was typed in."""
    claim: Claim = load_claim(folder)
    record = read_result(claim)
    assert record is not None
    assert tuple(row["seed"] for row in record["per_seed"]) == claim.seeds

    def mean(measure: str) -> float:
        return sum(row[measure] for row in record["per_seed"]) / len(record["per_seed"])

    assert record["value"] == pytest.approx(mean(claim.measure))
    met = []
    for further, item in zip(claim.also, record["also"], strict=True):
        assert item["value"] == pytest.approx(mean(further.measure))
        met.append(further.band[0] <= item["value"] <= further.band[1])
        assert item["met"] == met[-1]
    assert record["status"] == verdict(record["value"], claim.band, met)


def test_the_packaged_states_are_those_of_the_checkout() -> None:
    """An installed wheel tells the same states as the checkout it was built from."""
    packaged = json.loads(PACKAGED.read_text())
    states = {claim.method: catalog.claim_state(claim.method) for claim in claims_in(ROOT)}
    assert packaged == states
