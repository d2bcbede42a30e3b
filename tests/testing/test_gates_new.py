"""The scaffold of a gate is tidy, is found, and fails until it is written."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from turnout.catalog import read_card

ROOT = Path(__file__).parents[2]


def _tool() -> ModuleType:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("turnout_tools_new_g", ROOT / "tools" / "new.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with a level of gates."""
    for package in ("", "core", "experts", "nn", "nn/gates", "testing", "testing/gates"):
        folder = tmp_path / "src" / "turnout" / package
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "__init__.py").write_text('"""Empty."""\n')
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_a_gate_is_scaffolded_as_a_gate(checkout: Path) -> None:
    """Its card says what gates say, its recipe builds, its case is a `GateCase`."""
    method, test, *_ = _tool().scaffold(checkout, "experts", "my_gate")
    card = read_card(method)
    assert card is not None
    assert (card.name, card.needs, card.signal) == ("experts.my_gate", ("torch",), ("gradient",))
    assert "def build(self, d: int, e: int, *, generator" in method.read_text()
    assert "CASE = GateCase(MyGate())" in test.read_text()


def test_what_it_writes_is_in_order(checkout: Path) -> None:
    """It passes the style checks as it comes."""
    ruff = shutil.which("ruff") or shutil.which("ruff", path=str(Path(sys.executable).parent))
    assert ruff is not None
    files = _tool().scaffold(checkout, "experts", "my_gate")
    python = [str(path) for path in files if path.suffix == ".py"]
    for command in (["check", "--no-cache"], ["format", "--no-cache", "--check"]):
        done = subprocess.run([ruff, *command, *python], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
