"""Where tests find the real tables that are not part of the project."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["real_data"]


def real_data(name: str) -> Path:
    """Path of a real table in the folder `TURNOUT_DATA` names; the test is skipped without it.

    Parameters
    ----------
    name : str
        File name inside the folder.
    """
    import pytest

    folder = os.environ.get("TURNOUT_DATA")
    if not folder:
        pytest.skip("TURNOUT_DATA is not set: it names the folder of real tables")
    path = Path(folder) / name
    if not path.exists():
        pytest.skip(f"TURNOUT_DATA holds no {name}")
    return path
