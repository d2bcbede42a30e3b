"""Processes with and without compiled code."""

from __future__ import annotations

from pathlib import Path

import pytest

from turnout.parts import native
from turnout.parts.native import _text


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that holds the kernel, or no test."""
    if native.compiler() is None:
        pytest.skip("no compiler: the text kernel was not built")
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TURNOUT_CACHE", str(folder))
        patch.delenv("TURNOUT_NATIVE", raising=False)
        assert _text.source().obtain() is not None
    return folder


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A process that has no kernel, and an empty cache."""
    monkeypatch.setattr(_text, "_STATE", {})
    monkeypatch.setenv("TURNOUT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("TURNOUT_NATIVE", raising=False)
    return tmp_path


@pytest.fixture
def kernel(fresh: Path, built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that has the kernel."""
    monkeypatch.setenv("TURNOUT_CACHE", str(built))
    assert _text.load() == ""
