"""The state of each method's claim: from the checkout's `claims/`, or as packaged in the wheel."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path

__all__ = ["PACKAGED", "STATES", "checkout", "claim_state", "state_in"]

#: What a claim can be: run and met, run and met in part, run and missed, or never run.
STATES = ("holds", "partly", "fails", "untested")

#: Generated from `claims/` so that an installed wheel knows the states too.
PACKAGED = Path(__file__).with_name("claims.json")


@cache
def checkout() -> Path | None:
    """The repository this package runs from, or None where it is installed as a wheel."""
    root = Path(__file__).resolve().parents[3]
    return root if (root / "claims").is_dir() and (root / "pyproject.toml").is_file() else None


def claim_state(name: str) -> str:
    """State of the claim of one catalogue name, one of `STATES`."""
    root = checkout()
    if root is not None:
        return state_in(root / "claims", name)
    return _packaged().get(name, "untested")


def state_in(claims: Path, name: str) -> str:
    """State of one claim in a folder of claims.

    A result counts only for the very `claim.toml` it was measured against: once that file is
    edited the claim is untested until it is run again.
    """
    folder = claims.joinpath(*name.split("."))
    claim, result = folder / "claim.toml", folder / "result.json"
    if not claim.is_file() or not result.is_file():
        return "untested"
    record = json.loads(result.read_text(encoding="utf-8"))
    same = record.get("claim_sha256") == hashlib.sha256(claim.read_bytes()).hexdigest()
    status = record.get("status")
    return status if same and status in STATES else "untested"


@cache
def _packaged() -> dict[str, str]:
    if not PACKAGED.is_file():
        return {}
    states: dict[str, str] = json.loads(PACKAGED.read_text(encoding="utf-8"))
    return states
