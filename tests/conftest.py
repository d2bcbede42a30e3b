"""Settings of the whole suite."""

from __future__ import annotations

import os

from hypothesis import settings

# The same examples every time where a run must not depend on luck; fresh ones at the desk.
settings.register_profile("ci", derandomize=True, deadline=None)
if os.environ.get("CI"):
    settings.load_profile("ci")
