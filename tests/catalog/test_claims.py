"""The state of a claim is what its result says, as long as the claim is the one measured."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from turnout.catalog.claims import state_in


def put(root: Path, *, status: str | None, edited: bool = False) -> None:
    folder = root / "llms" / "words"
    folder.mkdir(parents=True)
    claim = folder / "claim.toml"
    claim.write_text("band = [0.1, 0.2]\n")
    if status is not None:
        digest = hashlib.sha256(claim.read_bytes()).hexdigest()
        (folder / "result.json").write_text(json.dumps({"status": status, "claim_sha256": digest}))
    if edited:
        claim.write_text("band = [0.0, 1.0]\n")


@pytest.mark.parametrize("status", ["holds", "partly", "fails"])
def test_a_measured_claim_has_the_state_of_its_result(tmp_path: Path, status: str) -> None:
    """What the result says is published, a failure too."""
    put(tmp_path, status=status)
    assert state_in(tmp_path, "llms.words") == status


def test_a_claim_never_run_is_untested(tmp_path: Path) -> None:
    """Neither a claim without result nor a method without claim has been tested."""
    put(tmp_path, status=None)
    assert state_in(tmp_path, "llms.words") == "untested"
    assert state_in(tmp_path, "llms.other") == "untested"


def test_a_claim_edited_after_its_run_is_untested(tmp_path: Path) -> None:
    """A band moved after the measurement takes the result away."""
    put(tmp_path, status="holds", edited=True)
    assert state_in(tmp_path, "llms.words") == "untested"
