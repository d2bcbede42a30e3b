"""Settings of the whole suite."""

from __future__ import annotations

import gc
import os

from hypothesis import settings

# Small tensors gain nothing from a second thread, and threads that wait for each other on a busy
# machine lose a great deal. Read by torch and numpy when they are first imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The same examples every time where a run must not depend on luck; fresh ones at the desk.
settings.register_profile("ci", derandomize=True, deadline=None)
if os.environ.get("CI"):
    settings.load_profile("ci")


def pytest_collection() -> None:
    """Collect tests without looking for garbage: next to all that is made then is kept."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Collect garbage again, but of what the tests make.

    The million objects of modules and test items live to the end; a full collection need not go
    through them.
    """
    gc.collect()
    gc.freeze()
    gc.enable()
