"""Rules of the house that no linter knows."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "turnout"
MODULES = sorted(PACKAGE.rglob("*.py"))

#: Modules that only run, and export nothing.
NO_EXPORTS = {"__main__", "_version"}

#: Folders of modules that all define the same few names and are found by crawling.
CRAWLED = {"layouts"}

#: Longest file there may be; a method that needs more is two methods.
LINES, METHOD_LINES = 600, 400


def label(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def private(path: Path) -> bool:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return any(part.startswith("_") and part != "__init__" for part in parts)


@dataclass(frozen=True)
class Facts:
    """What the tests ask of a module; its tree, of many thousand objects, is let go."""

    exported: tuple[str, ...] | None
    defined: frozenset[str]
    bound: frozenset[str]
    lazy: bool
    documented: bool
    bare: tuple[str, ...]


@cache
def facts_of(path: Path) -> Facts:
    """A module read once, however many tests ask."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return Facts(
        exported=exported(tree),
        defined=frozenset(defined(tree)),
        bound=frozenset(bound(tree)),
        lazy=any(
            isinstance(node, ast.FunctionDef) and node.name == "__getattr__" for node in tree.body
        ),
        documented=bool(ast.get_docstring(tree)),
        bare=tuple(bare(tree)),
    )


def exported(tree: ast.Module) -> tuple[str, ...] | None:
    """What `__all__` holds, or None."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(
            isinstance(target, ast.Name) and target.id == "__all__" for target in node.targets
        ):
            return tuple(ast.literal_eval(node.value))
    return None


def defined(tree: ast.Module) -> set[str]:
    """Public classes and functions of a module."""
    kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    names = {node.name for node in tree.body if isinstance(node, kinds)}
    return {name for name in names if not name.startswith("_")}


def bound(tree: ast.Module) -> Iterator[str]:
    """Names that anything in the module binds."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from (alias.asname or alias.name for alias in node.names)
        elif isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


def bare(tree: ast.Module) -> Iterator[str]:
    """Public classes, functions and methods without a docstring."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
            if not ast.get_docstring(node):
                yield node.name
            for item in node.body if isinstance(node, ast.ClassDef) else []:
                if (
                    isinstance(item, ast.FunctionDef)
                    and not item.name.startswith("_")
                    and not ast.get_docstring(item)
                ):
                    yield f"{node.name}.{item.name}"


PUBLIC = [path for path in MODULES if not private(path)]
PUBLIC = [path for path in PUBLIC if path.parent.name not in CRAWLED or path.stem == "__init__"]
PLAIN = [path for path in PUBLIC if path.stem != "__init__" and path.stem not in NO_EXPORTS]


@pytest.mark.parametrize("path", PUBLIC, ids=label)
def test_exports_are_sorted_and_there(path: Path) -> None:
    """`__all__` holds each name once, in order, constants first; every name exists."""
    facts = facts_of(path)
    names = facts.exported
    if names is None:
        assert path.stem in {"__init__", *NO_EXPORTS}, "a public module must declare __all__"
        return
    assert len(set(names)) == len(names)
    submodules = (
        {child.stem for child in path.parent.iterdir()} if path.stem == "__init__" else set()
    )
    found = facts.bound | submodules
    assert facts.lazy or set(names) <= found, sorted(set(names) - found)
    kind = [(not name.isupper(), not name[:1].isupper(), name) for name in names]
    assert kind == sorted(kind) or list(names) == sorted(names), "sort __all__"


@pytest.mark.parametrize("path", PLAIN, ids=label)
def test_what_is_public_is_exported(path: Path) -> None:
    """A class or function is in `__all__`, or its name starts with "_"."""
    facts = facts_of(path)
    assert facts.defined - set(facts.exported or ()) == set()


@pytest.mark.parametrize("path", MODULES, ids=label)
def test_files_stay_short(path: Path) -> None:
    """A file that outgrows the limit is two things."""
    level, *rest = path.relative_to(PACKAGE).parts
    limit = METHOD_LINES if level in {"llms", "experts"} and len(rest) == 1 else LINES
    assert len(path.read_text(encoding="utf-8").splitlines()) <= limit


@pytest.mark.parametrize("path", PUBLIC, ids=label)
def test_everything_public_is_documented(path: Path) -> None:
    """Every public module, class, function and method has a docstring."""
    facts = facts_of(path)
    assert facts.documented, "the module has no docstring"
    assert facts.bare == ()


def loaded_by(statement: str) -> set[str]:
    """Names of the modules a fresh interpreter holds after a statement."""
    code = f"import sys\n{statement}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_turnout_is_light() -> None:
    """`import turnout` loads nothing heavy; not even numpy before a name is asked for."""
    loaded = loaded_by("import turnout")
    assert not {"torch", "pandas", "sklearn", "scipy", "matplotlib", "starlette"} & loaded


@pytest.mark.parametrize("package", ["core", "parts", "catalog", "testing", "cli", "llms"])
def test_packages_load_no_torch(package: str) -> None:
    """The light core works where torch is absent."""
    loaded = loaded_by(f"import turnout.{package}")
    assert not {"torch", "pandas", "matplotlib", "openai", "pytest"} & loaded


def test_the_contract_loads_no_torch() -> None:
    """Third parties can hold a numpy method to the contract without torch or pytest."""
    loaded = loaded_by("from turnout.testing import check, Case, planted, real_data")
    assert not {"torch", "pytest", "pandas"} & loaded


def test_no_document_has_drifted() -> None:
    """Everything generated from the code is as the code would generate it now."""
    script = ROOT / "tools" / "docs.py"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
