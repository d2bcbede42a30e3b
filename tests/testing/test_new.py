"""The scaffold of a new method is tidy, is found, and fails until it is written."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from turnout.catalog import read_card
from turnout.testing.claims import load_claim

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("turnout_tools_new", ROOT / "tools" / "new.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout whose packages are empty."""
    for package in ("", "core", "llms", "parts", "testing"):
        folder = tmp_path / "src" / "turnout" / package
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "__init__.py").write_text('"""Empty."""\n')
    for module in ("core/_check.py", "parts/costs.py"):
        (tmp_path / "src" / "turnout" / module).write_text('"""Empty."""\n')
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_what_it_writes_is_found_and_read(tool: ModuleType, checkout: Path) -> None:
    """The card names the module it stands in, and the claim its folder."""
    method, test, claim, run = tool.scaffold(checkout, "llms", "my_method")
    card = read_card(method)
    assert card is not None
    assert card.name == "llms.my_method"
    assert card.recipe == "MyMethod"
    assert load_claim(claim.parent).method == "llms.my_method"
    assert test.is_file()
    assert run.is_file()


def test_what_it_writes_is_in_order(tool: ModuleType, checkout: Path) -> None:
    """It passes the style checks as it comes."""
    ruff = shutil.which("ruff") or shutil.which("ruff", path=str(Path(sys.executable).parent))
    if ruff is None:
        pytest.skip("ruff is not installed")
    tool.scaffold(checkout, "llms", "my_method")
    for command in (["check"], ["format", "--check"]):
        done = subprocess.run(
            [ruff, *command, "--no-cache", "."], cwd=checkout, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout


def test_it_fails_until_it_is_written(tool: ModuleType, checkout: Path) -> None:
    """Fitting the scaffold says what to write."""
    method = tool.scaffold(checkout, "llms", "my_method")[0]
    spec = importlib.util.spec_from_file_location("turnout_scaffold", method)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["turnout_scaffold"] = module
    spec.loader.exec_module(module)
    with pytest.raises(NotImplementedError, match="write fit"):
        module.MyMethod().fit(None, None, rng=None)


@pytest.mark.parametrize(
    ("level", "name", "message"),
    [
        ("nowhere", "my_method", "LEVEL must be a package"),  # no such level
        ("llms", "My-Method", "NAME must be"),  # no module name
        ("llms", "class", "NAME must be"),  # a keyword
    ],
)
def test_it_refuses(tool: ModuleType, checkout: Path, level: str, name: str, message: str) -> None:
    """A bad level or name is refused before anything is written."""
    with pytest.raises(SystemExit, match=message):
        tool.scaffold(checkout, level, name)


def test_it_overwrites_nothing(tool: ModuleType, checkout: Path) -> None:
    """A second call with the same name leaves the first one's files alone."""
    method = tool.scaffold(checkout, "llms", "my_method")[0]
    method.write_text("mine\n")
    with pytest.raises(SystemExit, match="already there"):
        tool.scaffold(checkout, "llms", "my_method")
    assert method.read_text() == "mine\n"
